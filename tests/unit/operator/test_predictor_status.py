"""What the sidecars' reports make of `status`: the worst replica decides."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fakes.manifests import NOW, deployment, pod, service
from fakes.reports import report
from llmservice_api.status_report import ModelPredictionReport
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
    return Observed(workload=live, pods=pods, polled=answered)


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


def by_model(**tau: float) -> Polled:
    """A replica that serves these models; one with tau below 0.1 stands by its running mean."""
    plain = report()
    models = {
        name: ModelPredictionReport(samples=300, trusted=value > 0.1, tau=value, coverage_p90=0.9)
        for name, value in tau.items()
    }
    predictor = msgspec.structs.replace(plain.predictor, learned=900, models=models)
    return Polled(report=msgspec.structs.replace(plain, predictor=predictor))


def test_each_model_and_adapter_has_its_figures() -> None:
    written = judged(replicas(by_model(tiny=0.5, lora=0.01))).manifest()["predictor"]
    assert written["learned"] == 900
    assert written["models"] == [
        {"name": "lora", "order": "RunningMean", "samples": 300, "tau": "0.010",
         "coverageP90": "0.900"},
        {"name": "tiny", "order": "Prediction", "samples": 300, "tau": "0.500",
         "coverageP90": "0.900"},
    ]  # fmt: skip


def test_a_model_that_stands_by_its_running_mean_is_named_in_the_condition() -> None:
    made = judged(replicas(by_model(tiny=0.5, lora=0.01)))
    (condition,) = (c for c in made.conditions if c.type == "PredictorCalibrated")
    assert condition.status == "True"
    assert "not those of lora" in condition.message
    assert "tiny" not in condition.message


def test_a_model_is_written_when_its_figures_move_by_more_than_a_twentieth() -> None:
    written = judged(replicas(by_model(tiny=0.500))).manifest()
    assert not worth_writing(written, judged(replicas(by_model(tiny=0.510))).manifest())
    assert worth_writing(written, judged(replicas(by_model(tiny=0.560))).manifest())
    assert worth_writing(written, judged(replicas(by_model(tiny=0.500, lora=0.5))).manifest())
