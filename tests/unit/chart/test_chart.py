"""The chart as Helm renders it, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import helm_python as helm
import pytest
import yaml
from llmservice_api import __version__, names

CHART: Final = Path(__file__).parents[3] / "charts" / "llmservice"


def render(values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """All objects of a release, as parsed YAML."""
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(values or {}, name="llmservice", namespace="system")
    manifests = [text for name, text in texts.items() if not name.endswith("NOTES.txt")]
    return [item for text in manifests for item in yaml.safe_load_all(text) if item]


def kinds(manifests: list[dict[str, Any]]) -> list[str]:
    return sorted(manifest["kind"] for manifest in manifests)


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(manifest for manifest in manifests if manifest["kind"] == kind)


def test_lint_finds_no_error_and_no_warning() -> None:
    warning = 2
    findings = helm.lint(CHART)
    assert [m for m in findings["messages"] if m["severity"] >= warning] == []


def test_chart_and_operator_image_have_the_one_version() -> None:
    with helm.Chart.load(CHART) as chart:
        assert chart.version == __version__
    (container,) = of_kind(render(), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{names.IMAGE_REPOSITORY}/operator:{__version__}"


def test_operator_runs_once_and_under_the_restricted_pod_security_level() -> None:
    spec = of_kind(render(), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    pod = spec["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_no_rule_has_a_wildcard_or_reads_secrets() -> None:
    roles = [m for m in render({"namespaces": ["a"]}) + render() if "rules" in m]
    assert len(roles) >= 4
    for role in roles:
        for rule in role["rules"]:
            words = rule["apiGroups"] + rule["resources"] + rule["verbs"]
            assert "*" not in words
            assert "secrets" not in words


def test_named_namespaces_need_no_cluster_role_for_the_operator() -> None:
    manifests = render({"namespaces": ["a", "b"], "rbac": {"aggregate": False}})
    assert "ClusterRole" not in kinds(manifests)
    roles = [m for m in manifests if m["kind"] == "Role"]
    assert [role["metadata"]["namespace"] for role in roles] == ["a", "b", "system"]
    (container,) = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert [w for w in container["command"] if "namespace" in w] == [
        "--namespace=a",
        "--namespace=b",
    ]


def test_definition_survives_uninstallation_unless_told_otherwise() -> None:
    policy = {"helm.sh/resource-policy": "keep"}
    definition = of_kind(render(), "CustomResourceDefinition")
    assert definition["metadata"]["annotations"] == policy
    removed = of_kind(render({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert "annotations" not in removed["metadata"]


def test_definition_can_be_left_out() -> None:
    assert "CustomResourceDefinition" not in kinds(render({"crds": {"install": False}}))


def test_definition_is_the_one_of_the_repository() -> None:
    source = yaml.safe_load((CHART.parents[1] / "crds" / "llmservice.yaml").read_text())
    assert of_kind(render(), "CustomResourceDefinition")["spec"] == source["spec"]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"replicas": 2}, id="an unknown key"),
        pytest.param({"image": {"repository": ""}}, id="an empty repository"),
        pytest.param({"namespaces": ["Not_a_name"]}, id="a name that no namespace can have"),
        pytest.param({"crds": {"keep": "yes"}}, id="a text for a switch"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm.HelmError, match="schema"):
        render(values)
