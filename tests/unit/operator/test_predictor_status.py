"""What the sidecars' reports make of `status`: the worst replica decides."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.manifests import NOW, deployment, pod, service
from fakes.reports import report
from llmservice_operator.observed import Observed, Polled
from llmservice_operator.status import Status, status, worth_writing


def polled(state: str = "Ready", *, calibrated: bool | None = True, tau: float = 0.5) -> Polled:
    return Polled(report=report(state, calibrated=calibrated, tau=tau))


def judged(observed: Observed, **spec: Any) -> Status:
    return status(service(**spec), observed, before=(), now=NOW)


def told(made: Status, kind: str) -> str:
    condition = next(condition for condition in made.conditions if condition.type == kind)
    return f"{condition.status}/{condition.reason}"


def replicas(*answers: Polled | None) -> Observed:
    pods = tuple(pod(f"svc-{index}", ready=True) for index in range(len(answers)))
    answered = {
        live["metadata"]["uid"]: answer
        for live, answer in zip(pods, answers, strict=True)
        if answer is not None
    }
    live = deployment(wanted=len(answers), ready=len(answers))
    return Observed(deployment=live, pods=pods, polled=answered)


@pytest.mark.parametrize(
    ("observed", "ready", "calibrated"),
    [
        pytest.param(
            replicas(polled()), "True/PredictorLoaded", "True/Calibrated", id="all is well"
        ),
        pytest.param(
            replicas(polled(), polled(calibrated=False)),
            "True/PredictorLoaded",
            "False/RankCorrelationTooLow",
            id="the worst replica decides",
        ),
        pytest.param(
            replicas(polled(), polled("Failed")),
            "False/PredictorFailed",
            "True/Calibrated",
            id="one predictor has failed",
        ),
        pytest.param(
            replicas(polled("Loading", calibrated=None)),
            "False/PredictorLoading",
            "Unknown/TooFewSamples",
            id="it loads",
        ),
        pytest.param(
            replicas(polled(calibrated=None), polled()),
            "True/PredictorLoaded",
            "Unknown/TooFewSamples",
            id="one replica is young",
        ),
        pytest.param(
            replicas(Polled(error="refused")),
            "Unknown/StatusUnavailable",
            "Unknown/StatusUnavailable",
            id="no answer",
        ),
        pytest.param(
            replicas(None), "Unknown/NotAskedYet", "Unknown/NotAskedYet", id="not asked yet"
        ),
        pytest.param(
            replicas(), "Unknown/NoReplicaReady", "Unknown/NoReplicaReady", id="nobody to ask"
        ),
    ],
)
def test_the_predictor_is_judged_by_the_worst_replica(
    observed: Observed, ready: str, calibrated: str
) -> None:
    made = judged(observed, replicas=len(observed.pods))
    assert told(made, "PredictorReady") == ready
    assert told(made, "PredictorCalibrated") == calibrated


def test_a_bad_predictor_never_gates_ready() -> None:
    made = judged(replicas(polled("Failed", calibrated=False)))
    assert told(made, "Ready") == "True/Ready"
    assert made.settled


def test_a_disabled_predictor_is_fine_and_not_calibrated() -> None:
    made = judged(replicas(polled("Disabled")), predictor={"mode": "Disabled"})
    assert told(made, "PredictorReady") == "True/Disabled"
    assert told(made, "PredictorCalibrated") == "Unknown/Disabled"


def test_a_small_move_of_a_figure_is_not_worth_a_write() -> None:
    written = judged(replicas(polled(tau=0.500))).manifest()
    assert not worth_writing(written, judged(replicas(polled(tau=0.510))).manifest())
    assert worth_writing(written, judged(replicas(polled(tau=0.560))).manifest())
    assert worth_writing(written, judged(replicas(polled("Failed"))).manifest())
    assert worth_writing(written, judged(replicas(None)).manifest())
    assert not worth_writing(written, written)
