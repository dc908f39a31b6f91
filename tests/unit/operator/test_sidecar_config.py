"""From the spec's classes to `live.json`, and what the file itself refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.manifests import service
from llmservice_api.sidecar_config import (
    ConfigError,
    LiveConfig,
    PriorityLevelConfig,
    encode_config,
    load_config,
)
from llmservice_operator.desired.config import live_config, static_hash

LEVELS = [
    {"name": "batch", "value": -5, "maxConcurrency": 4},
    {"name": "standard", "value": 10},
]


def test_levels_and_promotion_reach_the_live_file_highest_first(tmp_path: Path) -> None:
    live = live_config(service(queue={"priorityLevels": LEVELS, "promoteAfterSeconds": 30}))
    assert live.priority_levels == (
        PriorityLevelConfig(name="standard", value=10),
        PriorityLevelConfig(name="batch", value=-5, max_concurrency=4),
    )
    assert live.promote_after_s == 30.0
    path = tmp_path / "live.json"
    path.write_text(encode_config(live))
    assert load_config(path, LiveConfig) == live


def test_the_order_of_levels_in_the_spec_means_nothing() -> None:
    one, other = (
        live_config(service(queue={"priorityLevels": levels})) for levels in (LEVELS, LEVELS[::-1])
    )
    assert one == other


def test_levels_are_live_and_restart_nothing() -> None:
    assert static_hash(service()) == static_hash(service(queue={"priorityLevels": LEVELS}))


def test_policy_parameters_are_live_and_in_a_fixed_order() -> None:
    parameters = {"urgencyWeight": "2", "baseWeight": "0.5"}
    queue = {"policy": "EWSJF", "policyParameters": parameters}
    live = live_config(service(queue=queue))
    assert list(live.policy_parameters.items()) == [("baseWeight", "0.5"), ("urgencyWeight", "2")]
    assert static_hash(service()) == static_hash(service(queue=queue))


def test_without_levels_there_is_one_class() -> None:
    live = live_config(service())
    assert (live.priority_levels, live.promote_after_s) == ((), None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"priority_levels":[{"name":"a","value":1},{"name":"a","value":2}]}', "name 'a'"),
        ('{"priority_levels":[{"name":"a","value":1},{"name":"b","value":1}]}', "value 1"),
        ('{"priority_levels":[{"name":"","value":1}]}', "priority_levels[0].name"),
        (
            '{"priority_levels":[{"name":"a","value":1,"max_concurrency":0}]}',
            "priority_levels[0].max_concurrency",
        ),
        ('{"promote_after_s":0}', "promote_after_s"),
    ],
    ids=["a name twice", "a value twice", "no name", "a cap of nothing", "promotion at once"],
)
def test_a_wrong_live_file_is_refused_by_its_field(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "live.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(path, LiveConfig)
    assert told in str(refused.value)
    assert "live.json" in str(refused.value)
