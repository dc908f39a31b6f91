"""What users of kubectl see of the resource: defaults, explain, columns, names, scale."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml
from cluster.controlplane import ControlPlane
from llmservice_api.spec import encode_spec, parse_spec


def create(plane: ControlPlane, namespace: str, **spec: Any) -> dict[str, Any]:
    """Make the LLMService `svc` and return it as the API server has it."""
    manifest = {
        "apiVersion": "llmservice.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": "svc"},
        "spec": {"model": {"uri": "file:///models/m"}, **spec},
    }
    said = plane.kubectl(
        "create", "-n", namespace, "-f", "-", "-o", "json", stdin=yaml.safe_dump(manifest)
    )
    return json.loads(said)


def test_defaults_of_the_server_are_those_of_the_types(plane: ControlPlane, namespace: str) -> None:
    live = create(plane, namespace)["spec"]
    assert live["queue"]["policy"] == "SSJF"
    assert live["engine"]["maxNumSeqs"] == 128
    assert encode_spec(parse_spec(live)) == encode_spec(
        parse_spec({"model": {"uri": "file:///models/m"}})
    )


def test_defaults_inside_optional_objects_are_set(plane: ControlPlane, namespace: str) -> None:
    live = create(plane, namespace, scaling={"maxReplicas": 2}, tracing={})["spec"]
    assert live["scaling"] == {
        "minReplicas": 1,
        "maxReplicas": 2,
        "targetBacklogSeconds": 30,
        "idleSeconds": 300,
    }
    assert live["tracing"]["sampler"] == "parentbased_traceidratio"
    assert "replicas" not in live


def test_status_is_not_written_through_the_spec(plane: ControlPlane, namespace: str) -> None:
    created = create(plane, namespace)
    created["status"] = {"url": "http://elsewhere"}
    plane.kubectl("replace", "-n", namespace, "-f", "-", stdin=json.dumps(created))
    assert "status" not in json.loads(
        plane.kubectl("get", "llmsvc", "svc", "-n", namespace, "-o", "json")
    )


def test_generation_moves_with_the_spec_only(plane: ControlPlane, namespace: str) -> None:
    first = create(plane, namespace)["metadata"]["generation"]
    plane.kubectl("label", "llmsvc", "svc", "team=a", "-n", namespace)
    plane.kubectl(
        "patch", "llmsvc", "svc", "-n", namespace, "--subresource=status", "--type=merge",
        "-p", '{"status": {"url": "http://svc"}}',
    )  # fmt: skip
    live = json.loads(plane.kubectl("get", "llmsvc", "svc", "-n", namespace, "-o", "json"))
    assert live["metadata"]["generation"] == first


def test_scale_reaches_the_spec(plane: ControlPlane, namespace: str) -> None:
    create(plane, namespace, replicas=1)
    plane.kubectl("scale", "llmsvc/svc", "--replicas=3", "-n", namespace)
    said = plane.kubectl("get", "llmsvc", "svc", "-n", namespace, "-o", "jsonpath={.spec.replicas}")
    assert said == "3"


def test_explain_of_the_queue_reads_like_documentation(plane: ControlPlane) -> None:
    said = plane.kubectl("explain", "llmservice.spec.queue")
    for field in ("policy", "tailWeightPercent", "maxQueuedRequests", "queueTimeoutSeconds"):
        assert field in said
    assert "<no description>" not in said
    assert "enum: ALISE, ASRHRRN" in said


def test_every_field_explains_itself(plane: ControlPlane) -> None:
    crd = json.loads(plane.kubectl("get", "crd", "llmservices.llmservice.dev", "-o", "json"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    unsaid = [path for path, field in fields(schema) if not field.get("description")]
    # `metadata` is described by Kubernetes itself.
    assert unsaid == ["metadata"]


def fields(schema: dict[str, Any], at: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every named field of a schema with its path."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, child in schema.get("properties", {}).items():
        path = f"{at}.{name}".lstrip(".")
        found += [(path, child), *fields(child, path), *fields(child.get("items", {}), f"{path}[]")]
    return found


@pytest.mark.parametrize("name", ["llmsvc", "llmservice", "llmservices", "inference"])
def test_resource_is_found_under_each_of_its_names(
    plane: ControlPlane, namespace: str, name: str
) -> None:
    create(plane, namespace)
    assert "svc" in plane.kubectl("get", name, "-n", namespace, "-o", "name")


def test_columns_tell_readiness_and_why(plane: ControlPlane, namespace: str) -> None:
    create(plane, namespace)
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "EngineLoading",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    plane.kubectl(
        "patch", "llmsvc", "svc", "-n", namespace, "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": {"readyReplicas": 0, "conditions": [condition]}}),
    )  # fmt: skip
    header, row = plane.kubectl("get", "llmsvc", "-n", namespace).splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "MODEL", "REPLICAS", "POLICY", "AGE"]
    assert row.split()[:6] == ["svc", "False", "EngineLoading", "file:///models/m", "0", "SSJF"]


def test_two_conditions_of_one_type_are_refused(plane: ControlPlane, namespace: str) -> None:
    create(plane, namespace)
    condition = {"type": "Ready", "status": "True", "reason": "A", "message": "",
                 "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    with pytest.raises(subprocess.CalledProcessError) as refused:
        plane.kubectl(
            "patch", "llmsvc", "svc", "-n", namespace, "--subresource=status", "--type=merge",
            "-p", json.dumps({"status": {"conditions": [condition, condition]}}),
        )  # fmt: skip
    assert "Duplicate value" in str(refused.value.stderr)
