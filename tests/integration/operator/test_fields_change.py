"""Every mutable field, changed on a live object, and what becomes of it on what the service owns.

A new field of the CRD fails the first test until it has a row in a table or is known as immutable.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster.controlplane import ControlPlane
from fakes.crd_schema import acceptable, fields, leaves, with_value
from fakes.live_operator import LiveOperator, eventually
from fakes.rest import Rest
from integration.operator import field_changes_live, field_changes_pod
from integration.operator.field_changes import Change, Json, Owned, at, laid_over

pytestmark = pytest.mark.slow

CHANGES = (*field_changes_pod.CHANGES, *field_changes_live.CHANGES)
DEFINITIONS = Path(__file__).parents[2] / "fixtures" / "crds"
OPTIONAL = ("httproutes", "grpcroutes", "inferencepools", "podmonitors")
# What cannot be changed, with a change that is tried, and what is said about it.
IMMUTABLE: dict[str, tuple[Json, Json, str]] = {
    "engine.device": (
        {"engine": {"device": "GPU"}}, {"engine": {"device": "CPU"}},
        "spec.engine.device is immutable",
    ),
    "parallelism.nodes": (
        {"parallelism": {"pipeline": 2, "nodes": 1}}, {"parallelism": {"nodes": 2}},
        "spec.parallelism.nodes is immutable",
    ),
    "model.cache.storageClassName": (
        {"model": {"uri": "hf://a/b", "cache": {"size": "1Gi", "storageClassName": "one"}}},
        {"model": {"cache": {"storageClassName": "two"}}},
        "storageClassName and accessModes of a claim that exists cannot be changed",
    ),
    "model.cache.accessModes": (
        {"model": {"uri": "hf://a/b", "cache": {"size": "1Gi"}}},
        {"model": {"cache": {"accessModes": ["ReadWriteOnce"]}}},
        "storageClassName and accessModes of a claim that exists cannot be changed",
    ),
}  # fmt: skip
# Has a test of its own below: it needs a claim that is bound.
APART = {"model.cache.size"}


@pytest.fixture(scope="module")
def rest(plane: ControlPlane) -> Generator[Rest]:
    """One connection for all."""
    connection = Rest(plane)
    yield connection
    connection.close()


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace in which every change has been made."""

    namespace: str
    before: list[Any]  # what was seen of each change before it was made
    templates: list[str]
    generations: list[int]


@pytest.fixture(scope="module")
def place(plane: ControlPlane, rest: Rest) -> Generator[Place]:
    """A running operator and a service for each change: as it was, then changed, all at once."""
    files = [word for name in OPTIONAL for word in ("-f", str(DEFINITIONS / f"{name}.yaml"))]
    plane.kubectl("apply", "--server-side", *files)
    plane.kubectl("wait", "--for=condition=Established", *files, "--timeout=30s")
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", namespace)
    for number, change in enumerate(CHANGES):
        create(rest, namespace, name_of(number), change.spec(change.old))
    operator = LiveOperator(plane, f"--namespace={namespace}")
    yield changed(rest, namespace)
    print(operator.log.read_text()[-20_000:])
    assert operator.stop() == 0
    assert "Traceback" not in operator.log.read_text()
    operator.log.unlink()
    plane.kubectl("delete", "namespace", namespace, "--wait=false")
    plane.kubectl("delete", *files)


def changed(rest: Rest, namespace: str) -> Place:
    """Wait until each service is as it should be before its change, then change all."""
    place = Place(namespace, [], [], [])
    for number, change in enumerate(CHANGES):
        owned = Owned(rest, namespace, name_of(number))
        with suppress(AssertionError):  # told by the change's own test
            eventually(lambda o=owned: bool(o.template), within_s=120)
            eventually(lambda c=change, o=owned: c.look(o) == c.seen[0], within_s=20)
        place.before.append(change.look(owned))
        place.templates.append(owned.template_hash)
    for number, change in enumerate(CHANGES):
        path = rest.path("llmservices", namespace, name_of(number))
        after = rest.must("PATCH", path, {"spec": change.spec(change.new)})
        place.generations.append(after["metadata"]["generation"])
    return place


def name_of(number: int) -> str:
    """The service of one change."""
    return f"field-{number}"


def create(rest: Rest, namespace: str, name: str, spec: Json) -> None:
    """A new LLMService."""
    manifest = {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": name},
        "spec": spec,
    }
    rest.must("POST", rest.path("llmservices", namespace), manifest, fieldValidation="Strict")


