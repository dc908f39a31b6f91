"""Who went ahead of whom, counted by arrival numbers."""

from __future__ import annotations

from llmservice_sidecar.core.overtaking import Overtaking
from llmservice_sidecar.core.request import RequestId


def admit(overtaking: Overtaking, number: int) -> int:
    """A request that waited runs; how many it has overtaken."""
    return overtaking.admit(number, RequestId(f"r{number}"), waited=True)[0]


def let_run(overtaking: Overtaking, number: int) -> int:
    """A request runs as it comes; how many it has overtaken."""
    return overtaking.admit(number, RequestId(f"r{number}"), waited=False)[0]


def test_a_later_arrival_overtakes_all_earlier_ones() -> None:
    overtaking = Overtaking()
    for number in range(4):
        overtaking.wait(number)
    assert admit(overtaking, 2) == 2
    assert overtaking.of(0) == (1, (RequestId("r2"),))
    assert overtaking.of(1) == (1, (RequestId("r2"),))
    assert overtaking.of(3) == (0, ())


def test_arrival_order_overtakes_nobody() -> None:
    overtaking = Overtaking()
    for number in range(4):
        overtaking.wait(number)
    assert [admit(overtaking, number) for number in range(4)] == [0, 0, 0, 0]


def test_a_request_that_never_waited_overtakes_too() -> None:
    overtaking = Overtaking()
    overtaking.wait(0)
    assert let_run(overtaking, 1) == 1
    assert overtaking.of(0) == (1, (RequestId("r1"),))


def test_only_the_first_eight_are_named_in_arrival_order() -> None:
    overtaking = Overtaking()
    for number in range(12):
        overtaking.wait(number)
    for number in reversed(range(1, 12)):
        admit(overtaking, number)
    count, ids = overtaking.of(0)
    assert count == 11
    assert ids == tuple(RequestId(f"r{number}") for number in range(1, 9))


def test_overtakers_of_those_who_have_left_are_forgotten() -> None:
    overtaking = Overtaking()
    for number in (0, 1, 2, 5):
        overtaking.wait(number)
    admit(overtaking, 1)
    overtaking.depart(0)
    assert overtaking.of(2) == (0, ())
    admit(overtaking, 5)
    assert overtaking.of(2) == (1, (RequestId("r5"),))
    overtaking.depart(2)
    overtaking.wait(6)
    assert overtaking.of(6) == (0, ())


def test_nothing_is_remembered_once_nobody_waits() -> None:
    overtaking = Overtaking()
    for number in range(3):
        overtaking.wait(number)
    assert [admit(overtaking, number) for number in (2, 1, 0)] == [2, 1, 0]
    overtaking.wait(3)
    assert let_run(overtaking, 4) == 1
    assert overtaking.of(3) == (1, (RequestId("r4"),))


def test_at_its_admission_a_request_is_told_who_overtook_it() -> None:
    overtaking = Overtaking()
    for number in range(3):
        overtaking.wait(number)
    assert overtaking.admit(1, RequestId("r1"), waited=True) == (1, 0, ())
    assert overtaking.admit(3, RequestId("r3"), waited=False) == (2, 0, ())
    later = (RequestId("r1"), RequestId("r3"))
    assert overtaking.admit(0, RequestId("r0"), waited=True) == (0, 2, later)
