"""The controller of the time per output token, fed by hand: bounded, monotone, calm, patient."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llmservice_sidecar.core.limits import TimePerOutputTokenLimit
from llmservice_sidecar.core.step_costs import StepCosts

SLOTS = 32


def controller(target_s: float | None, *, slots: int = SLOTS) -> TimePerOutputTokenLimit:
    limit = TimePerOutputTokenLimit(slots=slots, costs=StepCosts())
    limit.aim(target_s)
    return limit


def engine_s(in_flight: float) -> float:
    return 2e-3 + 1e-3 * in_flight


def keep_full(limit: TimePerOutputTokenLimit, *, times: int, factor: float = 1.0) -> list[int]:
    """As many in flight as the limit allows; the limits on the way."""
    seen: list[int] = []
    for _ in range(times):
        in_flight = limit.limit_slots
        seen.append(limit.observe(factor * engine_s(in_flight), in_flight=in_flight))
    return seen


def test_without_a_target_all_slots_are_allowed() -> None:
    limit = controller(None)
    keep_full(limit, times=5000, factor=100)
    assert limit.limit_slots == SLOTS


def test_nothing_is_limited_before_anything_is_known() -> None:
    limit = controller(1e-9)
    assert limit.token_s is None
    assert limit.limit_slots == SLOTS


def test_a_target_within_reach_of_all_slots_limits_nothing() -> None:
    limit = controller(2 * engine_s(SLOTS))
    assert set(keep_full(limit, times=20_000)) == {SLOTS}


@pytest.mark.parametrize("wanted", [1, 3, 10, 30])
def test_the_limit_is_the_number_that_meets_the_target(wanted: int) -> None:
    limit = controller(engine_s(wanted))
    keep_full(limit, times=30_000)
    assert limit.limit_slots == wanted
    assert limit.token_s == pytest.approx(engine_s(wanted), rel=0.01)
    assert limit.costs.known


def test_a_target_that_nothing_meets_leaves_one_slot() -> None:
    limit = controller(engine_s(0) / 2)
    keep_full(limit, times=30_000)
    assert limit.limit_slots == 1


def test_once_found_the_limit_stands_still() -> None:
    limit = controller(engine_s(10.5))
    keep_full(limit, times=20_000)
    assert set(keep_full(limit, times=20_000)) == {10}


def test_an_engine_that_became_slower_gets_less_and_a_faster_one_more() -> None:
    limit = controller(engine_s(16))
    keep_full(limit, times=20_000)
    keep_full(limit, times=20_000, factor=1.5)
    assert limit.limit_slots == 10  # 18 ms / 1.5 = 2 ms + 10 x 1 ms
    keep_full(limit, times=40_000, factor=0.75)
    assert limit.limit_slots == 22


def test_an_idle_engine_says_nothing_of_the_limit() -> None:
    limit = controller(engine_s(10))
    keep_full(limit, times=20_000)
    for _ in range(20_000):
        limit.observe(engine_s(1), in_flight=1)
    assert limit.limit_slots == 10
    assert set(keep_full(limit, times=5_000)) <= {9, 10, 11}


def test_a_limit_never_reached_is_not_lowered_on_a_guess() -> None:
    limit = controller(8.1e-3)
    for _ in range(20_000):
        limit.observe(8e-3, in_flight=4)  # through the origin: 64 ms at all slots
    assert limit.limit_slots == SLOTS


def test_lifting_the_target_gives_all_slots_back_at_once() -> None:
    limit = controller(engine_s(4))
    keep_full(limit, times=20_000)
    limit.aim(None)
    assert limit.limit_slots == SLOTS


def test_a_noisy_clock_moves_it_by_a_slot_at_most() -> None:
    limit, rng = controller(engine_s(10)), random.Random(1)
    seen: set[int] = set()
    for count in range(60_000):
        in_flight = limit.limit_slots
        noise = rng.lognormvariate(-0.02, 0.2)
        now = limit.observe(engine_s(in_flight) * noise, in_flight=in_flight)
        if count > 20_000:
            seen.add(now)
    assert seen <= {9, 10, 11}


@settings(max_examples=30, deadline=None)
@given(
    target_ms=st.floats(1, 60),
    more_ms=st.floats(0, 60),
    seed=st.integers(0, 99),
    slots=st.integers(1, 64),
)
def test_it_is_bounded_and_monotone_in_the_target(
    target_ms: float, more_ms: float, seed: int, slots: int
) -> None:
    rng = random.Random(seed)
    low = controller(target_ms * 1e-3, slots=slots)
    high = controller((target_ms + more_ms) * 1e-3, slots=slots)
    for _ in range(1500):
        in_flight = float(rng.randint(1, slots))
        took_s = engine_s(in_flight) * rng.lognormvariate(0, 0.3)
        below = low.observe(took_s, in_flight=in_flight)
        above = high.observe(took_s, in_flight=in_flight)
        assert 1 <= below <= above <= slots
