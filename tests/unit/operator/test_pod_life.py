"""What the pod template says about starting, living and standing apart; leaving is tested live."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.manifests import SETTINGS, service
from llmservice_api import names
from llmservice_operator.desired import desired
from llmservice_operator.kube_json import Manifest

TWENTY_MINUTES_S = 1200


def made(kind: str, name: str, **spec: Any) -> Manifest:
    wanted = desired(service(**spec), SETTINGS)
    return next(m for m in wanted if m["kind"] == kind and m["metadata"]["name"].endswith(name))


def pod(**spec: Any) -> Manifest:
    template: Manifest = made("Deployment", "", **spec)["spec"]["template"]["spec"]
    return template


@pytest.mark.parametrize(
    ("engine", "least_s"),
    [({}, TWENTY_MINUTES_S), ({"startupTimeoutSeconds": 3601}, 3601)],
    ids=["by default", "as long as the spec says"],
)
def test_a_model_may_load_for_long_before_anything_is_restarted(
    engine: dict[str, Any], least_s: int
) -> None:
    container = pod(engine=engine)["containers"][0]
    probe = container["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= least_s
    # Kubernetes asks it only after the startup probe has succeeded once.
    assert "livenessProbe" in container


def test_the_sidecar_starts_and_lives_without_the_engine() -> None:
    (sidecar,) = pod()["initContainers"]
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert sidecar["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert sidecar["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_a_broken_sidecar_restarts_no_engine() -> None:
    probe = pod()["containers"][0]["livenessProbe"]["exec"]["command"]
    assert f"127.0.0.1:{names.PORT_ENGINE}/health" in probe[-1]


def test_a_rollout_takes_no_replica_away_before_another_is_there() -> None:
    strategy = made("Deployment", "")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_replicas_stand_apart_where_there_is_room() -> None:
    spread = pod()["topologySpreadConstraints"]
    keys = [entry["topologyKey"] for entry in spread]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    # A replica that could not be scheduled would serve nobody.
    assert {entry["whenUnsatisfiable"] for entry in spread} == {"ScheduleAnyway"}


def test_a_spread_of_the_user_replaces_ours_over_the_same_topology() -> None:
    own = {
        "topologyKey": "kubernetes.io/hostname",
        "maxSkew": 2,
        "whenUnsatisfiable": "DoNotSchedule",
    }
    spread = pod(template={"spec": {"topologySpreadConstraints": [own]}})[
        "topologySpreadConstraints"
    ]
    assert spread[0]["maxSkew"] == 2
    assert spread[0]["whenUnsatisfiable"] == "DoNotSchedule"
    assert len(spread) == 2


def test_the_headless_name_holds_ready_replicas_only() -> None:
    headless = made("Service", "-headless")["spec"]
    assert headless["clusterIP"] == "None"
    assert not headless.get("publishNotReadyAddresses", False)
