"""What is left when an operator dies, and what its successor makes of it."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from cluster.controlplane import ControlPlane
from fakes.live_operator import LiveOperator, View, eventually

BURST = 40


@contextmanager
def running(plane: ControlPlane, view: View, *arguments: str) -> Generator[LiveOperator]:
    """An operator for the test's namespace, ended at the end if it has not been before."""
    operator = LiveOperator(plane, f"--namespace={view.namespace}", *arguments)
    try:
        yield operator
    finally:
        print(operator.log.read_text()[-10_000:])
        if operator.ended() is None:
            operator.kill()
        operator.log.unlink()


def complete(view: View, count: int) -> bool:
    """Whether so many services have everything they own, once."""
    owned = view.list("deploy,svc,cm,sa,pdb", "-l", "llmservice.dev/name")
    return len(owned) == 6 * count


def judged(view: View, count: int) -> bool:
    """Whether so many services have a status."""
    return sum(bool(item.get("status")) for item in view.list("llmsvc")) == count


def test_killed_in_the_middle_of_a_burst_its_successor_completes_the_work(
    plane: ControlPlane, view: View
) -> None:
    names = [f"svc-{number:02}" for number in range(BURST)]
    with running(plane, view) as first:
        view.apply_all({name: {} for name in names})
        eventually(lambda: len(view.list("deploy")), until=lambda seen: seen >= 3)
        first.kill()
    # Most of the burst is left; were it not, the end would have to be the same.
    with running(plane, view) as second:
        eventually(lambda: complete(view, BURST), within_s=60)
        eventually(lambda: judged(view, BURST), within_s=30)
        assert second.stop() == 0
    assert {item["metadata"]["name"] for item in view.list("deploy")} == set(names)


def test_changes_made_while_no_operator_runs_are_caught_up(plane: ControlPlane, view: View) -> None:
    with running(plane, view):
        view.apply("kept")
        view.apply("gone")
        eventually(lambda: complete(view, 2))
    view.kubectl("delete", "llmsvc/gone")
    view.kubectl("delete", "svc/kept")
    view.patch("llmsvc/kept", {"spec": {"replicas": 4}})
    view.apply("new")
    with running(plane, view):
        eventually(lambda: view.exist("kept") and view.exist("new"), within_s=40)
        eventually(lambda: view.get("deploy/kept")["spec"]["replicas"], until=lambda n: n == 4)
        # And nothing of the one that went.
        eventually(lambda: complete(view, 2), within_s=40)


def test_successor_of_the_same_version_writes_nothing(plane: ControlPlane, view: View) -> None:
    names = ("a", "b")
    with running(plane, view) as first:
        view.apply_all({name: {} for name in names})
        eventually(lambda: complete(view, 2))
        settled(view, names)
        assert first.stop() == 0
    before = view.versions()
    with running(plane, view) as second:
        # Its first look is over when a new service, last in line, has got everything.
        view.apply("z")
        eventually(lambda: view.exist("z"))
        after = view.versions()
        assert second.stop() == 0
    assert {key: after[key] for key in before} == before


def test_idle_operator_writes_nothing(plane: ControlPlane, view: View) -> None:
    with running(plane, view):
        view.apply("a")
        eventually(lambda: complete(view, 1))
        settled(view, ("a",))
        before = view.versions()
        # An event of each of its objects makes it look again; the label is not its business.
        for target in ("llmsvc/a", "deploy/a", "svc/a", "cm/a-config"):
            view.kubectl("label", target, "looked-at=yes")
        labelled = {"LLMService/a", "Deployment/a", "Service/a", "ConfigMap/a-config"}
        view.apply("z")
        eventually(lambda: view.exist("z"))
        after = view.versions()
    same = before.keys() - labelled
    assert {key: after[key] for key in same} == {key: before[key] for key in same}


def test_operator_upgrade_restarts_nothing_until_it_is_asked_to(
    plane: ControlPlane, view: View
) -> None:
    with running(plane, view, "--sidecar-image=sidecar:old", "--engine-cpu-image=engine:old"):
        view.apply()
        eventually(view.exist)
        settled(view, ("svc",))
    old = view.get("deploy/svc")
    with running(plane, view, "--sidecar-image=sidecar:new", "--engine-cpu-image=engine:new"):
        view.patch("llmsvc/svc", {"spec": {"queue": {"policy": "FCFS"}, "replicas": 2}})
        eventually(lambda: view.get("deploy/svc")["spec"]["replicas"], until=lambda n: n == 2)
        assert view.get("deploy/svc")["spec"]["template"] == old["spec"]["template"]
        restarted = {"metadata": {"annotations": {"llmservice.dev/restartedAt": "now"}}}
        view.patch("llmsvc/svc", restarted)
        pod = eventually(
            lambda: view.get("deploy/svc")["spec"]["template"]["spec"],
            until=lambda pod: pod["containers"][0]["image"] == "engine:new",
        )
        assert pod["initContainers"][0]["image"] == "sidecar:new"


def test_operator_without_the_crd_says_so_and_waits_for_it(plane: ControlPlane, view: View) -> None:
    crd = plane.kubectl("get", "crd", "llmservices.llmservice.dev", "-o", "json")
    manifest = json.loads(crd)
    manifest["metadata"] = {"name": manifest["metadata"]["name"]}
    plane.kubectl("delete", "crd", "llmservices.llmservice.dev", "--timeout=30s")
    try:
        with running(plane, view) as operator:
            eventually(lambda: "install the CRD" in operator.log.read_text())
            plane.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
            plane.kubectl("wait", "--for=condition=Established",
                          "crd/llmservices.llmservice.dev", "--timeout=30s")  # fmt: skip
            view.apply()
            eventually(view.exist, within_s=40)
    finally:
        plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-",
                      stdin=json.dumps(manifest))  # fmt: skip


def settled(view: View, names: tuple[str, ...]) -> None:
    """Wait until the controllers have made the pods and the status tells so."""

    def told(name: str) -> bool:
        status = view.get(f"llmsvc/{name}").get("status", {})
        pods = view.list("pods", "-l", f"llmservice.dev/name={name}")
        return bool(pods) and status.get("replicas") == len(pods)

    for name in names:
        eventually(lambda name=name: told(name))
    pause = {"versions": view.versions()}

    def unchanged() -> bool:
        now = view.versions()
        same = now == pause["versions"]
        pause["versions"] = now
        return same

    # Two equal looks in a row: the Deployment's last status has been read.
    eventually(lambda: unchanged() and unchanged())


@pytest.mark.parametrize("namespaced", [True, False], ids=["in one namespace", "cluster-wide"])
def test_operator_ends_cleanly_when_told_to(
    plane: ControlPlane, view: View, namespaced: bool
) -> None:
    arguments = (f"--namespace={view.namespace}",) if namespaced else ()
    operator = LiveOperator(plane, *arguments)
    try:
        view.apply()
        eventually(view.exist)
        assert operator.stop() == 0
        assert "Traceback" not in operator.log.read_text()
    finally:
        if operator.ended() is None:
            operator.kill()
        operator.log.unlink()
