"""Every rule of the CRD, on a real API server: a bad example is refused with the field's path."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.controlplane import ControlPlane
from integration.operator import crd_examples_doors, crd_examples_model, crd_examples_spec
from integration.operator.crd_examples import Bad, Json

CRD = Path(__file__).parents[3] / "crds" / "llmservice.yaml"
EXAMPLES = sorted((CRD.parents[1] / "examples").glob("*.yaml"))
SCHEMA: dict[str, Any] = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]


BAD = (*crd_examples_spec.BAD, *crd_examples_model.BAD, *crd_examples_doors.BAD)
GOOD = crd_examples_spec.GOOD | crd_examples_model.GOOD | crd_examples_doors.GOOD


def rules(schema: Json, at: str = "") -> Iterator[tuple[str, str]]:
    """Where every rule of the schema stands, and its message."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield at, rule["message"]
    for key, child in schema.get("properties", {}).items():
        yield from rules(child, f"{at}.{key}".lstrip("."))
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from rules(schema[key], f"{at}[]")


def manifest(spec: Json, *, name: str = "svc") -> str:
    body = {"model": {"uri": "file:///models/m"}, **spec}
    return yaml.safe_dump(
        {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": name},
            "spec": body,
        }
    )


def refusal(plane: ControlPlane, *arguments: str, stdin: str | None = None) -> str:
    """What the API server says to a command that it must refuse."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        plane.kubectl(*arguments, stdin=stdin)
    return str(refused.value.stderr)


def test_table_has_a_bad_example_of_every_rule() -> None:
    written = list(rules(SCHEMA["openAPIV3Schema"]))
    assert written
    missing = [
        (at, message)
        for at, message in written
        if not any(at == row.rule[0] and message.startswith(row.rule[1]) for row in BAD)
    ]
    assert not missing


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in BAD])
def test_bad_example_is_refused_by_its_rule(plane: ControlPlane, namespace: str, row: Bad) -> None:
    in_namespace = ("-n", namespace, "-f", "-")
    if row.before is not None:
        plane.kubectl("create", *in_namespace, stdin=manifest(row.before))
    verb = "create" if row.before is None else "replace"
    said = refusal(
        plane, verb, "--dry-run=server", *in_namespace, stdin=manifest(row.spec, name=row.name)
    )
    assert row.rule[1] in said
    assert row.names in said


@pytest.mark.parametrize("spec", [pytest.param(spec, id=told) for told, spec in GOOD.items()])
def test_good_example_is_accepted(plane: ControlPlane, spec: Json) -> None:
    plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=manifest(spec))


def test_unknown_field_is_refused_with_its_path(plane: ControlPlane) -> None:
    said = refusal(
        plane, "create", "--dry-run=server", "-f", "-", stdin=manifest({"queue": {"polcy": "SSJF"}})
    )
    assert "spec.queue.polcy" in said


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"engine": {"maxNumSeqs": 0}}, "spec.engine.maxNumSeqs"),
        ({"engine": {"maxNumSeqs": 4097}}, "spec.engine.maxNumSeqs"),
        ({"queue": {"policy": "Fastest"}}, "spec.queue.policy"),
        (
            {"queue": {"priorityLevels": [{"name": "a", "value": 1}, {"name": "a", "value": 2}]}},
            "spec.queue.priorityLevels[1]",
        ),
        (
            {"queue": {"priorityLevels": [{"name": "a b", "value": 1}]}},
            "spec.queue.priorityLevels[0].name",
        ),
        ({"predictor": {"mode": "On"}}, "spec.predictor.mode"),
        ({"replicas": -1}, "spec.replicas"),
        ({"model": {"name": "without a uri"}}, "spec.model.uri"),
        ({"scaling": {"minReplicas": 1}}, "spec.scaling.maxReplicas"),
        ({"tracing": {"samplerArg": "1.5"}}, "spec.tracing.samplerArg"),
        *crd_examples_doors.OUT_OF_BOUNDS,
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_value_out_of_bounds_is_refused_with_its_path(
    plane: ControlPlane, spec: Json, path: str
) -> None:
    said = refusal(plane, "create", "--dry-run=server", "-f", "-", stdin=manifest(spec))
    assert path in said


def test_scale_is_refused_where_scaling_decides(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("create", "-n", namespace, "-f", "-",
                  stdin=manifest({"scaling": {"maxReplicas": 3}}))  # fmt: skip
    said = refusal(plane, "scale", "llmsvc/svc", "--replicas=2", "-n", namespace)
    assert "spec.replicas and spec.scaling exclude each other" in said


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in EXAMPLES])
def test_example_is_accepted(plane: ControlPlane, path: Path) -> None:
    plane.kubectl("create", "--dry-run=server", "-f", str(path))


def test_there_are_examples() -> None:
    assert EXAMPLES
