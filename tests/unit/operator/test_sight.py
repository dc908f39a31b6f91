"""When an operator is blind, and when it only looks so."""

from __future__ import annotations

from llmservice_operator.kinds import POD
from llmservice_operator.kube_json import Manifest
from llmservice_operator.sight import Sight, Watch


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def thing(version: int, *, kind: str = "LLMService", namespace: str = "ns") -> Manifest:
    metadata = {"name": "a", "namespace": namespace, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def seeing(*, namespaced: bool = False) -> tuple[Sight, Clock]:
    clock = Clock()
    return Sight(namespaced=namespaced, clock=clock), clock


def test_a_quiet_cluster_is_not_blindness() -> None:
    sight, clock = seeing()
    sight.told(thing(5))
    for _ in range(100):
        clock.now += 120
        assert sight.listed(thing(5))
    assert sight.blind_s == 0


def test_a_change_that_no_watch_has_told_counts_from_when_it_was_seen() -> None:
    sight, clock = seeing()
    sight.told(thing(5))
    assert not sight.listed(thing(6))
    clock.now += 100
    assert not sight.listed(thing(9))
    clock.now += 100
    assert sight.blind_s == 200
    assert sight.missing() == [Watch("v1", "LLMService", "")]


def test_a_late_event_ends_it() -> None:
    sight, clock = seeing()
    sight.listed(thing(6))
    clock.now += 50
    sight.told(thing(5))
    assert sight.blind_s == 50
    sight.told(thing(6))
    assert sight.blind_s == 0


def test_a_later_event_of_another_object_proves_the_same() -> None:
    sight, _ = seeing()
    sight.listed(thing(6))
    sight.told(thing(8))
    assert sight.missing() == []


def test_an_event_of_another_kind_proves_nothing() -> None:
    sight, clock = seeing()
    sight.listed(thing(6, kind="Pod"))
    sight.told(thing(9))
    clock.now += 10
    assert sight.blind_s == 10


def test_each_namespace_has_its_watch_where_namespaces_are_watched() -> None:
    sight, clock = seeing(namespaced=True)
    sight.listed(thing(6, namespace="a"))
    sight.told(thing(9, namespace="b"))
    clock.now += 10
    assert sight.blind_s == 10
    cluster_wide, _ = seeing()
    cluster_wide.listed(thing(6, namespace="a"))
    cluster_wide.told(thing(9, namespace="b"))
    assert cluster_wide.blind_s == 0


def test_while_the_api_server_is_away_nobody_is_blind() -> None:
    sight, clock = seeing()
    sight.listed(thing(6))
    for _ in range(100):
        clock.now += 2
        sight.away()
    assert sight.blind_s == 0
    clock.now += 30
    assert sight.blind_s == 30


def test_events_that_come_out_of_order_are_no_step_back() -> None:
    sight, _ = seeing()
    sight.told(thing(9))
    sight.told(thing(5))
    assert sight.listed(thing(9))


def test_what_nobody_watches_is_not_missed() -> None:
    sight, clock = seeing(namespaced=True)
    sight.watching([POD])
    assert sight.listed(thing(5, kind="ScaledObject"))
    assert not sight.listed(thing(6, kind="Pod"))
    clock.now += 100
    assert sight.missing() == [Watch("v1", "Pod", "ns")]
