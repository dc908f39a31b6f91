"""Objects against Kubernetes' schemas and the CRDs of tests/fixtures; unknown keys are refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import jsonschema
import kubernetes_validate  # pyright: ignore[reportMissingTypeStubs] - ships none
import yaml
from kubernetes_validate.utils import (  # pyright: ignore[reportMissingTypeStubs]
    schema_contents,
)
from referencing import Registry, Resource

Json = dict[str, Any]

ROOT: Final = Path(__file__).parents[2]
FIXTURES: Final = ROOT / "tests" / "fixtures" / "crds"
OLDEST: Final = "1.33"  # of the chart's kubeVersion


class _Validator(Protocol):
    def validate(self, instance: Json) -> None: ...


def validate(manifest: Json) -> None:
    """Raise ValidationError when an API server that knows the kind would refuse or prune it.

    What Kubernetes has itself is checked for the oldest version and for the newest that is known.
    """
    kind = (manifest["apiVersion"], manifest["kind"])
    if kind in custom_schemas():
        _custom(*kind).validate(manifest)
        return
    for version in (OLDEST, kubernetes_validate.latest_version()):
        _of_kubernetes(version, *kind).validate(manifest)


@cache
def _custom(api_version: str, kind: str) -> _Validator:
    return jsonschema.Draft202012Validator(custom_schemas()[api_version, kind])


@cache
def _of_kubernetes(version: str, api_version: str, kind: str) -> _Validator:
    """What `kubernetes_validate.validate(..., strict=True)` makes anew for every object."""
    group, _, name = api_version.rpartition("/")
    file = "-".join(part for part in (kind.lower(), group.partition(".")[0], name) if part)
    schema = _schema(version, f"{file}.json")
    registry: Registry[Any] = Resource.from_contents(schema) @ _definitions(version)
    return jsonschema.Draft202012Validator(schema, registry=registry)


@cache
def _definitions(version: str) -> Registry[Any]:
    empty: Registry[Any] = Registry()
    return Resource.from_contents(_schema(version, "_definitions.json")) @ empty


def _schema(version: str, name: str) -> Any:
    folder = f"v{'.'.join(version.split('.')[:2])}.0-local-strict"
    return schema_contents(f"kubernetes-json-schema/{folder}/{name}", version)


@cache
def custom_schemas() -> dict[tuple[str, str], Json]:
    """The strict schema of every served version of the fixtures' kinds, and of our own."""
    found: dict[tuple[str, str], Json] = {}
    for path in (*sorted(FIXTURES.glob("*.yaml")), ROOT / "crds" / "llmservice.yaml"):
        for document in yaml.load_all(path.read_bytes(), Loader=yaml.CSafeLoader):
            spec = document["spec"]
            for version in spec["versions"]:
                schema = _strict(version["schema"]["openAPIV3Schema"], top=True)
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def _strict(schema: Json, *, top: bool = False) -> Json:
    """The structural schema with every object closed, as the API server's strict mode reads it."""
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {
            key: value if top and key == "metadata" else _strict(value)
            for key, value in schema["properties"].items()
        }
        if top:
            closed["properties"] |= dict.fromkeys(("apiVersion", "kind", "metadata"), True)
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            closed["additionalProperties"] = False
    if "items" in schema:
        closed["items"] = _strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        closed["additionalProperties"] = _strict(schema["additionalProperties"])
    return closed
