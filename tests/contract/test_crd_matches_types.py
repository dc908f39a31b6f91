"""The CRD, the spec's types, the policies and the owned flags say the same thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml
from llmservice_api import names
from llmservice_api.spec import Spec
from llmservice_operator.desired.engine import OWNED_ALIASES, OWNED_FLAGS
from llmservice_sidecar.core.policies import DEPLOYABLE, POLICIES, policy_parameters
from msgspec import inspect

ROOT: Final = Path(__file__).parents[2]
CRD: Final[dict[str, Any]] = yaml.safe_load((ROOT / "crds" / "llmservice.yaml").read_text())
VERSION: Final = CRD["spec"]["versions"][0]
SCHEMA: Final = VERSION["schema"]["openAPIV3Schema"]["properties"]["spec"]
ABSENT: Final = "<absent>"

Json = dict[str, Any]


def crd_fields(schema: Json, at: str = "spec") -> Iterator[tuple[str, Json, bool]]:
    """Path, schema and requiredness of every field, through lists too."""
    for name, child in schema.get("properties", {}).items():
        path = f"{at}.{name}"
        yield path, child, name in schema.get("required", ())
        yield from crd_fields(child, path)
        yield from crd_fields(child.get("items", {}), f"{path}[]")


def type_fields(kind: inspect.Type, at: str = "spec") -> Iterator[tuple[str, inspect.Field]]:
    """Path and field of every field of the types, through lists and optionals too."""
    if isinstance(kind, inspect.UnionType):
        for part in kind.types:
            yield from type_fields(part, at)
    elif isinstance(kind, inspect.VarTupleType):
        yield from type_fields(kind.item_type, f"{at}[]")
    elif isinstance(kind, inspect.StructType):
        for field in kind.fields:
            path = f"{at}.{field.encode_name}"
            yield path, field
            yield from type_fields(field.type, path)


def opaque(schema: Json) -> bool:
    """Whether the types pass this object on as it is, and so know nothing of its fields."""
    return schema.get("x-kubernetes-preserve-unknown-fields", False)


CRD_FIELDS: Final = {
    path: (schema, required)
    for path, schema, required in crd_fields(SCHEMA)
    if not path.startswith("spec.engine.env[]")
}
TYPE_FIELDS: Final = dict(type_fields(inspect.type_info(Spec)))


def default_of(field: inspect.Field) -> Any:
    """A field's default as JSON; ABSENT where it means absent."""
    value: Any = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if value is msgspec.NODEFAULT or value is None:
        return ABSENT
    return msgspec.json.decode(msgspec.json.encode(value))


def members(kind: inspect.Type) -> list[str] | None:
    """The values of an enum, None for other types."""
    if isinstance(kind, inspect.UnionType):
        return next((found for part in kind.types if (found := members(part))), None)
    if isinstance(kind, inspect.EnumType):
        return [str(member.value) for member in kind.cls]
    return None


def test_names_are_the_contract_packages() -> None:
    told = CRD["spec"]["names"]
    assert CRD["spec"]["group"] == names.GROUP
    assert VERSION["name"] == names.VERSION
    assert (told["kind"], told["plural"]) == (names.KIND, names.PLURAL)
    assert told["shortNames"] == [names.SHORT_NAME]
    assert CRD["metadata"]["name"] == f"{names.PLURAL}.{names.GROUP}"


def test_fields_are_the_same() -> None:
    assert TYPE_FIELDS
    assert CRD_FIELDS.keys() == TYPE_FIELDS.keys()


def test_required_fields_are_the_same() -> None:
    required = {path for path, (_, required) in CRD_FIELDS.items() if required}
    assert required == {path for path, field in TYPE_FIELDS.items() if field.required}


@pytest.mark.parametrize("path", sorted(CRD_FIELDS))
def test_default_is_the_same(path: str) -> None:
    schema, _ = CRD_FIELDS[path]
    told = schema.get("default", ABSENT)
    ours = default_of(TYPE_FIELDS[path])
    if told == {} or (told == ABSENT and ours in ([], {})):
        # An object's default fills in its fields' defaults; an empty list may as well be absent.
        return
    assert ours == told


