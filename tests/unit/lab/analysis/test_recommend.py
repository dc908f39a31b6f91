"""Each rule fires on its numbers and on no others; where none does, nothing is to be gained."""

from __future__ import annotations

import msgspec
import pytest
from llmservice_lab.analysis.breakdown import Quantiles
from llmservice_lab.analysis.calibration import Calibration
from llmservice_lab.analysis.causes import Cause
from llmservice_lab.analysis.pressure import OrderGain, Pressure
from llmservice_lab.analysis.recommend import Action, Evidence, recommendations


def same(value: float | None, n: int = 1000) -> Quantiles:
    return Quantiles(n=n, mean=value, p50=value, p90=value, p99=value, p999=value, max=value)


CALM_PRESSURE = Pressure(
    pods=1,
    slots=8,
    mean_in_use=2.0,
    busy_share=0.05,
    per_token_half_s=0.02,
    per_token_full_s=0.04,
)
GOOD = Calibration(
    model="(all)",
    n=1000,
    tau=0.6,
    mean_absolute_error_tokens=50.0,
    coverage_p50=0.5,
    coverage_p90=0.9,
    sources={"model": 1000},
    bins=[],
)
CALM = Evidence(
    total=same(2.0),
    wait=same(0.01),
    engine_queue=same(0.001),
    slow_by_cause={Cause.LONG_ANSWER: 50},
    pressure=CALM_PRESSURE,
    gain=None,
    calibration=GOOD,
    orders={"SSJF": 1000},
    policies={"SSJF": 1000},
)
FULL = msgspec.structs.replace(CALM_PRESSURE, busy_share=0.95)
ROOMY = msgspec.structs.replace(FULL, per_token_full_s=0.021)
GAIN = OrderGain(
    requests=1000, slots=8, arrival_order_s=1.0, predicted_order_s=0.5, true_order_s=0.4
)
IN_ARRIVAL_ORDER = {"orders": {"FCFS": 990, "SSJF": 10}, "gain": GAIN, "wait": same(1.0)}


def actions(**changes: object) -> list[Action]:
    return [one.action for one in recommendations(msgspec.structs.replace(CALM, **changes))]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, [Action.NOTHING_TO_GAIN], id="a calm service"),
        pytest.param(
            {"engine_queue": same(0.2)}, [Action.LOWER_CONCURRENCY], id="the engine queues"
        ),
        pytest.param(
            {"slow_by_cause": {Cause.ENGINE_PREEMPTED: 10, Cause.LONG_ANSWER: 40}},
            [Action.LOWER_CONCURRENCY],
            id="a fifth is preempted",
        ),
        pytest.param(
            {"wait": same(1.0), "pressure": ROOMY},
            [Action.RAISE_CONCURRENCY, Action.MORE_REPLICAS],
            id="all wait and the engine has room",
        ),
        pytest.param(
            {"wait": same(1.0), "pressure": ROOMY, "engine_queue": same(0.2)},
            [Action.LOWER_CONCURRENCY, Action.MORE_REPLICAS],
            id="never both up and down",
        ),
        pytest.param(
            {"wait": same(1.0), "pressure": FULL},
            [Action.MORE_REPLICAS],
            id="all wait and the engine is full",
        ),
        pytest.param(IN_ARRIVAL_ORDER, [Action.SWITCH_POLICY], id="arrival order, long waits"),
        pytest.param(
            {**IN_ARRIVAL_ORDER, "wait": same(0.01)},
            [Action.NOTHING_TO_GAIN],
            id="arrival order, no waits",
        ),
        pytest.param(
            {"calibration": msgspec.structs.replace(GOOD, tau=0.1)},
            [Action.RETRAIN],
            id="predictions rank badly",
        ),
        pytest.param(
            {"calibration": msgspec.structs.replace(GOOD, coverage_p90=0.5)},
            [Action.RETRAIN],
            id="p90 covers half",
        ),
        pytest.param(
            {"calibration": msgspec.structs.replace(GOOD, tau=0.1, n=50)},
            [Action.NOTHING_TO_GAIN],
            id="too few answers to judge by",
        ),
        pytest.param({"calibration": None}, [Action.NOTHING_TO_GAIN], id="no predictions"),
    ],
)
def test_a_rule_fires_on_its_numbers(changes: dict[str, object], expected: list[Action]) -> None:
    assert actions(**changes) == expected


def test_every_action_is_reached_by_a_case_above() -> None:
    assert len(Action) == 6


def test_a_configured_policy_that_is_not_served_is_told() -> None:
    held, plain = (
        recommendations(msgspec.structs.replace(CALM, **IN_ARRIVAL_ORDER, policies={name: 1000}))
        for name in ("SSJF", "FCFS")
    )
    assert "SSJF is configured but arrival order was served" in held[0].text
    assert "policy: SSJF" in plain[0].text


def test_a_recommendation_has_numbers() -> None:
    for changes in ({}, {"engine_queue": same(0.2)}, IN_ARRIVAL_ORDER):
        for one in recommendations(msgspec.structs.replace(CALM, **changes)):
            assert one.numbers


UNTOLD = Pressure(
    pods=1,
    slots=8,
    mean_in_use=None,
    busy_share=None,
    per_token_half_s=None,
    per_token_full_s=None,
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, [Action.NOTHING_TO_GAIN], id="nobody waits"),
        pytest.param({"wait": same(1.0)}, [], id="some wait: for what, a sample does not show"),
        pytest.param({"engine_queue": same(0.2)}, [Action.LOWER_CONCURRENCY], id="engine queues"),
        pytest.param(
            {"slow_by_cause": {Cause.ENGINE_PREEMPTED: 10, Cause.LONG_ANSWER: 40}},
            [Action.NOTHING_TO_GAIN],
            id="paused alone, as far as the few beside it tell",
        ),
        pytest.param(
            {"calibration": msgspec.structs.replace(GOOD, tau=0.1), "wait": same(1.0)},
            [Action.RETRAIN],
            id="predictions rank badly",
        ),
    ],
)
def test_of_a_sample_only_that_is_said_which_a_sample_shows(
    changes: dict[str, object], expected: list[Action]
) -> None:
    assert actions(whole=False, pressure=UNTOLD, **changes) == expected


def test_no_order_is_advised_that_saves_no_wait() -> None:
    none = msgspec.structs.replace(GAIN, arrival_order_s=0.0, predicted_order_s=0.0)
    assert actions(**{**IN_ARRIVAL_ORDER, "gain": none}) == [Action.NOTHING_TO_GAIN]


def test_slots_that_no_span_tells_are_not_named() -> None:
    unknown = msgspec.structs.replace(UNTOLD, slots=None)
    changed = {"whole": False, "pressure": unknown, "engine_queue": same(0.2)}
    [one] = recommendations(msgspec.structs.replace(CALM, **changed))
    assert "None" not in one.text
