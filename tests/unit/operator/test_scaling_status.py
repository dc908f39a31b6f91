"""ScalingReady: the autoscaler's own conditions in stable words."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.manifests import service
from llmservice_operator.checks_scaling import scaling_ready
from llmservice_operator.kube_json import Manifest
from llmservice_operator.observed import Observed

HPA = "HorizontalPodAutoscaler"


def autoscaler(kind: str, *conditions: tuple[str, str, str], **status: Any) -> Manifest:
    found = [
        {"type": about, "status": truth, "reason": reason, "message": f"{about} says {reason}"}
        for about, truth, reason in conditions
    ]
    return {
        "kind": kind,
        "metadata": {"name": "svc"},
        "status": {"conditions": found, **status},
    }


def told(found: Manifest | None, **spec: Any) -> str:
    spec.setdefault("scaling", {"maxReplicas": 3})
    verdict = scaling_ready(service(**spec), Observed(autoscaler=found))
    return f"{verdict.status}/{verdict.finding.reason}"


WORKS = (
    ("AbleToScale", "True", "ReadyForNewScale"),
    ("ScalingActive", "True", "ValidMetricFound"),
)


@pytest.mark.parametrize(
    ("conditions", "verdict"),
    [
        ((), "Unknown/AutoscalerStarting"),
        (WORKS, "True/ScalingActive"),
        ((*WORKS, ("ScalingLimited", "True", "TooManyReplicas")), "True/AtMaximum"),
        ((*WORKS, ("ScalingLimited", "True", "TooFewReplicas")), "True/ScalingActive"),
        ((("AbleToScale", "False", "FailedGetScale"),), "False/ScaleRefused"),
        (
            (WORKS[0], ("ScalingActive", "False", "FailedGetPodsMetric")),
            "False/MetricUnavailable",
        ),
        ((WORKS[0], ("ScalingActive", "False", "ScalingDisabled")), "False/ScalingDisabled"),
        ((WORKS[0], ("ScalingActive", "False", "AmbiguousSelector")), "False/AmbiguousSelector"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_kubernetes_own_autoscaler_is_judged(
    conditions: tuple[tuple[str, str, str], ...], verdict: str
) -> None:
    assert told(autoscaler(HPA, *conditions)) == verdict


READY = ("Ready", "True", "ScaledObjectReady")


@pytest.mark.parametrize(
    ("conditions", "status", "verdict"),
    [
        ((), {}, "Unknown/AutoscalerStarting"),
        ((("Ready", "Unknown", ""),), {}, "Unknown/AutoscalerStarting"),
        ((READY, ("Active", "True", "ScalerActive")), {}, "True/ScalingActive"),
        ((READY, ("Active", "False", "ScalerNotActive")), {}, "True/Idle"),
        ((("Ready", "False", "ScaledObjectCheckFailed"),), {}, "False/ScaledObjectNotReady"),
        ((READY, ("Paused", "True", "ScaledObjectPaused")), {}, "False/Paused"),
        ((READY,), {"health": {"s0-metric": {"status": "Failing"}}}, "False/MetricUnavailable"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_kedas_autoscaler_is_judged(
    conditions: tuple[tuple[str, str, str], ...], status: dict[str, Any], verdict: str
) -> None:
    assert told(autoscaler("ScaledObject", *conditions, **status)) == verdict


def test_the_autoscalers_own_message_is_told_with_what_to_do() -> None:
    found = autoscaler(HPA, WORKS[0], ("ScalingActive", "False", "FailedGetPodsMetric"))
    verdict = scaling_ready(service(scaling={"maxReplicas": 3}), Observed(autoscaler=found))
    assert "ScalingActive says FailedGetPodsMetric" in verdict.finding.message
    assert "docs/scaling.md" in verdict.finding.message


def test_zero_without_keda_is_said_not_to_work() -> None:
    to_zero = {"minReplicas": 0, "maxReplicas": 3}
    assert told(autoscaler(HPA, *WORKS), scaling=to_zero) == "False/ScaleToZeroNeedsKEDA"
    assert told(autoscaler("ScaledObject", READY), scaling=to_zero) == "True/Idle"


def test_without_an_autoscaler_the_reason_is_told() -> None:
    assert told(None) == "Unknown/AutoscalerMissing"
    assert told(None, scaling=None) == "True/NotConfigured"
    assert told(None, suspend=True) == "True/Suspended"
    assert told(None, parallelism={"nodes": 2, "pipeline": 2}) == "False/NoWorkload"


def test_a_service_that_sleeps_unheard_says_so() -> None:
    found = autoscaler("ScaledObject", ("Ready", "True", "Ready"), ("Active", "False", "Idle"))
    sleeps = {"minReplicas": 0, "maxReplicas": 3}

    def message(*, wakes: bool = False, scaling: Any = sleeps, **spec: Any) -> str:
        observed = Observed(autoscaler=found, wakes=wakes)
        return scaling_ready(service(scaling=scaling, **spec), observed).finding.message

    assert "activator.enabled" in message()
    assert "tlsSecretRef" in message(security={"tlsSecretRef": {"name": "tls"}})
    assert "refused" not in message(wakes=True)
    assert "refused" not in message(scaling={"maxReplicas": 3})
