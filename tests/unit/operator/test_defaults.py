"""Cluster-wide defaults: what the file may say, and where it counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.manifests import IMAGES, SETTINGS, resource
from llmservice_operator.defaults import Defaults, DefaultsError, read_defaults
from llmservice_operator.desired import desired
from llmservice_operator.kube_json import Manifest
from llmservice_operator.service import parse_service, recorded_rendering, rendering

FULL = """
engineResources: {requests: {cpu: 4, memory: 20Gi}, limits: {memory: 24Gi}}
sidecarResources: {requests: {cpu: 500m}}
tracing: {exporterEndpoint: "http://otel:4318", exporter: otlp-http, samplerArg: "0.1"}
"""


def read(tmp_path: Path, text: str) -> Defaults:
    file = tmp_path / "defaults.yaml"
    file.write_text(text)
    return read_defaults(file)


def made(defaults: Defaults, before: Manifest | None = None, **spec: Any) -> Manifest:
    """The Deployment of such a service, after `before` if there was one."""
    settings = replace(SETTINGS, defaults=defaults)
    given: dict[str, Any] = {"engine": {"device": "CPU"}, **spec}
    service = parse_service(resource(**given), recorded=recorded_rendering(before))
    return next(item for item in desired(service, settings) if item["kind"] == "Deployment")


def containers(deployment: Manifest) -> tuple[Manifest, Manifest]:
    pod = deployment["spec"]["template"]["spec"]
    return pod["containers"][0], pod["initContainers"][-1]


def test_a_service_that_says_nothing_gets_the_defaults(tmp_path: Path) -> None:
    engine, sidecar = containers(made(read(tmp_path, FULL)))
    assert engine["resources"] == {
        "requests": {"cpu": 4, "memory": "20Gi"},
        "limits": {"memory": "24Gi"},
    }
    assert sidecar["resources"] == {"requests": {"cpu": "500m"}}
    assert "http://otel:4318" in engine["args"]


def test_what_a_service_says_itself_counts(tmp_path: Path) -> None:
    own = {"requests": {"cpu": "1"}}
    engine, sidecar = containers(
        made(
            read(tmp_path, FULL),
            engine={"device": "CPU", "resources": own},
            predictor={"resources": own},
            tracing={"exporterEndpoint": "http://mine:4317"},
        )
    )
    assert (engine["resources"], sidecar["resources"]) == (own, own)
    assert "http://mine:4317" in engine["args"]
    assert "http://otel:4318" not in engine["args"]


def test_a_service_that_wants_no_spans_gets_none(tmp_path: Path) -> None:
    engine, _ = containers(made(read(tmp_path, FULL), tracing={"exporter": "none"}))
    assert "--otlp-traces-endpoint" not in engine["args"]


def test_tracing_without_an_endpoint_keeps_its_own_sampler(tmp_path: Path) -> None:
    defaults = read(tmp_path, FULL)
    spec = parse_service(resource(tracing={"sampler": "always_off"})).spec
    tracing = defaults.completed(spec).tracing
    assert tracing is not None
    assert (tracing.exporter_endpoint, tracing.sampler) == ("http://otel:4318", "always_off")


def test_other_defaults_restart_nothing_until_the_spec_changes(tmp_path: Path) -> None:
    old, new = read(tmp_path, FULL), read(tmp_path, FULL.replace("cpu: 4", "cpu: 8"))
    first = made(old)
    assert made(new, first)["spec"]["template"] == first["spec"]["template"]
    changed = made(new, first, engine={"device": "CPU", "maxNumSeqs": 7})
    assert containers(changed)[0]["resources"]["requests"]["cpu"] == 8


def test_without_defaults_nothing_is_recorded_about_them() -> None:
    record = rendering(parse_service(resource()), IMAGES)
    assert "defaults" not in msgspec.to_builtins(record)


def test_an_empty_file_has_none(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Defaults()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("engineResource: {}", "unknown field `engineResource`"),
        ("engineResources: {request: {}}", "unknown field `request` - at `$.engineResources`"),
        ("engineResources: {requests: {cpu: [1]}}", "at `$.engineResources.requests[...]`"),
        ("tracing: {samplerArg: '1'}", "missing required field `exporterEndpoint`"),
        ("tracing: {exporterEndpoint: 'otel:4317'}", "at `$.tracing.exporterEndpoint`"),
        ("tracing: {exporterEndpoint: 'http://o', samplerArg: '2'}", "at `$.tracing.samplerArg`"),
        ("tracing: {exporterEndpoint: 'http://o', sampler: 'some'}", "at `$.tracing.sampler`"),
        ("[]", "Expected `object`"),
        ("{", "neither JSON nor YAML"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_path(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(DefaultsError) as refused:
        read(tmp_path, text)
    assert said in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefaultsError, match="cannot be read: No such file"):
        read_defaults(tmp_path / "absent.yaml")
