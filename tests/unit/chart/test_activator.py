"""The activator's part of the chart: off by default, and one with the operator and its program."""

from __future__ import annotations

from typing import Any

from fakes.rendered_chart import NAMESPACE, TOGGLES, of_kind, render
from llmservice_api import names
from llmservice_operator.__main__ import parser as operator_parser
from llmservice_sidecar.activator.__main__ import parser, settings_of

Json = dict[str, Any]


def deployments(values: Json) -> dict[str, Json]:
    """By component."""
    return {
        item["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]: item
        for item in of_kind(render(values), "Deployment")
    }


def command(deployment: Json) -> list[str]:
    """The arguments after the module."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container["command"][3:]


def test_without_the_switch_there_is_no_activator_and_the_operator_knows_of_none() -> None:
    found = deployments({})
    assert set(found) == {"operator"}
    assert not [word for word in command(found["operator"]) if "activator" in word]


def test_the_operator_finds_exactly_the_activators_pods() -> None:
    found = deployments(TOGGLES["activator"])
    given = operator_parser().parse_args(command(found["operator"]))
    selected = dict(term.split("=") for term in given.activator_selector.split(","))
    labels = found["activator"]["spec"]["template"]["metadata"]["labels"]
    assert selected.items() <= labels.items()
    assert selected == found["activator"]["spec"]["selector"]["matchLabels"]
    assert given.activator_namespace == NAMESPACE


def test_the_program_understands_its_command_line_with_the_defaults_of_the_values() -> None:
    given = parser().parse_args(command(deployments(TOGGLES["activator"])["activator"]))
    settings = settings_of(given)
    assert settings.operator_url == f"http://llmservice.{NAMESPACE}.svc:8081"
    assert (settings.limits.max_held, settings.limits.hold_s) == (1000, 600)
    assert settings == settings_of(parser().parse_args([f"--operator-url={settings.operator_url}"]))


def test_the_pod_gets_the_time_that_its_drain_may_take() -> None:
    values = {"activator": {"enabled": True, "drainTimeoutSeconds": 90}}
    deployment = deployments(values)["activator"]
    pod = deployment["spec"]["template"]["spec"]
    settings = settings_of(parser().parse_args(command(deployment)))
    assert settings.drain_timeout_s == 90
    assert (
        pod["terminationGracePeriodSeconds"] >= settings.announce_s + settings.drain_timeout_s + 5
    )
    assert pod["automountServiceAccountToken"] is False


def test_the_network_policy_opens_the_ports_that_the_operator_gives() -> None:
    policies = of_kind(render(TOGGLES["activator"] | TOGGLES["network policy"]), "NetworkPolicy")
    (policy,) = [one for one in policies if one["metadata"]["name"].endswith("-activator")]
    (ports,) = policy["spec"]["ingress"][0]["ports"]
    assert (ports["port"], ports["endPort"]) == (
        names.ACTIVATOR_FIRST_PORT,
        names.ACTIVATOR_LAST_PORT,
    )


def test_in_single_namespaces_the_operator_may_follow_the_activators_pods() -> None:
    def roles(namespaces: list[str]) -> list[Json]:
        found = of_kind(render(TOGGLES["activator"] | {"namespaces": namespaces}), "Role")
        return [role for role in found if role["metadata"]["name"].endswith("-activator")]

    (role,) = roles(["team"])
    assert role["metadata"]["namespace"] == NAMESPACE
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
    assert roles(["team", NAMESPACE]) == []
