"""The API server's own judgement of everything that the chart can render."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from cluster.controlplane import ControlPlane
from fakes.chart_release import new_namespace
from fakes.rendered_chart import NAMESPACE, combinations, parse, pods, render_texts

Json = dict[str, Any]


@pytest.fixture(scope="module")
def objects() -> list[Json]:
    """Every object that the chart can render, once."""
    texts = {render_texts(values)[path] for path, _, values in combinations()}
    found = {json.dumps(item, sort_keys=True) for text in texts for item in parse(text)}
    return [json.loads(text) for text in sorted(found)]


@pytest.fixture(scope="module")
def places(plane: ControlPlane, objects: list[Json]) -> Iterator[None]:
    """The namespaces that the objects name, restricted, with the accounts that pods run under."""
    found = {item["metadata"].get("namespace") for item in objects} - {None}
    for name in sorted(found):
        new_namespace(plane, name)
    specs = [spec for item in objects for spec in pods([item]).values()]
    accounts = {spec.get("serviceAccountName", "default") for spec in specs}
    for account in sorted(accounts - {"default"}):
        plane.kubectl("-n", NAMESPACE, "create", "serviceaccount", account)
    plane.kubectl("-n", NAMESPACE, "wait", "--for=create", "sa/default", "--timeout=30s")
    yield
    plane.kubectl("delete", "namespace", *sorted(found), "--wait=false")


def dry_run(plane: ControlPlane, manifests: list[Json]) -> list[str]:
    """What the API server would create; CalledProcessError when it refuses or warns."""
    said = plane.kubectl(
        *("create", "--dry-run=server", "--validate=strict", "--warnings-as-errors"),
        *("-o", "name", "-f", "-"),
        stdin=yaml.safe_dump_all(manifests),
    )
    return said.split()


@pytest.mark.usefixtures("places")
def test_api_server_takes_every_object_without_a_warning(
    plane: ControlPlane, objects: list[Json]
) -> None:
    created = [item for item in objects if item["kind"] != "ServiceAccount"]
    assert len(created) > 100
    assert len(dry_run(plane, created)) == len(created)


@pytest.mark.usefixtures("places")
def test_every_pod_is_admitted_where_the_restricted_level_is_enforced(
    plane: ControlPlane, objects: list[Json]
) -> None:
    specs = {json.dumps(pod, sort_keys=True) for item in objects for pod in pods([item]).values()}
    assert len(specs) > 20
    made = [pod(f"pod-{number}", json.loads(spec)) for number, spec in enumerate(sorted(specs))]
    assert len(dry_run(plane, made)) == len(specs)


@pytest.mark.usefixtures("places")
def test_a_pod_that_is_not_restricted_is_refused_there(
    plane: ControlPlane, objects: list[Json]
) -> None:
    spec = next(iter(pods([item for item in objects if item["kind"] == "Deployment"]).values()))
    del spec["containers"][0]["securityContext"]
    with pytest.raises(subprocess.CalledProcessError) as refused:
        dry_run(plane, [pod("open", spec)])
    assert 'violates PodSecurity "restricted' in str(refused.value.stderr)


def pod(name: str, spec: Json) -> Json:
    """A pod of its own, as a controller would make it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }
