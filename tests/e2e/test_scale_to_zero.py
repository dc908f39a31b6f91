"""A service falls asleep and wakes under users who never stop: none of their requests is lost.

No KEDA is in this cluster: the test reads what KEDA would read, and scales as KEDA would.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest
from e2e.chart import RELEASE, Release
from e2e.kube import MANIFESTS, Kube, KubeError
from e2e.load import Outcome
from e2e.service import LiveService, cycle
from llmservice_api import __version__, names

SERVICE: Final = "sleepy"
HTTP_USERS: Final = 150
GRPC_USERS: Final = 50
AWAKE_AGAIN: Final = 600  # requests after the second waking
_IMAGE: Final = f"{names.IMAGE_REPOSITORY}/sidecar:{__version__}"
_PROGRAMS: Final = Path(__file__).parent / "programs"
_ASK: Final = (
    "import sys, urllib.error, urllib.request as r\n"
    "method, url = sys.argv[1:]\n"
    "q = r.Request(url, b'{}' if method == 'POST' else None, method=method)\n"
    "try: a = r.urlopen(q, timeout=10)\n"
    "except urllib.error.HTTPError as e: a = e\n"
    "print(a.status, a.read().decode())"
)
_REPORT: Final = (
    "import pathlib; p = pathlib.Path('/tmp/report.json')\n"
    "print(p.read_text() if p.exists() else '{}')"
)


@pytest.fixture(scope="module")
def activator(kube: Kube, release: Release) -> Generator[str]:
    """The activator, installed beside the operator; yields its Deployment."""
    name = f"deployment/{RELEASE}-activator"
    release.upgrade({"activator": {"enabled": True}})
    kube.run("-n", release.namespace, "rollout", "status", name, "--timeout=120s")
    yield name
    release.upgrade()


@pytest.fixture(scope="module")
def service(kube: Kube, namespace: str, activator: str) -> Generator[LiveService]:
    service = LiveService(kube, namespace, SERVICE)
    manifest = json.loads(cycle(SERVICE, scaling={"minReplicas": 0, "maxReplicas": 1}))
    del manifest["spec"]["replicas"]
    service.apply(json.dumps(manifest))
    service.wait_settled(1)
    yield service
    service.kubectl("delete", service.reference)


class Sleepers:
    """The pod with the users."""

    def __init__(self, service: LiveService) -> None:
        self._service = service

    def start(self) -> None:
        """Start it and wait for the first answers."""
        files = [f"--from-file={_PROGRAMS / name}" for name in ("load.py", "sleepers.py")]
        self._service.kubectl("create", "configmap", "sleepers", *files)
        manifest = (MANIFESTS / "sleepers.yaml").read_text(encoding="utf-8")
        for word, value in (
            ("SIDECAR_IMAGE", _IMAGE),
            ("SERVICE", SERVICE),
            ("NAMESPACE", self._service.namespace),
            ("HTTP_USERS", str(HTTP_USERS)),
            ("GRPC_USERS", str(GRPC_USERS)),
        ):
            manifest = manifest.replace(word, value)
        self._service.apply(manifest)
        self._service.kubectl("wait", "pod/sleepers", "--for=condition=Ready", "--timeout=90s")
        self.wait_for(1)

    def wait_for(self, completed: int) -> None:
        """Wait until so many requests are complete."""
        self._service.kube.wait_until(
            f"{completed} requests are complete",
            lambda: self.outcome()["completed"] >= completed,
            timeout_s=300,
            show=f"logs -n {self._service.namespace} sleepers --tail=30",
        )

    def outcome(self) -> Outcome:
        """The counts now."""
        told = json.loads(self.python(_REPORT))
        return Outcome(told.get("counts", {}), told.get("examples", []))

    def end(self) -> Outcome:
        """Let every user finish; the final counts."""
        self.python("import pathlib; pathlib.Path('/tmp/end').touch()")
        self._service.kube.wait_until(
            "every user has finished",
            lambda: self.outcome()["ended"] == 1,
            timeout_s=180,
            show=f"logs -n {self._service.namespace} sleepers --tail=30",
        )
        return self.outcome()

    def ask(self, method: str, path: str) -> tuple[int, str]:
        """Status and body of one request to the Service, beside what the users do."""
        url = f"http://{SERVICE}.{self._service.namespace}.svc:{names.PORT_HTTP}{path}"
        status, _, body = self.python(_ASK, method, url).strip().partition(" ")
        return int(status), body

    def python(self, program: str, *arguments: str) -> str:
        """Run a program in the pod; what it prints."""
        command = ("exec", "sleepers", "--", "python", "-c", program, *arguments)
        return self._service.kubectl(*command)

    def remove(self) -> None:
        """Remove the pod and its programs."""
        self._service.kubectl("delete", "pod/sleepers", "configmap/sleepers", "--ignore-not-found")


@pytest.fixture(scope="module")
def users(service: LiveService) -> Generator[Sleepers]:
    users = Sleepers(service)
    users.start()
    yield users
    users.remove()


def scale(service: LiveService, replicas: int) -> None:
    """As KEDA does."""
    service.kubectl("scale", f"deployment/{SERVICE}", f"--replicas={replicas}")


def backlog(kube: Kube, release: Release, namespace: str) -> dict[str, Any]:
    """What KEDA would read."""
    operator = f"/api/v1/namespaces/{release.namespace}/services/{RELEASE}:8081/proxy"
    query = f"/backlog?namespace={namespace}&name={SERVICE}"
    return json.loads(kube.run("get", f"--raw={operator}{query}"))


def held(kube: Kube, release: Release, namespace: str) -> int | None:
    """How many requests wait; None while the operator cannot tell."""
    try:
        return backlog(kube, release, namespace)["held_requests"]
    except KubeError as error:
        # 503: a replica is ready that has told nothing yet, or no operator leads.
        if "(ServiceUnavailable)" not in str(error):
            raise
        return None


def await_all_held(kube: Kube, release: Release, service: LiveService) -> None:
    """Wait until every user waits with one request, and KEDA would be told so."""
    kube.wait_until(
        "every user's request is held, and counted",
        lambda: held(kube, release, service.namespace) == HTTP_USERS + GRPC_USERS,
        timeout_s=120,
        show=f"describe -n {service.namespace} {service.reference} pods",
    )


def leads_to_activator(service: LiveService) -> bool:
    """Whether the Service has the activator among its endpoints."""
    name = f"endpointslice/{SERVICE}-activator"
    found = json.loads(service.kubectl("get", name, "-o", "json"))
    return bool(found.get("endpoints"))


def fall_asleep(kube: Kube, release: Release, service: LiveService) -> None:
    """Zero replicas; every user waits with one request."""
    scale(service, 0)
    await_all_held(kube, release, service)
    kube.wait_until("its pods are gone", lambda: service.pods() == [], timeout_s=120)
    assert leads_to_activator(service)


def wake(service: LiveService) -> None:
    """One replica, which is the Service's only endpoint in the end."""
    scale(service, 1)
    service.wait_settled(1)
    service.kube.wait_until(
        "the Service leads to the replica alone",
        lambda: not leads_to_activator(service),
        timeout_s=60,
    )


