"""The last values in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from llmservice_sidecar.core.window import SortedWindow


@given(values=st.lists(st.integers(0, 9)), size=st.integers(1, 8))
def test_it_holds_the_last_values_sorted(values: list[int], size: int) -> None:
    window = SortedWindow(size=size)
    for value in values:
        window.add(value)
    assert window.ascending == sorted(values[-size:])
    assert len(window) == len(window.ascending)


def test_what_is_too_old_leaves() -> None:
    window = SortedWindow(size=9, age_s=10.0)
    for now in (0.0, 5.0, 15.0):
        window.add(100.0 - now, now=now)
    assert window.ascending == [85.0, 95.0]
    window.add(1.0, now=99.0)
    assert window.ascending == [1.0]
