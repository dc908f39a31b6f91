"""The guard never acts on outcomes that cannot be ranked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from llmservice_sidecar.core.guard import APART, Guard

tokens = st.floats(min_value=1.0, max_value=1e5)


@given(
    st.lists(tokens, min_size=1, max_size=200),
    st.lists(st.tuples(tokens, tokens), max_size=APART // 2 - 1),
    st.booleans(),
    st.floats(min_value=1.0, max_value=1e5),
)
def test_equal_outcomes_with_a_few_others_never_move_it(
    predicted: list[float],
    others: list[tuple[float, float]],
    starts_trusted: bool,
    outcome: float,
) -> None:
    subject = Guard(min_samples=APART, window=100, starts_trusted=starts_trusted)
    for guess in predicted:
        subject.observe(guess, outcome)
    if len(predicted) < APART:
        return
    for guess, other in others:
        subject.observe(guess, other)
        assert subject.closed is starts_trusted
    assert subject.closed is starts_trusted


@given(st.lists(tokens, min_size=1, max_size=300), tokens)
def test_equal_predictions_are_not_dropped_before_the_minimum_of_samples(
    outcomes: list[float], guess: float
) -> None:
    subject = Guard(min_samples=301, window=301, starts_trusted=True)
    for outcome in outcomes:
        subject.observe(guess, outcome)
    assert subject.closed
