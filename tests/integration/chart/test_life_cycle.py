"""Install, upgrade, roll back and uninstall with Helm on a real API server."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml
from cluster.controlplane import ControlPlane
from fakes.chart_release import DEFINITION, Installation
from fakes.rendered_chart import CHART, TOGGLES, merged

Json = dict[str, Any]

# Everything that can be left in a namespace by a release.
OWN = (
    "deploy,svc,cm,sa,role,rolebinding,networkpolicy,secret,lease,"
    "servicemonitor,podmonitor,prometheusrule"
)
EVERYTHING = merged(
    frozenset(TOGGLES) - {"in namespaces", "no definition", "no roles", "own account", "dashboards"}
)


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The chart as its next version might be: another version, and one more field."""
    chart = tmp_path / "llmservice"
    shutil.copytree(CHART, chart)
    page = chart / "Chart.yaml"
    page.write_text(page.read_text().replace("ersion: 0.1.0", "ersion: 0.2.0"))
    crd = chart / "templates" / "crds" / "llmservice.yaml"
    text = crd.read_text()
    known = "            spec:\n              type: object\n"
    assert text.count(known) == 1, "where the definition's spec begins"
    crd.write_text(
        text.replace(
            "              properties:\n                model:",
            "              properties:\n                invented: {type: string}\n"
            "                model:",
            1,
        )
    )
    assert "invented" in crd.read_text()
    return chart


def left_behind(release: Installation) -> set[str]:
    """What is in the namespace beyond what every namespace has."""
    found = set(release.kubectl("get", OWN, "-o", "name").split())
    found |= set(
        release.plane.kubectl(
            "get", "clusterrole,clusterrolebinding", "-o", "name",
            "-l", f"app.kubernetes.io/instance={release.name}",
        ).split()
    )  # fmt: skip
    return found - {"configmap/kube-root-ca.crt", "serviceaccount/default"}


