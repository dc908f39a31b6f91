"""values.yaml, its schema, its page and the examples say the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import helm_python as helm
import pytest
import yaml
from fakes.rendered_chart import CHART, ROOT, render
from fakes.strict_schemas import validate

Json = dict[str, Any]

EXAMPLES: Final = sorted((CHART / "examples").glob("*.yaml"))
SCHEMA: Final[Json] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
VALUES: Final[Json] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
# Left to the charts around this one.
OPEN: Final = {"/properties/global"}


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every schema of an object, by where it stands."""
    if isinstance(schema, dict):
        mapping = cast("Json", schema)
        if mapping.get("type") == "object":
            yield path, mapping
        for key, value in mapping.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(cast("list[Any]", schema)):
            yield from objects(value, f"{path}/{number}")


def resolved(schema: Json) -> Json:
    """The schema that a reference means."""
    if "$ref" not in schema:
        return schema
    return SCHEMA["definitions"][schema["$ref"].removeprefix("#/definitions/")]


def known_keys(schema: Json, above: str = "") -> Iterator[str]:
    """The dotted paths of all keys that the schema has a name for, without lists."""
    for key, value in resolved(schema).get("properties", {}).items():
        if value is not False:
            yield above + key
            yield from known_keys(value, f"{above}{key}.")


def set_keys(values: Json, above: str = "") -> Iterator[str]:
    """The dotted paths of all keys in values."""
    for key, value in values.items():
        yield above + key
        if isinstance(value, dict):
            yield from set_keys(cast("Json", value), f"{above}{key}.")


def test_every_object_of_the_schema_refuses_unknown_keys() -> None:
    found = dict(objects(SCHEMA))
    assert len(found) > 30
    assert {
        path
        for path, schema in found.items()
        if schema.get("additionalProperties") is not False
        # A mapping from names of the user's own to texts.
        and schema.get("additionalProperties") != {"type": "string"}
    } == OPEN


def test_every_key_of_the_schema_has_a_default_and_the_other_way_round() -> None:
    # What Kubernetes defines is named in the schema and has no default here.
    kubernetes = ("affinity.", "resources.", "Resources.")
    known = {key for key in known_keys(SCHEMA) if not any(part in key for part in kubernetes)}
    own_names = ("dashboards.labels.", "resources.", "activator.resources.")
    given = {key for key in set_keys(VALUES) if not key.startswith(own_names)}
    assert known - {"global"} == given


def test_a_chart_around_this_one_may_pass_global_values() -> None:
    assert render({"global": {"anything": {"at": "all"}}})


def test_page_of_the_values_is_made_of_their_comments() -> None:
    page = (ROOT / "docs" / "chart.md").read_text(encoding="utf-8")
    missing = {
        key
        for key in known_keys(SCHEMA)
        if key in set(leaves(VALUES)) and f"| `{key}` |" not in page
    }
    assert missing == set()


def leaves(values: Json, above: str = "") -> Iterator[str]:
    """The dotted paths of values that are not mappings."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(cast("Json", value), f"{above}{key}.")
        else:
            yield above + key


def test_examples_are_the_ones_that_the_page_names() -> None:
    page = (ROOT / "docs" / "chart.md").read_text(encoding="utf-8")
    assert len(EXAMPLES) >= 5
    for path in EXAMPLES:
        assert f"(../charts/llmservice/examples/{path.name})" in page


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_passes_strict_lint_and_renders_valid_objects(path: Path) -> None:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    warning = 2
    findings = helm.lint(CHART, values, strict=True, kube_version="v1.33.0")
    assert [found for found in findings["messages"] if found["severity"] >= warning] == []
    for item in render(values):
        validate(item)


def test_nothing_of_the_namespaced_example_needs_rights_on_the_cluster() -> None:
    values = yaml.safe_load((CHART / "examples" / "namespaced.yaml").read_text(encoding="utf-8"))
    kinds = {item["kind"] for item in render(values)}
    assert "Role" in kinds
    assert not any(kind.startswith(("Cluster", "CustomResource")) for kind in kinds)