def test_every_field_of_the_crd_has_its_row() -> None:
    rows = [change.path for change in CHANGES]
    assert len(rows) == len(set(rows))
    assert sorted([*rows, *IMMUTABLE, *APART]) == sorted(leaves())


@pytest.mark.parametrize(
    ("number", "change"), list(enumerate(CHANGES)), ids=[change.path for change in CHANGES]
)
def test_a_change_is_seen_where_it_belongs(
    rest: Rest, place: Place, number: int, change: Change
) -> None:
    before, after = change.seen
    assert place.before[number] == before
    owned = Owned(rest, place.namespace, name_of(number))
    eventually(lambda: change.look(owned), until=lambda seen: seen == after, within_s=60)
    path = rest.path("llmservices", place.namespace, name_of(number))
    eventually(
        lambda: rest.must("GET", path)["status"]["observedGeneration"],
        until=lambda seen: seen == place.generations[number],
    )
    assert (owned.template_hash != place.templates[number]) == change.restarts


@pytest.mark.parametrize("path", list(IMMUTABLE))
def test_what_cannot_be_changed_is_refused(rest: Rest, namespace: str, path: str) -> None:
    before, change, said = IMMUTABLE[path]
    base = {"model": {"uri": "file:///models/m"}}
    create(rest, namespace, "svc", laid_over(base, before))
    place = rest.path("llmservices", namespace, "svc")
    answer = rest.call("PATCH", place, {"spec": change})
    assert answer.status == 422
    assert f"spec.{path}".rpartition(".")[0] in answer.message
    assert said in answer.message
    live = rest.must("GET", place)
    assert live["metadata"]["generation"] == 1


def test_every_field_that_is_no_leaf_can_be_taken_away(rest: Rest, namespace: str) -> None:
    # Removing an optional object is a change, too: the API server must not refuse it.
    parents = [
        field.path
        for field in fields()
        if field.schema.get("properties") and field.path != "model" and "[]" not in field.path
    ]
    spec: dict[str, Any] = {}
    for number, path in enumerate(parents):
        name = f"part-{number}"
        spec = with_value(path, acceptable(next(f for f in fields() if f.path == path)))
        create(rest, namespace, name, spec)
        gone: Json = {}
        here = gone
        *above, last = path.split(".")
        for step in above:
            here = here.setdefault(step, {})
        here[last] = None
        answer = rest.call("PATCH", rest.path("llmservices", namespace, name), {"spec": gone})
        needed = path in {"router.inferencePool.endpointPickerRef"} or "port" in path
        assert answer.ok or needed, f"{path}: {answer.message}"


def test_a_bound_claim_of_the_cache_grows(rest: Rest, place: Place) -> None:
    namespace = place.namespace
    storage = f"grows-{uuid.uuid4().hex[:8]}"
    volume: Json = {
        "metadata": {"name": storage},
        "spec": {
            "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteMany"],
            "storageClassName": storage, "hostPath": {"path": "/nowhere"},
        },
    }  # fmt: skip
    offered = {"metadata": {"name": storage}, "provisioner": "none", "allowVolumeExpansion": True}
    rest.must("POST", "/apis/storage.k8s.io/v1/storageclasses", offered)
    rest.must("POST", "/api/v1/persistentvolumes", volume)
    cache = {"size": "1Gi", "storageClassName": storage}
    create(
        rest, namespace, "grows", {"model": {"uri": "hf://a/b", "cache": cache}, "suspend": True}
    )
    claims = rest.path("persistentvolumeclaims", namespace, "grows-models")
    eventually(
        lambda: at(rest.call("GET", claims).body, "status", "phase"),
        until=lambda phase: phase == "Bound",
        within_s=60,
    )
    owned = Owned(rest, namespace, "grows")
    before = eventually(lambda: owned.template and owned.template_hash)
    service = rest.path("llmservices", namespace, "grows")
    rest.must("PATCH", service, {"spec": {"model": {"cache": {"size": "2Gi"}}}})
    eventually(
        lambda: rest.must("GET", claims)["spec"]["resources"]["requests"]["storage"],
        until=lambda size: size == "2Gi",
    )
    assert owned.template_hash == before
    refused = rest.call("PATCH", service, {"spec": {"model": {"cache": {"size": "1Gi"}}}})
    assert (refused.status, "must not shrink" in refused.message) == (422, True)
