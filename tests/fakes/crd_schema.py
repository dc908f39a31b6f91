"""The CRD's schema, walked: its fields, an acceptable value for each, and what each must refuse."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

CRD = Path(__file__).parents[2] / "crds" / "llmservice.yaml"
SCHEMA: Json = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
SPEC: Json = SCHEMA["properties"]["spec"]

# Where a value cannot be made from type, bounds and enum alone.
EXAMPLES: dict[str, Any] = {
    "model.uri": "file:///models/m",
    "model.cache": {"size": "1Gi"},
    "model.cache.size": "1Gi",
    "model.lora.maxRank": 16,
    "model.lora.adapters[].uri": "file:///models/a",
    "engine.args": ["--dtype=float32"],
    "engine.args[]": "--dtype=float32",
    "engine.resources": {"requests": {"cpu": "1"}},
    "predictor.resources": {"requests": {"cpu": "1"}},
    "predictor.uri": "file:///models/p",
    "queue.policyParameters": {},
    "queue.fairness.tenantHeader": "x-tenant",
    "queue.priorityLevels[].name": "batch",
    "router": {"parentRefs": [{"name": "gateway"}]},
    "router.hostnames[]": "llm.example.com",
    "router.grpcHostnames[]": "grpc.example.com",
    "tracing.exporterEndpoint": "http://otel:4317",
    "tracing.samplerArg": "0.5",
    "disruptionBudget.maxUnavailable": 1,
    "rolloutStrategy.maxUnavailable": "25%",
    "rolloutStrategy.maxSurge": 1,
    "template.metadata": {"labels": {"a": "b"}},
    "template.spec": {"priorityClassName": "high"},
}
_HUB: Json = {"uri": "hf://owner/name"}
_GATEWAY: Json = {"parentRefs": [{"name": "gateway"}]}
# The spec in which a field is acceptable, by the longest prefix of its path.
BESIDE: dict[str, Json] = {
    "": {"model": {"uri": EXAMPLES["model.uri"]}},
    "model.revision": {"model": _HUB},
    "model.tokenSecretRef": {"model": _HUB},
    "model.cache": {"model": {**_HUB, "cache": {"size": "1Gi"}}},
    "model.cache.claimName": {"model": {**_HUB, "cache": {}}},
    "router": {"router": _GATEWAY},
    "router.grpcHostnames": {"router": {**_GATEWAY, "hostnames": ["llm.example.com"]}},
}


@dataclass(frozen=True, slots=True)
class Field:
    """A place in the spec: `queue.priorityLevels[].name`; `[]` is any entry of a list."""

    path: str
    schema: Json
    required: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The path as the API server writes it about the first entry."""
        return f"spec.{self.path}".replace("[]", "[0]")

    @property
    def opaque(self) -> bool:
        """Whether anything may be inside."""
        return bool(self.schema.get("x-kubernetes-preserve-unknown-fields"))


def fields(schema: Json = SPEC, at: str = "") -> Iterator[Field]:
    """Every field of the spec, parents before children."""
    for name, child in schema.get("properties", {}).items():
        path = f"{at}.{name}".lstrip(".")
        yield Field(path, child)
        yield from fields(child, path)
        if "items" in child:
            yield Field(f"{path}[]", child["items"])
            yield from fields(child["items"], f"{path}[]")


def leaves() -> list[str]:
    """The fields that hold a value of their own: what a user can change one at a time."""
    found = [field for field in fields() if not field.schema.get("properties")]
    return [
        field.path
        for field in found
        if not field.path.endswith("[]") and not field.schema.get("items", {}).get("properties")
    ]


def acceptable(field: Field) -> Any:
    """A value that the API server takes."""
    schema = field.schema
    if field.path in EXAMPLES:
        return copy.deepcopy(EXAMPLES[field.path])
    if "enum" in schema:
        return schema["enum"][0]
    made = {
        "integer": lambda: schema.get("default", schema.get("minimum", 1)),
        "boolean": lambda: True,
        "string": lambda: "a" * max(1, schema.get("minLength", 1)),
        "array": lambda: [acceptable(Field(f"{field.path}[]", schema["items"]))],
        "object": lambda: {
            name: acceptable(Field(f"{field.path}.{name}", schema["properties"][name]))
            for name in schema.get("required", ())
        },
    }
    return made[schema["type"]]()


def with_value(path: str, value: Any) -> Json:
    """The smallest acceptable spec with this value at that path."""
    place = f"{path}.".replace("[]", "")
    beside = max(
        (prefix for prefix in BESIDE if place.startswith(f"{prefix}." * bool(prefix))), key=len
    )
    spec: Json = copy.deepcopy(BESIDE[""] | BESIDE[beside])
    here: Any = spec
    parts = path.split(".")
    for depth, part in enumerate(parts[:-1], 1):
        here = _entered(here, part, _field(".".join(parts[:depth])))
    last = parts[-1]
    if last.endswith("[]"):
        here[last[:-2]] = [value]
    else:
        here[last] = value
    return spec


def _entered(here: Json, part: str, field: Field) -> Json:
    """The object at `part`, made acceptable where it is not there yet."""
    name = part.removesuffix("[]")
    if name not in here:
        made = acceptable(field)
        here[name] = [made] if part.endswith("[]") else made
    inner: Any = here[name]
    return inner[0] if part.endswith("[]") else inner


def _field(path: str) -> Field:
    return next(field for field in fields() if field.path == path)


@dataclass(frozen=True, slots=True)
class Bad:
    """A spec that must be refused, and the path that the refusal must name."""

    what: str
    spec: Json
    names: str


def bad_specs() -> Iterator[Bad]:
    """One for every constraint that the schema puts on every field."""
    for field in fields():
        for what, value in _bad_values(field):
            yield Bad(f"{field.path}: {what}", with_value(field.path, value), field.told)
        yield from _bad_insides(field)


def _bad_values(field: Field) -> Iterator[tuple[str, Any]]:
    schema = field.schema
    if schema.get("x-kubernetes-int-or-string"):
        yield "neither number nor text", {"a": 1}
        yield "a text that is no percentage", "many"
        yield "a negative number", -1
        return
    wrong = {"integer": "x", "boolean": "x", "string": 7, "array": "x", "object": "x"}
    yield f"not of type {schema['type']}", wrong[schema["type"]]
    if "minimum" in schema:
        yield "below the minimum", schema["minimum"] - 1
    if "maximum" in schema:
        yield "above the maximum", schema["maximum"] + 1
    if schema.get("minLength"):
        yield "empty", ""
    if "maxLength" in schema:
        yield "too long", "a" * (schema["maxLength"] + 1)
    if "pattern" in schema:
        yield "against its pattern", "no such thing!"[: schema.get("maxLength", 14)]
    if "enum" in schema:
        yield "none of those allowed", "Nonsense"
    if "maxItems" in schema:
        items = Field(f"{field.path}[]", schema["items"])
        yield "too many", [acceptable(items) for _ in range(schema["maxItems"] + 1)]


def _bad_insides(field: Field) -> Iterator[Bad]:
    if field.schema.get("type") != "object" or not field.schema.get("properties"):
        return
    good = acceptable(field)
    if not field.opaque:
        spec = with_value(field.path, {**good, "unknownField": 1})
        yield Bad(f"{field.path}: an unknown field", spec, f"{field.told}.unknownField")
    for name in field.schema.get("required", ()):
        left = {key: value for key, value in good.items() if key != name}
        spec = with_value(field.path, left)
        yield Bad(f"{field.path}: without {name}", spec, f"{field.told}.{name}")
