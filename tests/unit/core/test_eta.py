"""When a request starts: list scheduling by a table worked by hand."""

from __future__ import annotations

import pytest
from llmservice_sidecar.core.eta import predicted_wait_s


@pytest.mark.parametrize(
    ("left_s", "before_s", "limit_slots", "expected_s"),
    [
        pytest.param([], [], 1, 0.0, id="a free slot is free now"),
        pytest.param([5.0], [], 1, 5.0, id="one slot is free when it is left"),
        pytest.param([5.0], [], 2, 0.0, id="the other slot is free already"),
        pytest.param([5.0, 3.0], [], 2, 3.0, id="the first to leave decides"),
        pytest.param([5.0, 3.0], [1.0], 2, 4.0, id="who stands before takes that slot"),
        pytest.param([5.0, 3.0], [9.0], 2, 5.0, id="the long one leaves the other slot"),
        pytest.param([5.0, 3.0], [1.0, 1.0, 1.0], 2, 5.0, id="5 3, 5 4, 5 5, 6 5"),
        pytest.param([], [2.0, 2.0, 2.0], 2, 2.0, id="an idle pair takes two, then one"),
        pytest.param([1.0, 2.0, 3.0], [], 1, 3.0, id="after a shrink the last to leave frees it"),
        pytest.param([1.0, 2.0, 3.0], [4.0], 2, 3.0, id="a shrink to two loses the first"),
        pytest.param([1.0, 2.0], [4.0], 0, 6.0, id="a limit of none counts as one"),
    ],
)
def test_predicted_wait(
    left_s: list[float], before_s: list[float], limit_slots: int, expected_s: float
) -> None:
    assert predicted_wait_s(left_s, before_s, limit_slots=limit_slots) == expected_s
