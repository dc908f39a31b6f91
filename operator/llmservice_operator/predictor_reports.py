"""The sidecars' reports of one service: the worst replica speaks for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmservice_api.status_report import ModelPredictionReport, StatusReport

from llmservice_operator.conditions import Finding
from llmservice_operator.kube_json import Manifest
from llmservice_operator.observed import Observed, Polled
from llmservice_operator.pods import is_leader, is_ready

_STATE_RANK = {"Failed": 0, "Loading": 1}  # any other state is as good as Ready
_CALIBRATION_RANK = {False: 0, None: 1, True: 2}


_NO_REPLICA = Finding("NoReplicaReady", "no ready replica to ask")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """The report that decides, and whose; without one `absence` says why."""

    pod: str = ""
    report: StatusReport | None = None
    absence: Finding = _NO_REPLICA


def worst_report(observed: Observed) -> Worst:
    """The ready replica whose predictor is worst off: failed, loading, then least calibrated."""
    ready = [pod for pod in observed.pods if is_leader(pod) and is_ready(pod)]
    asked = [
        (pod["metadata"]["name"], observed.polled.get(pod["metadata"]["uid"])) for pod in ready
    ]
    answers = [(pod, polled) for pod, polled in asked if polled is not None]
    reports = [(pod, polled.report) for pod, polled in answers if polled.report is not None]
    if reports:
        pod, report = min(reports, key=lambda item: (_rank(item[1]), item[0]))
        return Worst(pod=pod, report=report)
    if answers:
        return Worst(absence=_unreachable(answers[0]))
    if ready:
        return Worst(absence=Finding("NotAskedYet", "the replicas are asked every 30 s"))
    return Worst()


def predictor_status(report: StatusReport) -> Manifest:
    """`status.predictor`: figures as strings, because the API has no floats."""
    predictor = report.predictor
    figures: dict[str, Any] = {
        "mode": predictor.mode,
        "kind": predictor.kind,
        "state": predictor.state,
        "order": report.queue.order,
        "samples": predictor.samples,
        "message": predictor.message or None,
        "tau": _decimal(predictor.tau),
        "tauLower": _decimal(predictor.tau_lower),
        "tauUpper": _decimal(predictor.tau_upper),
        "estimatedGainRatio": _decimal(predictor.estimated_gain_ratio),
        "learned": predictor.learned,
        "models": [_model_status(name, told) for name, told in sorted(predictor.models.items())],
    }
    return _present(figures)


def _model_status(name: str, told: ModelPredictionReport) -> Manifest:
    """One model or adapter. `order`: by what its requests stand in the queue."""
    return _present(
        {
            "name": name,
            "order": "Prediction" if told.trusted else "RunningMean",
            "samples": told.samples,
            "tau": _decimal(told.tau),
            "coverageP50": _decimal(told.coverage_p50),
            "coverageP90": _decimal(told.coverage_p90),
        }
    )


def models_by_mean(report: StatusReport) -> tuple[str, ...]:
    """The models and adapters whose predictions do not rank: their running mean stands in."""
    models = report.predictor.models
    return tuple(sorted(name for name, told in models.items() if not told.trusted))


def _present(fields: dict[str, Any]) -> Manifest:
    return {key: value for key, value in fields.items() if value not in (None, [])}


def _rank(report: StatusReport) -> tuple[int, int, float]:
    predictor = report.predictor
    tau = predictor.tau_lower if predictor.tau_lower is not None else 1.0
    return (
        _STATE_RANK.get(predictor.state, 2),
        _CALIBRATION_RANK[predictor.calibrated],
        tau,
    )


def _unreachable(answer: tuple[str, Polled]) -> Finding:
    pod, polled = answer
    return Finding(
        "StatusUnavailable",
        f"replica {pod} does not report: {polled.error}; allow the operator to reach port 9090",
    )


def _decimal(figure: float | None) -> str | None:
    return None if figure is None else f"{figure:.3f}"
