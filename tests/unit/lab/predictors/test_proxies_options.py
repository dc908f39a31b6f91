from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from llmservice_lab.predictors.proxies.options import HEADS, TrainOptions


def options(**changed: Any) -> TrainOptions:
    given: dict[str, Any] = {"head": "log-t", "base": "encoder", "out": Path("out"), **changed}
    return TrainOptions(**given)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_can_be_chosen(head: str) -> None:
    assert options(head=head).head == head


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("head", "guess"),
        ("device", "tpu"),
        ("max_tokens", 15),
        ("max_tokens", 513),
        ("epochs", 0),
        ("batch", 1),
        ("patience", 0),
        ("freeze_layers", -2),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{name}.*allowed"):
        options(**{name: value})


def test_a_run_may_be_resumed_elsewhere_and_for_longer_but_not_with_another_seed() -> None:
    first = options()
    longer = options(out=Path("moved"), epochs=9, resume=True)
    assert longer.identity() == first.identity()
    assert options(seed=2).identity() != first.identity()