@pytest.mark.parametrize("path", sorted(CRD_FIELDS))
def test_object_with_defaults_inside_is_there_by_default(path: str) -> None:
    """Else a default inside an absent object would exist for the types alone."""
    schema, _ = CRD_FIELDS[path]
    ours = default_of(TYPE_FIELDS[path])
    if schema.get("properties") and ours != ABSENT:
        assert schema.get("default") == {}


@pytest.mark.parametrize("path", sorted(CRD_FIELDS))
def test_enum_is_the_same(path: str) -> None:
    schema, _ = CRD_FIELDS[path]
    ours = members(TYPE_FIELDS[path].type)
    if ours is not None:
        assert sorted(schema["enum"]) == sorted(ours)


@pytest.mark.parametrize("path", sorted(CRD_FIELDS))
def test_least_value_of_the_crd_is_allowed_by_the_types(path: str) -> None:
    """The CRD may refuse what is only silly; the types refuse what is wrong."""
    schema, _ = CRD_FIELDS[path]
    kind: Any = TYPE_FIELDS[path].type
    parts = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    least = next((part.ge for part in parts if isinstance(part, inspect.IntType)), None)
    if schema.get("type") == "integer" and least is not None:
        assert schema["minimum"] >= least


def test_no_enum_value_reads_as_a_boolean_in_yaml() -> None:
    for path, (schema, _) in CRD_FIELDS.items():
        for value in schema.get("enum", ()):
            assert isinstance(value, str), path
            assert isinstance(yaml.safe_load(value), str), path


def test_policies_are_the_registered_ones_that_can_be_deployed() -> None:
    assert set(POLICIES) >= DEPLOYABLE
    assert CRD_FIELDS["spec.queue.policy"][0]["enum"] == sorted(DEPLOYABLE)


def test_policy_parameters_are_those_of_the_policies() -> None:
    (rule,) = CRD_FIELDS["spec.queue"][0]["x-kubernetes-validations"]
    told = {
        policy: re.findall(r"'(\w+)'", keys)
        for policy, keys in re.findall(r"self\.policy == '(\w+)' \? \[([^]]*)\]", rule["rule"])
    }
    ours = {name: sorted(policy_parameters(name)) for name in DEPLOYABLE}
    assert told == {name: keys for name, keys in ours.items() if keys}


def test_whole_policy_parameters_are_those_that_the_crd_wants_whole() -> None:
    rules = CRD_FIELDS["spec.queue.policyParameters"][0]["x-kubernetes-validations"]
    told = set(re.findall(r"'(\w+)'", rules[0]["rule"].partition("||")[0]))
    known = {name: policy_parameters(name) for name in DEPLOYABLE}
    assert told == {
        key for parameters in known.values() for key, bounds in parameters.items() if bounds.whole
    }
    assert all(bounds.least <= 1 for each in known.values() for bounds in each.values())


def test_owned_flags_are_refused_one_and_all() -> None:
    (rule,) = CRD_FIELDS["spec.engine.args"][0]["x-kubernetes-validations"]
    refused = set(re.findall(r"'(--?[a-z][a-z-]*)'", rule["rule"]))
    ours = {f"--{flag}" for flag in OWNED_FLAGS} | {f"-{flag}" for flag in OWNED_ALIASES}
    assert ours
    assert refused == ours


def test_no_field_is_a_float() -> None:
    assert not [path for path, (schema, _) in CRD_FIELDS.items() if schema.get("type") == "number"]


def test_every_field_is_acted_on() -> None:
    silent = [
        path for path, (schema, _) in CRD_FIELDS.items() if "not acted on" in described(schema)
    ]
    assert not silent


def described(schema: Json) -> str:
    return " ".join(schema.get("description", "").split())
