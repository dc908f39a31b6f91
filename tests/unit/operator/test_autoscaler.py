"""What scales a service: KEDA where it can be used, else Kubernetes' own autoscaler, or nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.manifests import SETTINGS, service
from llmservice_api import names
from llmservice_operator.capabilities import NOTHING_OPTIONAL, Capabilities
from llmservice_operator.desired import desired
from llmservice_operator.kinds import (
    HORIZONTAL_POD_AUTOSCALER,
    LEADER_WORKER_SET,
    SCALED_OBJECT,
    Kind,
)
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import parse_service
from llmservice_sidecar.runtime.telemetry_names import METRIC_BACKLOG

TOLD = replace(SETTINGS, backlog_url="http://operator.system.svc:8081/backlog")
SCALERS = {HORIZONTAL_POD_AUTOSCALER.kind, SCALED_OBJECT.kind}


def served(*kinds: Kind) -> Capabilities:
    return Capabilities(frozenset((kind.api_version, kind.kind) for kind in kinds))


KEDA = served(SCALED_OBJECT)


def scalers(
    capabilities: Capabilities = NOTHING_OPTIONAL, settings: Any = TOLD, **spec: Any
) -> list[Manifest]:
    spec.setdefault("scaling", {"maxReplicas": 5})
    made = desired(service(**spec), settings, capabilities)
    return [manifest for manifest in made if manifest["kind"] in SCALERS]


def one(capabilities: Capabilities = NOTHING_OPTIONAL, **spec: Any) -> Manifest:
    (made,) = scalers(capabilities, **spec)
    return made


def test_keda_asks_the_operator_for_the_whole_backlog_of_this_service() -> None:
    made = one(KEDA)
    assert (made["apiVersion"], made["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    (trigger,) = made["spec"]["triggers"]
    assert trigger["type"] == "metrics-api"
    assert trigger["metricType"] == "AverageValue"
    assert trigger["metadata"] == {
        "url": "http://operator.system.svc:8081/backlog?namespace=ns&name=svc",
        "valueLocation": "total_backlog_seconds",
        "targetValue": "30",
        "activationTargetValue": "0",
    }


def test_the_bounds_and_the_calm_reach_keda() -> None:
    scaling = {"minReplicas": 0, "maxReplicas": 4, "targetBacklogSeconds": 12, "idleSeconds": 900}
    spec = one(KEDA, scaling=scaling)["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 4)
    assert spec["cooldownPeriod"] == 900
    assert spec["triggers"][0]["metadata"]["targetValue"] == "12"
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 900


def test_without_keda_kubernetes_scales_on_the_metric_of_the_pods() -> None:
    made = one(scaling={"minReplicas": 2, "maxReplicas": 5, "targetBacklogSeconds": 20})
    spec = made["spec"]
    assert (made["apiVersion"], made["kind"]) == ("autoscaling/v2", "HorizontalPodAutoscaler")
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    (metric,) = spec["metrics"]
    assert metric["type"] == "Pods"
    assert metric["pods"] == {
        "metric": {"name": METRIC_BACKLOG},
        "target": {"type": "AverageValue", "averageValue": "20"},
    }


def test_the_metric_is_the_one_that_sidecars_export() -> None:
    assert names.METRIC_BACKLOG == METRIC_BACKLOG


def test_keda_without_a_way_to_ask_the_operator_is_not_used() -> None:
    (made,) = scalers(KEDA, SETTINGS)
    assert made["kind"] == "HorizontalPodAutoscaler"


def test_kubernetes_own_autoscaler_keeps_one_replica() -> None:
    assert one(scaling={"minReplicas": 0, "maxReplicas": 2})["spec"]["minReplicas"] == 1


def test_a_calm_of_hours_is_as_long_as_the_api_allows() -> None:
    spec = one(scaling={"maxReplicas": 2, "idleSeconds": 86400})["spec"]
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 3600


@pytest.mark.parametrize(
    "spec",
    [{"scaling": None, "replicas": 2}, {"suspend": True}, {"model": {"uri": "unknown://x"}}],
    ids=["replicas are given", "suspended", "no pods can be made"],
)
def test_nothing_scales_where_nothing_is_to_be_scaled(spec: dict[str, Any]) -> None:
    assert scalers(KEDA, **spec) == []


def test_the_target_is_the_workload_whatever_its_kind() -> None:
    assert one()["spec"]["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "svc",
    }
    several = one(served(SCALED_OBJECT, LEADER_WORKER_SET), parallelism={"nodes": 2, "pipeline": 2})
    assert several["spec"]["scaleTargetRef"] == {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "name": "svc-nodes",
    }


def test_the_autoscaler_comes_after_what_it_scales() -> None:
    wanted = parse_service(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "svc"},
            "spec": {"model": {"uri": "file:///m"}, "scaling": {"maxReplicas": 2}},
        }
    )
    kinds = [manifest["kind"] for manifest in desired(wanted, TOLD, KEDA)]
    assert kinds.index("ScaledObject") > kinds.index("Deployment")
