"""Slots and waits from arrays alone: who says how many there are, and what waiting comes to."""

from __future__ import annotations

import msgspec
import pytest
from fakes.traced import Load, requests_of
from llmservice_lab.analysis.columns import columns_of
from llmservice_lab.analysis.pressure import order_gain, pressure_of

REQUESTS = requests_of(Load(count=400, utilisation=0.5))


@pytest.mark.parametrize(
    ("arrivals_s", "slots", "mean_s"),
    [
        pytest.param([10.0, 10.0, 11.0], 2, 4 / 3, id="two at one instant, one after"),
        pytest.param([10.0] * 4, 2, 2.5, id="twice as many as slots at one instant"),
        pytest.param([10.0, 30.0, 30.0], 3, 0.0, id="slots free for long"),
        pytest.param([10.0, 11.0, 12.0], 1, 4.0, id="one slot"),
    ],
)
def test_the_wait_of_equal_requests_is_what_one_counts_by_hand(
    arrivals_s: list[float], slots: int, mean_s: float
) -> None:
    """Five seconds each; repeated, far apart, because a handful is too few to be told of."""
    many = [
        msgspec.structs.replace(
            REQUESTS[0], arrived_s=start_s + at_s, called_s=start_s, engine_ended_s=start_s + 5.0
        )
        for start_s in range(0, 10_000, 500)
        for at_s in arrivals_s
    ]
    gain = order_gain(columns_of(many), slots)
    assert gain is not None
    waits_s = (gain.arrival_order_s, gain.predicted_order_s, gain.true_order_s)
    assert waits_s == pytest.approx((mean_s, mean_s, mean_s))


def test_slots_are_what_most_spans_say_and_not_what_was_ever_in_use() -> None:
    said = [
        msgspec.structs.replace(one, limit_slots=12 if number % 10 else 4)
        for number, one in enumerate(REQUESTS)
    ]
    told, seen = pressure_of(columns_of(said)), pressure_of(columns_of(REQUESTS))
    assert (told.slots, seen.slots) == (12, 8)
    assert told.busy_share == 0.0


def test_of_a_part_of_the_requests_only_the_slots_are_known() -> None:
    said = [msgspec.structs.replace(one, limit_slots=12) for one in REQUESTS[::10]]
    told = pressure_of(columns_of(said), whole=False)
    assert (told.pods, told.slots, told.mean_in_use, told.busy_share) == (1, 12, None, None)
    assert pressure_of(columns_of(REQUESTS[::10]), whole=False).slots is None
