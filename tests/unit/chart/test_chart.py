"""The chart as Helm renders it, without a cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import helm_python as helm
import pytest
import yaml
from fakes.rendered_chart import (
    CHART,
    NAMESPACE,
    ROOT,
    TOGGLES,
    merged,
    notes,
    of_kind,
    parse,
    pods,
    render,
)
from fakes.strict_schemas import validate
from llmservice_api import __version__, names
from llmservice_operator.defaults import DefaultTracing, read_defaults
from msgspec.structs import fields

Json = dict[str, Any]

WARNING: Final = 2
EVERYTHING: Final = merged(frozenset(TOGGLES) - {"no definition", "no roles", "own account"})


def operator_container(values: Json | None = None) -> Json:
    """The operator's one container."""
    (deployment,) = of_kind(render(values), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["by default", "with everything on"])
def test_strict_lint_finds_no_error_and_no_warning(values: Json) -> None:
    findings = helm.lint(CHART, values, strict=True)
    assert [m for m in findings["messages"] if m["severity"] >= WARNING] == []


def test_chart_and_images_have_the_one_version() -> None:
    with helm.Chart.load(CHART) as chart:
        assert chart.version == __version__
    container = operator_container()
    assert container["image"] == f"{names.IMAGE_REPOSITORY}/operator:{__version__}"
    for image in ("sidecar", "engine", "engine-cpu"):
        flag = f"--{image}-image={names.IMAGE_REPOSITORY}/{image}:{__version__}"
        assert flag in container["command"]


def test_one_value_moves_all_images_to_another_registry() -> None:
    values = {"images": {"repository": "registry.example.com:5000/llm", "tag": "v9"}}
    text = json.dumps(render(values))
    assert names.IMAGE_REPOSITORY not in text
    found = set(re.findall(r"registry\.example\.com:5000/llm/([a-z-]+):v9", text))
    assert found == set(names.IMAGES)


def test_chart_needs_the_kubernetes_that_the_pods_need() -> None:
    with helm.Chart.load(CHART) as chart:
        assert chart.metadata["kubeVersion"] == ">=1.33.0-0"


