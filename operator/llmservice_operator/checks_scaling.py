"""Whether automatic scaling works, from the autoscaler's own conditions in our stable words."""

from __future__ import annotations

from typing import Final

from llmservice_api.spec import Scaling

from llmservice_operator.conditions import Finding, Truth, Verdict
from llmservice_operator.desired import workload_possible
from llmservice_operator.desired.activation import may_sleep
from llmservice_operator.kinds import SCALED_OBJECT
from llmservice_operator.kube_json import Manifest, condition, section
from llmservice_operator.observed import Observed
from llmservice_operator.service import Service

Judgement = tuple[Truth, Finding]

# Reasons of a HorizontalPodAutoscaler's ScalingActive that are not about a metric.
_INACTIVE: Final = {
    "ScalingDisabled": "ScalingDisabled",
    "AmbiguousSelector": "AmbiguousSelector",
    "InvalidSelector": "ScaleRefused",
}


def scaling_ready(service: Service, observed: Observed) -> Verdict:
    """Whether automatic scaling works. Never gates Ready."""
    return Verdict("ScalingReady", *_scaling(service, observed))


def _scaling(service: Service, observed: Observed) -> Judgement:
    scaling = service.spec.scaling
    if scaling is None:
        text = "spec.scaling is not set: spec.replicas decides"
        return Truth.TRUE, Finding("NotConfigured", text)
    if service.spec.suspend:
        text = "spec.suspend is true: nothing is scaled until it is false"
        return Truth.TRUE, Finding("Suspended", text)
    return _configured(service, scaling, observed)


def _configured(service: Service, scaling: Scaling, observed: Observed) -> Judgement:
    if not workload_possible(service, observed.capabilities):
        text = "there are no replicas to scale; WorkloadsReady says why"
        return Truth.FALSE, Finding("NoWorkload", text)
    found = observed.autoscaler
    if found is None:
        return Truth.UNKNOWN, Finding("AutoscalerMissing", "the autoscaler is being created")
    if found["kind"] == SCALED_OBJECT.kind:
        return _with_sleep(service, observed, *_scaled_object(found))
    judged = _horizontal_pod_autoscaler(found)
    if scaling.min_replicas == 0 and judged[0] is not Truth.FALSE:
        text = (
            "spec.scaling.minReplicas: 0 needs KEDA; until it is installed, and the operator "
            "started with --backlog-url, one replica stays"
        )
        return Truth.FALSE, Finding("ScaleToZeroNeedsKEDA", text)
    return judged


def _with_sleep(service: Service, observed: Observed, truth: Truth, finding: Finding) -> Judgement:
    """Say so when nothing holds the requests that come while there is no replica."""
    scaling = service.spec.scaling
    if observed.wakes or scaling is None or scaling.min_replicas > 0:
        return truth, finding
    why = (
        "there is no activator (activator.enabled of the chart)"
        if may_sleep(service)
        else "spec.security.tlsSecretRef keeps the activator from reading them"
    )
    text = f"{finding.message}; at zero replicas requests are refused and wake nothing: {why}"
    return truth, Finding(finding.reason, text)


def _horizontal_pod_autoscaler(found: Manifest) -> Judgement:
    able, active = condition(found, "AbleToScale"), condition(found, "ScalingActive")
    where = f"HorizontalPodAutoscaler {found['metadata']['name']}"
    if not able and not active:
        return Truth.UNKNOWN, Finding("AutoscalerStarting", f"{where} has not been looked at yet")
    if able.get("status") == "False":
        return Truth.FALSE, Finding("ScaleRefused", f"{where}: {able.get('message')}")
    if active.get("status") == "False":
        reason = _INACTIVE.get(active.get("reason") or "", "MetricUnavailable")
        text = f"{where}: {active.get('message')}"
        if reason == "MetricUnavailable":
            text += "; it needs KEDA or a custom-metrics adapter (docs/scaling.md)"
        return Truth.FALSE, Finding(reason, text)
    if condition(found, "ScalingLimited").get("reason") == "TooManyReplicas":
        text = f"{where}: the backlog asks for more than spec.scaling.maxReplicas"
        return Truth.TRUE, Finding("AtMaximum", text)
    return Truth.TRUE, Finding("ScalingActive", f"{where} scales on the predicted backlog")


def _scaled_object(found: Manifest) -> Judgement:
    ready, active = condition(found, "Ready"), condition(found, "Active")
    where = f"ScaledObject {found['metadata']['name']}"
    if not ready or ready.get("status") == "Unknown":
        return Truth.UNKNOWN, Finding("AutoscalerStarting", f"{where} has not been looked at yet")
    if condition(found, "Paused").get("status") == "True":
        return Truth.FALSE, Finding("Paused", f"{where} is paused by an annotation")
    failing = [
        name
        for name, health in section(found, "status", "health").items()
        if health.get("status") == "Failing"
    ]
    if failing or condition(found, "Fallback").get("status") == "True":
        text = f"{where}: KEDA cannot read the backlog from the operator (--backlog-url)"
        return Truth.FALSE, Finding("MetricUnavailable", text)
    if ready.get("status") == "False":
        return Truth.FALSE, Finding("ScaledObjectNotReady", f"{where}: {ready.get('message')}")
    if active.get("status") == "True":
        return Truth.TRUE, Finding("ScalingActive", f"{where} scales on the predicted backlog")
    return Truth.TRUE, Finding("Idle", f"{where}: no work; it falls to spec.scaling.minReplicas")
