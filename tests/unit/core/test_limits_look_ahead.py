"""How many are sent ahead of a free slot: none where its news takes no time."""

from __future__ import annotations

import pytest
from llmservice_sidecar.core.look_ahead import LookAhead, look_ahead_slots


@pytest.mark.parametrize(
    ("completions_per_s", "notice_delay_s", "slots"),
    [
        (100.0, 0.0, 0),
        (0.0, 0.1, 0),
        (10.0, 0.001, 1),  # m = 0.01
        (10.0, 0.1, 3),  # 1 + 2
        (40.0, 0.1, 8),  # 4 + 4
        (100.0, 0.1, 17),  # 10 + 6.3
    ],
)
def test_look_ahead_is_m_and_two_standard_deviations(
    completions_per_s: float, notice_delay_s: float, slots: int
) -> None:
    got = look_ahead_slots(completions_per_s=completions_per_s, notice_delay_s=notice_delay_s)
    assert got == slots


def test_the_rate_is_that_of_the_last_seconds() -> None:
    ahead = LookAhead()
    assert ahead.completions_per_s(now=5.0) == 0
    for count in range(1000):
        ahead.completed(now=count * 0.1)
    assert ahead.completions_per_s(now=99.9) == pytest.approx(10.0, rel=0.02)
    assert ahead.slots(notice_delay_s=0.1, now=99.9) == 4  # a little above 3
    assert ahead.completions_per_s(now=199.9) < 0.01


def test_without_a_notice_delay_nothing_is_sent_ahead() -> None:
    ahead = LookAhead()
    for count in range(1000):
        ahead.completed(now=count * 0.001)
    assert ahead.slots(notice_delay_s=0.0, now=1.0) == 0