def test_operator_runs_once_and_the_old_one_ends_first() -> None:
    (deployment,) = of_kind(render(), "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_operator_may_write_the_lease_that_it_is_told_and_no_other() -> None:
    for name in ("llmservice", "other"):
        manifests = render({"fullnameOverride": name})
        (container,) = next(iter(pods(of_kind(manifests, "Deployment")).values()))["containers"]
        assert f"--lease={name}" in container["command"]
        role = next(
            m for m in of_kind(manifests, "Role") if m["metadata"]["name"].endswith("leader")
        )
        assert role["metadata"]["namespace"] == NAMESPACE
        verbs = {(tuple(r.get("resourceNames", ())), *r["verbs"]) for r in role["rules"]}
        assert verbs == {((), "create"), ((name,), "get", "update")}


def test_operator_is_told_its_own_address() -> None:
    manifests = render()
    (service,) = of_kind(manifests, "Service")
    (deployment,) = of_kind(manifests, "Deployment")
    address = f"http://{service['metadata']['name']}.{NAMESPACE}.svc:8081/backlog"
    assert f"--backlog-url={address}" in operator_container()["command"]
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {
        "http": 8081,
        "health": 8080,
    }
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_selectors_are_the_same_in_every_upgrade() -> None:
    def selectors(values: Json) -> list[Json]:
        found = render(values)
        deployments = [
            item
            for item in of_kind(found, "Deployment")
            if not item["metadata"]["name"].endswith("-activator")
        ]
        return [
            deployments[0]["spec"]["selector"]["matchLabels"],
            of_kind(found, "Service")[0]["spec"]["selector"],
        ]

    known = {
        "app.kubernetes.io/name": "llmservice",
        "app.kubernetes.io/instance": "llmservice",
        "app.kubernetes.io/component": "operator",
    }
    assert selectors({}) == [known, known]
    assert selectors({**EVERYTHING, "nameOverride": ""}) == [known, known]


def test_defaults_are_a_file_of_the_operator_and_another_file_restarts_it() -> None:
    def annotations(endpoint: str) -> Json:
        manifests = render({"defaults": {"tracing": {"exporterEndpoint": endpoint}}})
        (config,) = of_kind(manifests, "ConfigMap")
        told = json.loads(config["data"]["defaults.json"])
        assert told == {"tracing": {"exporterEndpoint": endpoint}}
        (deployment,) = of_kind(manifests, "Deployment")
        return deployment["spec"]["template"]["metadata"]["annotations"]

    assert annotations("http://a:4317") != annotations("http://b:4317")
    flag = "--defaults=/etc/llmservice/defaults.json"
    assert (
        flag
        in operator_container({"defaults": {"engineResources": {"limits": {"cpu": 2}}}})["command"]
    )
    assert flag not in operator_container()["command"]


def test_everything_that_the_operator_knows_of_tracing_can_be_set(tmp_path: Path) -> None:
    endpoint = "http://a:4318"
    given = DefaultTracing(
        exporter_endpoint=endpoint, exporter="otlp-http", sampler="traceidratio", sampler_arg="0.1"
    )
    values = {field.encode_name: getattr(given, field.name) for field in fields(DefaultTracing)}
    assert None not in values.values()
    (config,) = of_kind(render({"defaults": {"tracing": values}}), "ConfigMap")
    path = tmp_path / "defaults.json"
    path.write_text(config["data"]["defaults.json"], encoding="utf-8")
    assert read_defaults(path).tracing == given


def test_named_namespaces_need_no_cluster_role_for_the_operator() -> None:
    manifests = render({"namespaces": ["a", "b"], "rbac": {"aggregate": False}})
    assert of_kind(manifests, "ClusterRole") == []
    places = [
        (m["metadata"]["name"], m["metadata"]["namespace"]) for m in of_kind(manifests, "Role")
    ]
    assert places == [("llmservice", "a"), ("llmservice", "b"), ("llmservice-leader", NAMESPACE)]
    command = operator_container({"namespaces": ["a", "b"]})["command"]
    assert [w for w in command if w.startswith("--namespace=")] == [
        "--namespace=a",
        "--namespace=b",
    ]


def test_definition_survives_uninstallation_unless_told_otherwise() -> None:
    (definition,) = of_kind(render(), "CustomResourceDefinition")
    assert definition["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    (removed,) = of_kind(render({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert "annotations" not in removed["metadata"]
    assert of_kind(render({"crds": {"install": False}}), "CustomResourceDefinition") == []


def test_definition_is_the_one_of_the_repository() -> None:
    source = yaml.safe_load((ROOT / "crds" / "llmservice.yaml").read_text(encoding="utf-8"))
    (definition,) = of_kind(render(), "CustomResourceDefinition")
    assert definition["spec"] == source["spec"]


def test_no_hook_runs_but_the_test() -> None:
    hooks = {
        item["metadata"]["name"]: item["metadata"]["annotations"]["helm.sh/hook"]
        for item in render(EVERYTHING)
        if "helm.sh/hook" in item["metadata"].get("annotations", {})
    }
    assert hooks == {"models-test": "test"}


def test_notes_say_what_is_watched_and_what_uninstalling_deletes() -> None:
    assert "watches the whole cluster" in notes()
    assert "watches a, b." in notes({"namespaces": ["a", "b"]})
    assert "keeps the definition and every LLMService" in notes()
    assert "deletes every LLMService of the cluster" in notes({"crds": {"keep": False}})
    assert "the operator waits for it" in notes({"crds": {"install": False}})


def test_service_in_the_notes_is_one_that_the_definition_takes() -> None:
    manifest = notes().split("<<YAML\n")[1].split("  YAML\n")[0]
    service = yaml.safe_load(manifest.replace("CLAIM/PATH", "models/tiny"))
    validate(service)
    assert f"kubectl port-forward service/{service['metadata']['name']} " in notes()


def test_catalogues_are_told_of_the_kind_that_the_chart_brings() -> None:
    with helm.Chart.load(CHART) as chart:
        told = yaml.safe_load(chart.metadata["annotations"]["artifacthub.io/crds"])
    (definition,) = of_kind(render(), "CustomResourceDefinition")
    assert [(entry["kind"], entry["name"], entry["version"]) for entry in told] == [
        (names.KIND, definition["metadata"]["name"], names.VERSION)
    ]


def test_notes_warn_when_prometheus_is_shut_out() -> None:
    values: Json = {
        "networkPolicy": {"enabled": True},
        "monitoring": {"podMonitor": {"enabled": True}},
    }
    assert "Prometheus cannot reach" in notes(values)
    values["networkPolicy"] = {"enabled": True, "monitoringNamespaces": ["monitoring"]}
    assert "Prometheus cannot reach" not in notes(values)


def test_packaged_chart_renders_the_same(tmp_path: Path) -> None:
    archive = Path(helm.package(CHART, destination=tmp_path))
    assert archive.name == f"llmservice-{__version__}.tgz"
    with helm.Chart.load_archive(archive.read_bytes()) as packaged:
        texts = packaged.render(EVERYTHING, name="llmservice", namespace=NAMESPACE)
    found = [item for path, text in texts.items() if path.endswith(".yaml") for item in parse(text)]
    assert sorted(map(str, found)) == sorted(map(str, render(EVERYTHING)))
