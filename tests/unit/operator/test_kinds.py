"""The table of kinds: what it says, and that the chart grants what the operator does with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart
from llmservice_api import names
from llmservice_operator.capabilities import NOTHING_OPTIONAL, Capabilities
from llmservice_operator.kinds import (
    DEPLOYMENT,
    ENDPOINT_SLICE,
    LEADER_WORKER_SET,
    OWNED,
    SCALED_OBJECT,
    Kind,
)

CHART = Path(__file__).parents[3] / "charts" / "llmservice"
NEEDED = {"get", "list", "watch", "create", "patch", "delete"}


def granted() -> dict[tuple[str, str], set[str]]:
    """(group, resource) to the verbs of the chart's ClusterRole of the operator."""
    with Chart.load(CHART) as chart:
        text = chart.render({}, name="llmservice", namespace="system")
    texts = [one for name, one in text.items() if name.endswith(".yaml")]
    rendered: list[dict[str, Any]] = [
        one for each in texts for one in yaml.safe_load_all(each) if one
    ]
    roles = [
        one
        for one in rendered
        if (one["kind"], one["metadata"]["name"]) == ("ClusterRole", "llmservice")
    ]
    assert len(roles) == 1
    return {
        (group, resource): set(rule["verbs"])
        for rule in roles[0]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_a_kind_says_its_group_and_version() -> None:
    assert (DEPLOYMENT.group, DEPLOYMENT.version) == ("apps", "v1")
    assert (SCALED_OBJECT.group, SCALED_OBJECT.version) == ("keda.sh", "v1alpha1")
    assert Kind(api_version="v1", kind="Service", plural="services").group == ""


def test_no_kind_is_in_the_table_twice() -> None:
    assert len({(kind.api_version, kind.kind) for kind in OWNED}) == len(OWNED) > 0


def test_only_kinds_that_are_served_are_watched() -> None:
    assert LEADER_WORKER_SET not in NOTHING_OPTIONAL.watched()
    assert DEPLOYMENT in NOTHING_OPTIONAL.watched()
    some = Capabilities(frozenset({(LEADER_WORKER_SET.api_version, LEADER_WORKER_SET.kind)}))
    assert LEADER_WORKER_SET in some.watched()
    assert SCALED_OBJECT not in some.watched()
    assert some.has("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")


def test_endpoint_slices_that_kubernetes_makes_from_our_services_are_not_looked_at() -> None:
    ours = f"endpointslice.kubernetes.io/managed-by={names.FIELD_MANAGER}"
    assert ENDPOINT_SLICE.selector == f"{names.LABEL_NAME},{ours}"


@pytest.mark.parametrize("kind", OWNED, ids=lambda kind: kind.kind)
def test_the_chart_grants_what_owning_a_kind_needs(kind: Kind) -> None:
    assert granted()[kind.group, kind.plural] >= NEEDED
