"""Descriptions are made once per prompt, and forgotten in time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from llmservice_sidecar.adapters.predictors.cache import CachedDescriptions
from llmservice_sidecar.adapters.predictors.shipped.base import Description
from llmservice_sidecar.runtime.ports import PredictionQuery

QUERY = PredictionQuery(text="Why?", prompt_tokens=1, endpoint="chat", model="m")


class Counting:
    """Describes by the length of the text, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def describe(self, query: PredictionQuery) -> Description:
        self.asked.append(query.text)
        dense = np.array([float(len(query.text))])
        return Description(dense, np.zeros(0, np.int64), np.zeros(0), 1.0, 1.0)


def test_a_prompt_that_comes_again_is_not_read_again() -> None:
    base = Counting()
    cache = CachedDescriptions(base)
    first = cache.describe(QUERY)
    assert cache.describe(replace(QUERY)) is first
    assert base.asked == ["Why?"]


@pytest.mark.parametrize(
    "other",
    [
        {"text": "Why not?"},
        {"prompt_tokens": 2},
        {"turns": 2},
        {"has_tools": True},
        {"has_schema": True},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_prompt_is_another_description(other: dict[str, object]) -> None:
    base = Counting()
    cache = CachedDescriptions(base)
    cache.describe(QUERY)
    cache.describe(replace(QUERY, **other))
    assert len(base.asked) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"last_turn": "Why?"},
        {"endpoint": "completions"},
        {"model": "n"},
        {"max_tokens": 5},
        {"system": True},
        {"reasoning_effort": "high"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_request_that_differs_beside_its_prompt_is_described_alike(
    other: dict[str, object],
) -> None:
    cache = CachedDescriptions(Counting())
    assert cache.describe(QUERY) is cache.describe(replace(QUERY, **other))


def test_the_longest_unused_prompt_is_forgotten() -> None:
    base = Counting()
    cache = CachedDescriptions(base, entries=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        cache.describe(replace(QUERY, text=text))
    assert base.asked == ["a", "b", "c", "b"]


def test_half_a_character_is_no_obstacle() -> None:
    CachedDescriptions(Counting()).describe(replace(QUERY, text="\ud800"))
