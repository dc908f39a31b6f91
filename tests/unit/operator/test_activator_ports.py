"""Which ports of the activator a service has: the same ones, and never a neighbour's."""

from __future__ import annotations

import pytest
from llmservice_api import names
from llmservice_operator.activator_ports import REST_S, PortBook
from llmservice_operator.cluster import ServiceKey
from llmservice_operator.desired.activation import ActivatorPorts

ONE, TWO, THREE = (ServiceKey("team", name) for name in ("one", "two", "three"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def book(clock: Clock | None = None, *, pairs: int = 2) -> PortBook:
    return PortBook(clock or Clock(), first=10_000, last=10_000 + 2 * pairs - 1)


def test_a_service_keeps_its_ports_and_shares_none() -> None:
    ports = PortBook(Clock())
    keys = [ServiceKey("team", f"service-{number}") for number in range(3000)]
    given = [ports.take(key) for key in keys]
    assert [ports.take(key) for key in keys] == given
    taken = [port for pair in given if pair for port in pair]
    assert len(set(taken)) == 6000
    assert min(taken) >= names.ACTIVATOR_FIRST_PORT
    assert max(taken) <= names.ACTIVATOR_LAST_PORT


def test_another_process_gives_a_service_alone_the_same_ports() -> None:
    assert PortBook(Clock()).take(ONE) == PortBook(Clock()).take(ONE)


def test_what_a_slice_records_counts_more_than_the_name() -> None:
    ports = PortBook(Clock())
    recorded = ActivatorPorts(31_998, 31_999)
    ports.record(ONE, recorded)
    assert ports.take(ONE) == recorded
    others = [ports.take(ServiceKey("team", str(number))) for number in range(10_999)]
    assert None not in others
    assert recorded not in others
    assert ports.take(TWO) is None


@pytest.mark.parametrize(
    "wrong",
    [
        ActivatorPorts(80, 81),
        ActivatorPorts(10_001, 10_002),
        ActivatorPorts(10_000, 10_003),
        ActivatorPorts(32_000, 32_001),
    ],
    ids=["below", "not a pair's first", "not a pair", "above"],
)
def test_a_record_that_cannot_be_ours_does_not_count(wrong: ActivatorPorts) -> None:
    ports = PortBook(Clock())
    ports.record(ONE, wrong)
    assert ports.take(ONE) not in (wrong, None)


def test_of_two_services_with_the_same_record_the_first_keeps_it() -> None:
    ports = book()
    ports.record(ONE, ActivatorPorts(10_002, 10_003))
    ports.record(TWO, ActivatorPorts(10_002, 10_003))
    assert ports.take(ONE) == ActivatorPorts(10_002, 10_003)
    assert ports.take(TWO) == ActivatorPorts(10_000, 10_001)


def test_ports_that_were_freed_rest_before_another_service_gets_them() -> None:
    clock = Clock()
    ports = book(clock, pairs=1)
    given = ports.take(ONE)
    ports.free(ONE)
    clock.now = REST_S - 1
    assert ports.take(TWO) is None
    clock.now = REST_S
    assert ports.take(TWO) == given
    assert ports.take(ONE) is None
    ports.free(THREE)  # it had none
