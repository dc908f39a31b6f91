"""What a request says beside its prompt: seen by what learns, not by the shipped model."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final

import numpy as np
import pytest
from llmservice_sidecar.adapters.predictors.cache import CachedDescriptions
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.learned.request_cues import CUES, LARGEST, request_cues
from llmservice_sidecar.adapters.predictors.shipped.base import default_base
from llmservice_sidecar.runtime.ports import PredictionQuery

QUERY: Final = PredictionQuery(text="Prove it.", prompt_tokens=3, endpoint="chat", model="m")
CHANGED: Final[dict[str, Any]] = {
    "text": "Disprove it.",
    "prompt_tokens": 30_000,
    "endpoint": "completions",
    "model": "n",
    "max_tokens": 5,
    "turns": 20,
    "has_tools": True,
    "has_schema": True,
    "system": True,
    "last_turn": "it.",
    "reasoning_effort": "high",
}
OF_THE_PROMPT: Final = {"text", "prompt_tokens", "turns", "has_tools", "has_schema"}


def tokens(model: OnlinePredictor, text: str, effort: str | None) -> float:
    return model.predict(replace(QUERY, text=text, reasoning_effort=effort)).output_tokens


@pytest.mark.parametrize(("much", "little"), [("high", "none"), ("on", "none"), ("max", "low")])
def test_answers_of_one_prompt_are_told_apart_by_the_effort_asked_for(
    much: str, little: str
) -> None:
    model = OnlinePredictor(CachedDescriptions(default_base()))
    for number in range(600):
        query = replace(QUERY, text=QUERY.text if number % 2 else f"Prove theorem {number}.")
        for effort, length in ((much, 5000), (little, 50)):
            asked = replace(query, reasoning_effort=effort)
            model.observe(asked, output_tokens=length, censored=False)
    for text in ("Prove it.", "Prove theorem 1234.", "Prove that 7 is prime."):
        assert tokens(model, text, much) > 5 * tokens(model, text, little), text
    model.observe(replace(QUERY, model="other"), output_tokens=500, censored=False)
    assert tokens(model, "Prove it.", much) > 2500
    assert tokens(model, "Prove it.", little) < 100


def test_a_plain_request_has_nothing_beside_its_prompt() -> None:
    assert not request_cues(QUERY).any()


@pytest.mark.parametrize(
    "said",
    [
        {"reasoning_effort": "high"},
        {"reasoning_effort": "HIGH"},
        {"reasoning_effort": "\x00 whatever"},
        {"system": True},
        {"turns": 3, "last_turn": "it."},
        {"text": "", "turns": 3, "last_turn": "x" * 16_384},
        {"text": "x" * 16_384, "turns": 3, "last_turn": "x"},
    ],
)
def test_what_is_said_beside_the_prompt_shows_in_bounded_numbers(said: dict[str, Any]) -> None:
    found = request_cues(replace(QUERY, **said))
    assert found.shape == (CUES,)
    assert found.any()
    assert np.abs(found).max() <= LARGEST


def test_the_word_of_an_effort_is_read_in_any_case() -> None:
    upper, lower = (request_cues(replace(QUERY, reasoning_effort=word)) for word in ("LOW", "low"))
    assert np.array_equal(upper, lower)


def test_the_shipped_model_sees_the_fields_by_which_descriptions_are_kept_and_no_others() -> None:
    assert {field.name for field in fields(PredictionQuery)} == set(CHANGED)
    plain = default_base().describe(QUERY)
    cache = CachedDescriptions(default_base())
    assert cache.describe(QUERY) is cache.describe(replace(QUERY))
    for name, value in CHANGED.items():
        changed = replace(QUERY, **{name: value})
        seen = default_base().describe(changed)
        same = np.array_equal(seen.dense, plain.dense) and np.array_equal(seen.bins, plain.bins)
        assert same is (name not in OF_THE_PROMPT), name
        assert (cache.describe(changed) is cache.describe(QUERY)) is same, name
