"""Every constraint of every field, on a real API server: refused, and the path is in the message.

The rules in CEL have examples of their own in test_crd_rules.py.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest
from cluster.controlplane import ControlPlane
from fakes.crd_schema import SPEC, Bad, Json, acceptable, bad_specs, fields, with_value
from fakes.rest import Answer, Rest

BAD = tuple(bad_specs())
HAND_WRITTEN = (
    Bad("no model", {}, "spec.model"),
    Bad("no spec at all", {"model": None}, "spec.model"),
    Bad("a field of another project", {"model": {"uri": "file:///m"}, "modelFormat": {}},
        "spec.modelFormat"),
    Bad("a field in another case", {"model": {"uri": "file:///m"}, "Replicas": 1},
        "spec.Replicas"),
    Bad("a number as text", {"model": {"uri": "file:///m"}, "replicas": "3"}, "spec.replicas"),
    Bad("a fraction of a replica", {"model": {"uri": "file:///m"}, "replicas": 1.5},
        "spec.replicas"),
    Bad("a list of models", {"model": [{"uri": "file:///m"}]}, "spec.model"),
    Bad("YAML's other word for true", {"model": {"uri": "file:///m"}, "suspend": "yes"},
        "spec.suspend"),
    Bad("the same variable twice",
        {"model": {"uri": "file:///m"}, "engine": {"env": [{"name": "A"}, {"name": "A"}]}},
        "spec.engine.env[1]"),
    Bad("the same extra argument twice",
        {"model": {"uri": "file:///m"}, "engine": {"allowedExtraArgs": ["a", "a"]}},
        "spec.engine.allowedExtraArgs[1]"),
    Bad("the same class twice",
        {"model": {"uri": "file:///m"}, "queue": {"priorityLevels": [
            {"name": "a", "value": 1}, {"name": "a", "value": 2}]}},
        "spec.queue.priorityLevels[1]"),
    Bad("a parameter that is no number",
        {"model": {"uri": "file:///m"},
         "queue": {"policy": "Random", "policyParameters": {"seed": "many"}}},
        "spec.queue.policyParameters.seed"),
    Bad("a parameter as a number, not as text",
        {"model": {"uri": "file:///m"},
         "queue": {"policy": "Random", "policyParameters": {"seed": 1}}},
        "spec.queue.policyParameters.seed"),
)  # fmt: skip


@pytest.fixture(scope="module")
def rest(plane: ControlPlane) -> Generator[Rest]:
    """One connection for all."""
    connection = Rest(plane)
    yield connection
    connection.close()


def tried(rest: Rest, namespace: str, spec: Json) -> Answer:
    """What the API server says to a new LLMService, of which nothing is kept."""
    manifest = {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": "svc"},
        "spec": spec,
    }
    path = rest.path("llmservices", namespace)
    return rest.call("POST", path, manifest, dryRun="All", fieldValidation="Strict")


def test_there_are_two_hundred_and_more() -> None:
    assert len(BAD) + len(HAND_WRITTEN) >= 200
    assert len({bad.what for bad in BAD}) == len(BAD)


def test_every_field_is_accepted_with_a_good_value(rest: Rest, namespace: str) -> None:
    # Else the refusals below could be about something else.
    refused = {
        field.path: answer.message
        for field in fields()
        if not (answer := tried(rest, namespace, with_value(field.path, acceptable(field)))).ok
    }
    assert refused == {}, "\n".join(refused.values())


def test_every_bad_value_is_refused_with_its_path(rest: Rest, namespace: str) -> None:
    wrong: dict[str, str] = {}
    for bad in (*BAD, *HAND_WRITTEN):
        answer = tried(rest, namespace, bad.spec)
        if answer.status not in {400, 422}:
            wrong[bad.what] = f"accepted with {answer.status}"
        elif bad.names not in answer.message:
            wrong[bad.what] = f"{bad.names} is not in: {answer.message}"
    print(f"{len(BAD) + len(HAND_WRITTEN)} bad manifests of {len(SPEC['properties'])} sections")
    assert wrong == {}, "\n".join(wrong.values())
