"""Features: bounded, finite, the same everywhere, for any text."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmservice_sidecar.adapters.predictors.shipped import cues
from llmservice_sidecar.adapters.predictors.shipped.features import (
    DENSE,
    HASHED,
    READ_CHARS,
    Features,
    extract,
)
from llmservice_sidecar.runtime.ports import PredictionQuery


def query(text: str, *, model: str = "tiny", turns: int = 1) -> PredictionQuery:
    return PredictionQuery(
        text=text, prompt_tokens=len(text) // 4, endpoint="chat", model=model, turns=turns
    )


def difference(first: Features, second: Features) -> float:
    return float(np.abs(first.dense - second.dense).sum())


@given(st.text(st.characters(), max_size=400))  # lone surrogates and control characters too
def test_any_text_gives_finite_features_within_bounds(text: str) -> None:
    found = extract(query(text))
    assert found.dense.shape == (DENSE,)
    assert np.isfinite(found.dense).all()
    assert np.isfinite(found.values).all()
    assert len(found.bins) == len(found.values) == len(set(found.bins.tolist()))
    assert found.bins.min() >= 0
    assert found.bins.max() < HASHED


def test_a_huge_prompt_costs_no_more_bins_than_a_long_one() -> None:
    long = extract(query("many different words number " * 300))
    huge = extract(query("many different words number " * 40_000))
    assert len(huge.bins) <= len(long.bins) + 10


@pytest.mark.parametrize(
    ("plain", "marked"),
    [
        ("Tell me about whales", "Tell me about whales in 500 words"),
        ("Tell me about whales", "Tell me briefly about whales"),
        ("Tell me about whales", "Tell me ten interesting facts about whales"),
        ("Sort this", "Sort this\n```\ndef f(): pass\n```"),
        ("Which of these is prime", "Which of these is prime\nA. 4\nB. 5\nC. 6"),
        ("Are whales fish", "Are whales fish? Answer with yes or no"),
    ],
    ids=["asked size", "short hint", "items", "code", "choices", "yes or no"],
)
def test_hints_about_the_answer_change_the_dense_features(plain: str, marked: str) -> None:
    assert difference(extract(query(plain)), extract(query(marked))) > 0.5


def test_turns_are_told_apart() -> None:
    assert difference(extract(query("hello")), extract(query("hello", turns=5))) > 0.1


def test_turns_written_into_the_text_count_as_turns() -> None:
    dialogue = "Human: hi\n\nAssistant: hello\n\nHuman: bye\n\nAssistant:"
    assert difference(extract(query(dialogue)), extract(query(dialogue, turns=3))) < 1e-12


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("in 500 words", 650.0), ("a 3-sentence summary", 75.0), ("in 2 pages", 1200.0), ("hi", 0.0)],
)
def test_an_asked_size_is_read_in_tokens(text: str, tokens: float) -> None:
    assert cues.asked_tokens(text) == pytest.approx(float(np.log1p(tokens)))


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("give me ten creative ideas", 10),
        ("list 7 tips", 7),
        ("five dollars for one apple", 0),
        ("in 1999 the best things", 0),
        ("0 ideas", 0),
        ("\u0663 ideas", 0),
    ],
    ids=["word", "digits", "nothing countable", "a year", "none", "another script"],
)
def test_asked_items_are_counted(text: str, items: int) -> None:
    assert cues.asked_items(text.split()) == pytest.approx(float(np.log1p(items)) / 2.0)


def test_another_process_computes_the_same_bins() -> None:
    program = (
        "from llmservice_sidecar.adapters.predictors.shipped.features import extract\n"
        "from llmservice_sidecar.runtime.ports import PredictionQuery\n"
        "q = PredictionQuery(text='Why is the sky blue?', prompt_tokens=5, endpoint='chat',"
        " model='tiny')\n"
        "print(extract(q).bins.tolist())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    same = PredictionQuery(
        text="Why is the sky blue?", prompt_tokens=5, endpoint="chat", model="tiny"
    )
    assert printed.strip() == str(extract(same).bins.tolist())


@pytest.mark.parametrize("blank", ["\n", " \n", "\r\n", "\t\n ", "(\n", "1.\n"])
def test_repeated_blanks_cost_no_more_than_prose(blank: str) -> None:
    """A pattern that starts anew at each of them costs the square of their number."""
    size = sum(READ_CHARS)
    prose = cpu_s("the quick brown fox jumps over " * (size // 30))
    assert cpu_s(blank * (size // len(blank))) < 5 * prose


def cpu_s(text: str) -> float:
    """The least of ten: what others do on the machine only adds."""
    asked = query(text)
    times: list[float] = []
    for _ in range(10):
        began = time.thread_time()
        extract(asked)
        times.append(time.thread_time() - began)
    return min(times)
