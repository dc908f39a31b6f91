"""The table of what both engines say."""

from __future__ import annotations

import pytest
from llmservice_lab.agreement import Point, markdown


def point(*, des_p99: float) -> Point:
    return Point(
        slots=8,
        traffic="0.9",
        des={"mean": 0.8, "p99": des_p99},
        vllm={"mean": 0.8, "p99": 1.0},
    )


def test_a_point_is_as_far_off_as_its_worse_figure() -> None:
    assert point(des_p99=1.05).deviation == pytest.approx(0.05)


def test_the_table_ends_with_the_largest_deviation() -> None:
    *_, row, end = markdown([point(des_p99=1.0), point(des_p99=1.05)])
    assert row == "| 8 | 0.9 | 0.800 | 0.800 | 1.050 | 1.000 | 5.0e-02 |"
    assert end == "\nThe largest deviation is 5.0e-02; allowed is 10%."


def test_more_than_a_tenth_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"differ by 12.0%; allowed: 10%"):
        list(markdown([point(des_p99=1.12)]))