def test_requests_of_all_users_are_held_while_there_is_no_replica(
    kube: Kube, release: Release, service: LiveService, users: Sleepers
) -> None:
    fall_asleep(kube, release, service)
    told = backlog(kube, release, service.namespace)
    assert told["replicas"] == 0
    assert told["total_backlog_seconds"] > 0
    ready = service.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "ScaledToZero")


def test_probes_and_lists_let_it_sleep(users: Sleepers) -> None:
    assert users.ask("GET", "/health") == (200, "")
    status, body = users.ask("GET", "/v1/models")
    assert (status, json.loads(body)["data"][0]["id"]) == (200, SERVICE)
    status, body = users.ask("POST", "/tokenize")
    assert (status, json.loads(body)["error"]["code"]) == (503, "engine_down")


def test_held_requests_are_answered_by_the_first_replica(
    service: LiveService, users: Sleepers
) -> None:
    before = users.outcome()["completed"]
    wake(service)
    users.wait_for(before + HTTP_USERS + GRPC_USERS)


def test_an_activator_that_is_replaced_loses_nothing_that_it_holds(
    kube: Kube, release: Release, service: LiveService, users: Sleepers, activator: str
) -> None:
    fall_asleep(kube, release, service)
    before = users.outcome()["completed"]
    kube.run("-n", release.namespace, "rollout", "restart", activator)
    in_release = ("-n", release.namespace)
    kube.run(*in_release, "rollout", "status", activator, "--timeout=120s", timeout_s=150)
    # The former ones end when they hold nothing any more.
    await_all_held(kube, release, service)
    wake(service)
    users.wait_for(before + AWAKE_AGAIN)


def test_no_request_was_lost_in_all_of_this(users: Sleepers) -> None:
    outcome = users.end()
    print(f"\nsleepers: {json.dumps(outcome.counts)}\n" + "\n".join(outcome.examples))
    failed = {what: outcome[what] for what in ("lost", "truncated", "given up")}
    assert failed == {"lost": 0, "truncated": 0, "given up": 0}, "\n".join(outcome.examples)
    assert outcome["completed"] == outcome["requests"]
    for door in ("http", "grpc"):
        assert outcome[f"completed {door}"] == outcome[f"requests {door}"] > 0
