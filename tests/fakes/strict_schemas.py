"""Objects against Kubernetes' schemas and the CRDs of tests/fixtures; unknown keys are refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import yaml

Json = dict[str, Any]

ROOT: Final = Path(__file__).parents[2]
FIXTURES: Final = ROOT / "tests" / "fixtures" / "crds"
OLDEST: Final = "1.33"  # of the chart's kubeVersion


def validate(manifest: Json) -> None:
    """Raise ValidationError when an API server that knows the kind would refuse or prune it.

    What Kubernetes has itself is checked for the oldest version and for the newest that is known.
    """
    kind = (manifest["apiVersion"], manifest["kind"])
    schema = custom_schemas().get(kind)
    if schema is not None:
        jsonschema.Draft202012Validator(schema).validate(manifest)
        return
    for version in (OLDEST, kubernetes_validate.latest_version()):
        kubernetes_validate.validate(manifest, version, strict=True)


@cache
def custom_schemas() -> dict[tuple[str, str], Json]:
    """The strict schema of every served version of the fixtures' kinds, and of our own."""
    found: dict[tuple[str, str], Json] = {}
    for path in (*sorted(FIXTURES.glob("*.yaml")), ROOT / "crds" / "llmservice.yaml"):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
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
