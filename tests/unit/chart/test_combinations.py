"""Everything that the chart's switches can make, in all their combinations."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.pod_security import violations
from fakes.rendered_chart import (
    TOGGLES,
    combinations,
    merged,
    of_kind,
    parse,
    pods,
    read_by,
    render,
    render_texts,
)
from fakes.strict_schemas import validate
from llmservice_operator.__main__ import parser

Json = dict[str, Any]


@pytest.fixture(scope="module")
def rendered() -> dict[str, set[str]]:
    """Every text that a template can render, by the template's path."""
    found: dict[str, set[str]] = {}
    for path, _, values in combinations():
        found.setdefault(path, set()).add(render_texts(values)[path])
    return found


@pytest.fixture(scope="module")
def objects(rendered: dict[str, set[str]]) -> list[Json]:
    """Every object that can be rendered."""
    return [item for texts in rendered.values() for text in sorted(texts) for item in parse(text)]


def test_every_switch_changes_something(rendered: dict[str, set[str]]) -> None:
    assert len(TOGGLES) >= 15
    plain = render_texts()
    silent = {toggle for toggle in TOGGLES if render_texts(merged(frozenset({toggle}))) == plain}
    # These change nothing by themselves: what they label is switched on by others.
    assert silent == {"monitoring labels"}
    assert sum(len(texts) for texts in rendered.values()) > 100


def test_a_template_depends_on_no_other_switch_than_the_combinations_vary() -> None:
    known: dict[tuple[str, frozenset[str]], str] = {}
    rng = random.Random(1)
    for _ in range(150):
        chosen = frozenset(rng.sample(sorted(TOGGLES), rng.randint(0, len(TOGGLES))))
        for path, text in render_texts(merged(chosen)).items():
            ours = frozenset(name for name in chosen if set(TOGGLES[name]) & read_by(path))
            assert known.setdefault((path, ours), text) == text, f"{path} with {sorted(chosen)}"


def test_every_object_is_valid_in_the_oldest_and_the_newest_kubernetes(objects: list[Json]) -> None:
    kinds = {item["kind"] for item in objects}
    assert {"ServiceMonitor", "PodMonitor", "PrometheusRule", "NetworkPolicy", "Pod"} <= kinds
    for item in objects:
        validate(item)


def test_every_pod_is_admitted_at_the_restricted_level(objects: list[Json]) -> None:
    found = [(name, pod) for item in objects for name, pod in pods([item]).items()]
    assert {name.partition("/")[0] for name, _ in found} == {"Deployment", "Pod"}
    assert {name: violations(pod) for name, pod in found if violations(pod)} == {}


def test_no_rule_has_a_wildcard_or_touches_secrets(objects: list[Json]) -> None:
    rules = [rule for item in objects for rule in item.get("rules", [])]
    assert len(rules) > 20
    for rule in rules:
        words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "*" not in "".join(words)
        assert not any(word.startswith("secrets") for word in words)
        # These give away the rights of others.
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_every_command_line_is_one_that_the_operator_understands(
    objects: list[Json], tmp_path: Path
) -> None:
    def commands() -> Iterator[list[str]]:
        for item in objects:
            for container in pods([item]).get("Deployment/llmservice", {}).get("containers", []):
                yield container["command"]

    # The operator reads the file at once: what the chart mounts lies elsewhere here.
    (config,) = of_kind(render(TOGGLES["defaults"]), "ConfigMap")
    (name, text) = next(iter(config["data"].items()))
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = {tuple(command) for command in commands()}
    assert len(found) > 4
    for command in found:
        assert command[:3] == ("python", "-m", "llmservice_operator")
        arguments = [word.replace("/etc/llmservice", str(tmp_path)) for word in command[3:]]
        parser().parse_args(arguments)


def test_every_name_and_label_value_is_short_enough_for_the_longest_release_name() -> None:
    longest = "r" * 53
    for item in (entry for text in render_texts(name=longest).values() for entry in parse(text)):
        assert len(item["metadata"]["name"]) <= 63
        values = item["metadata"].get("labels", {}).values()
        assert all(len(value) <= 63 for value in values)