def spec_fields(release: Installation) -> set[str]:
    """The fields of an LLMService's spec that the definition has."""
    (version,) = release.get(DEFINITION)["spec"]["versions"]
    return set(version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"])


def test_installation_is_deployed_and_says_how_to_go_on(release: Installation) -> None:
    said = release.install()
    assert said["status"] == "deployed"
    notes = release.config.get_all(release.name)["info"]["notes"]
    assert f"helm test llmservice --namespace {release.namespace}" in notes
    assert release.get("deploy/llmservice")["spec"]["replicas"] == 1
    assert release.get("svc/llmservice")
    assert release.serve()["spec"]["queue"]["policy"] == "SSJF"
    # Nothing runs before somebody asks for it.
    assert (
        release.kubectl("get", "pods", "-o", "name", "-l", "app.kubernetes.io/component=test") == ""
    )


def test_everything_together_can_be_installed_and_leaves_nothing(release: Installation) -> None:
    release.install(EVERYTHING)
    made = left_behind(release)
    for kind in ("networkpolicy", "servicemonitor", "podmonitor", "prometheusrule", "role."):
        assert any(name.startswith(kind) for name in made), kind
    release.uninstall()
    assert left_behind(release) == set()
    assert release.get(DEFINITION) == {}


def test_upgrade_and_rollback_take_the_definition_along_and_keep_services(
    release: Installation, newer: Path
) -> None:
    release.install()
    before = release.serve()
    assert "invented" not in spec_fields(release)

    release.upgrade({"logFormat": "json"}, chart=newer)
    assert "invented" in spec_fields(release)
    command = release.get("deploy/llmservice")["spec"]["template"]["spec"]["containers"][0][
        "command"
    ]
    assert "--log-format=json" in command
    release.kubectl("patch", "llmsvc/chat", "--type=merge", "-p", '{"spec":{"invented":"yes"}}')

    release.config.rollback(release.name)
    assert "invented" not in spec_fields(release)
    after = release.get("llmsvc/chat")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"] == before["spec"]
    # What the newer version wrote does not stop anybody from changing the service.
    release.kubectl("patch", "llmsvc/chat", "--type=merge", "-p", '{"spec":{"replicas":2}}')
    versions = [entry["revision"] for entry in release.config.history(release.name)]
    assert versions == [1, 2, 3]
    assert release.config.status(release.name)["status"] == "deployed"


def test_switches_can_be_turned_and_turned_back(release: Installation) -> None:
    release.install()
    plain = left_behind(release)
    release.upgrade({**EVERYTHING, "fullnameOverride": "", "nameOverride": ""})
    assert len(left_behind(release)) > len(plain)
    release.config.rollback(release.name)
    # Helm keeps a Secret of every revision.
    revisions = {f"secret/sh.helm.release.v1.llmservice.v{number}" for number in (1, 2, 3)}
    assert left_behind(release) | revisions == plain | revisions


def test_upgrade_and_rollback_leave_the_lease_to_its_holder(release: Installation) -> None:
    release.install()
    held = '{"spec":{"holderIdentity":"operator-1","leaseDurationSeconds":15}}'
    release.kubectl("patch", "lease/llmservice", "--type=merge", "-p", held)
    release.upgrade({"podLabels": {"team": "llm"}})
    assert release.get("lease/llmservice")["spec"]["holderIdentity"] == "operator-1"
    release.config.rollback(release.name)
    assert release.get("lease/llmservice")["spec"]["holderIdentity"] == "operator-1"


def test_uninstalling_keeps_definition_and_services_and_the_same_release_comes_back(
    release: Installation,
) -> None:
    release.install()
    before = release.serve()
    release.uninstall()
    assert left_behind(release) == set()
    assert release.served() == ["chat"]
    release.install()
    assert release.get("llmsvc/chat")["metadata"]["uid"] == before["metadata"]["uid"]


def test_uninstalling_without_keeping_takes_services_along_and_ends(release: Installation) -> None:
    release.install({"crds": {"keep": False}})
    release.serve()
    release.uninstall()
    assert left_behind(release) == set()
    assert release.get(DEFINITION) == {}
    assert release.served() == []


def test_definition_can_leave_the_release_without_leaving_the_cluster(
    release: Installation,
) -> None:
    release.install()
    release.serve()
    release.upgrade({"crds": {"install": False}})
    assert release.served() == ["chat"]


def test_another_release_does_not_take_the_definition_unasked(
    plane: ControlPlane, release: Installation
) -> None:
    release.install()
    other = Installation(plane, release.config, release.namespace, "second")
    with pytest.raises(helm.HelmReleaseError, match="invalid ownership metadata"):
        other.install()
    other.install({"crds": {"install": False}, "rbac": {"aggregate": False}})
    other.uninstall()
    assert release.get(DEFINITION)


def test_wrong_values_leave_nothing_behind(release: Installation) -> None:
    with pytest.raises(helm.HelmError, match="additional properties 'replicas' not allowed"):
        release.install({"replicas": 3})
    assert release.config.list(all_states=True) == []
    assert left_behind(release) == set()


def test_team_installs_it_in_its_namespaces_without_rights_on_the_cluster(
    plane: ControlPlane, release: Installation, tmp_path: Path
) -> None:
    crd = str(CHART.parents[1] / "crds" / "llmservice.yaml")
    plane.kubectl("apply", "--server-side", "-f", crd)
    release.kubectl("create", "rolebinding", "owner", "--clusterrole=cluster-admin",
                    f"--serviceaccount={release.namespace}:default")  # fmt: skip
    kubeconfig = release.kubeconfig("default", tmp_path)
    values = yaml.safe_load((CHART / "examples" / "namespaced.yaml").read_text())
    with helm.Config(kubeconfig_path=kubeconfig, namespace=release.namespace) as own:
        team = Installation(plane, own, release.namespace)
        assert team.install({**values, "namespaces": [release.namespace]})["status"] == "deployed"
        with pytest.raises(helm.HelmError, match="forbidden"):
            team.upgrade({"crds": {"install": False}})
        team.uninstall()


def test_operator_account_can_be_made_by_somebody_else(release: Installation) -> None:
    release.kubectl("create", "serviceaccount", "given")
    release.install({"serviceAccount": {"create": False, "name": "given"}})
    pod = release.get("deploy/llmservice")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "given"
    account = f"system:serviceaccount:{release.namespace}:given"
    assert may(release, account, "list", "llmservices.llmservice.dev")
    assert not may(release, account, "list", "secrets")
    release.uninstall()
    assert release.get("sa/given")


def may(release: Installation, account: str, verb: str, resource: str) -> bool:
    """Whether an account has a right, as the API server judges it."""
    try:
        said = release.kubectl("auth", "can-i", verb, resource, f"--as={account}")
    except subprocess.CalledProcessError as error:
        said = error.stdout
    return said.strip() == "yes"
