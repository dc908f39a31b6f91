"""Values that are refused before anything reaches a cluster, each with its key in the message."""

from __future__ import annotations

from typing import Any

import helm_python as helm
import pytest
from fakes.rendered_chart import render

Json = dict[str, Any]

UNKNOWN: list[tuple[str, Json]] = [
    ("replicas", {"replicas": 2}),
    ("image", {"image": {"repository": "old/key"}}),
    ("Namespaces", {"Namespaces": ["a"]}),
    ("registry", {"images": {"registry": "example.com"}}),
    ("annotations", {"images": {"pullSecrets": [{"name": "a", "annotations": {}}]}}),
    ("image", {"defaults": {"image": {}}}),
    ("gpu", {"defaults": {"images": {"gpu": "a:1"}}}),
    ("claims", {"defaults": {"engineResources": {"claims": []}}}),
    ("endpoint", {"defaults": {"tracing": {"endpoint": "http://a:1"}}}),
    ("delete", {"crds": {"delete": True}}),
    ("secrets", {"rbac": {"secrets": True}}),
    ("automount", {"serviceAccount": {"automount": True}}),
    ("request", {"resources": {"request": {}}}),
    ("effects", {"tolerations": [{"key": "a", "effects": "NoSchedule"}]}),
    ("nodeAffinty", {"affinity": {"nodeAffinty": {}}}),
    (
        "preferred",
        {"affinity": {"podAntiAffinity": {"preferred": []}}},
    ),
    ("values", {"env": [{"name": "A", "values": "b"}]}),
    ("secretRef", {"env": [{"name": "A", "valueFrom": {"secretRef": {}}}]}),
    ("enable", {"networkPolicy": {"enable": True}}),
    ("from", {"networkPolicy": {"extraEgress": [{"from": []}]}}),
    ("period", {"monitoring": {"serviceMonitor": {"period": "30s"}}}),
    ("threshold", {"monitoring": {"prometheusRule": {"threshold": 1}}}),
    ("ports", {"activator": {"ports": [1]}}),
    ("label", {"dashboards": {"label": "grafana"}}),
]

WRONG: list[tuple[str, Json]] = [
    ("/images/repository", {"images": {"repository": ""}}),
    ("/images/repository", {"images": {"repository": "https://example.com/llm"}}),
    ("/images/tag", {"images": {"tag": 1.5}}),
    ("/images/operator", {"images": {"operator": "name with spaces"}}),
    ("/images/pullPolicy", {"images": {"pullPolicy": "Sometimes"}}),
    ("/images/pullSecrets/0", {"images": {"pullSecrets": ["registry"]}}),
    ("/defaults/images/sidecar", {"defaults": {"images": {"sidecar": "a@sha256:short"}}}),
    ("/defaults/engineResources/limits/memory",
     {"defaults": {"engineResources": {"limits": {"memory": "10GB"}}}}),
    ("/defaults/sidecarResources/requests",
     {"defaults": {"sidecarResources": {"requests": {"ram": "1Gi"}}}}),
    ("/defaults/tracing/exporterEndpoint",
     {"defaults": {"tracing": {"exporterEndpoint": "collector:4317"}}}),
    ("/defaults/tracing/sampler", {"defaults": {"tracing": {"sampler": "sometimes"}}}),
    ("/defaults/tracing/samplerArg", {"defaults": {"tracing": {"samplerArg": 0.05}}}),
    ("/defaults/tracing/exporter", {"defaults": {"tracing": {"exporter": "none"}}}),
    # The operator asks for an endpoint as soon as anything of tracing is set.
    ("/defaults/tracing/exporterEndpoint",
     {"defaults": {"tracing": {"sampler": "parentbased_traceidratio"}}}),
    ("/defaults/tracing/exporterEndpoint", {"defaults": {"tracing": {"samplerArg": "0.05"}}}),
    ("/defaults/tracing/exporterEndpoint", {"defaults": {"tracing": {"exporter": "otlp-http"}}}),
    ("/namespaces/0", {"namespaces": ["Not_a_name"]}),
    ("/namespaces", {"namespaces": "team-a"}),
    ("/namespaces", {"namespaces": ["team-a", "team-a"]}),
    ("/crds/keep", {"crds": {"keep": "yes"}}),
    ("/rbac/create", {"rbac": {"create": 1}}),
    ("/serviceAccount/name", {"serviceAccount": {"create": False}}),
    ("/serviceAccount/name", {"serviceAccount": {"name": "Big"}}),
    ("/fullnameOverride", {"fullnameOverride": "x" * 51}),
    ("/nameOverride", {"nameOverride": "-a"}),
    ("/logFormat", {"logFormat": "xml"}),
    ("/runAsUser", {"runAsUser": 0}),
    ("/podLabels/app.kubernetes.io~1name", {"podLabels": {"app.kubernetes.io/name": "mine"}}),
    ("/podLabels/team", {"podLabels": {"team": "two words"}}),
    ("/podAnnotations", {"podAnnotations": {"a/b/c": "x"}}),
    ("/tolerations/0/effect", {"tolerations": [{"effect": "Never"}]}),
    ("/env/0", {"env": [{"value": "nameless"}]}),
    ("/networkPolicy/apiServerPorts/0", {"networkPolicy": {"apiServerPorts": [70000]}}),
    ("/networkPolicy/apiServerPorts", {"networkPolicy": {"apiServerPorts": []}}),
    ("/monitoring/podMonitor/interval", {"monitoring": {"podMonitor": {"interval": 15}}}),
    ("/monitoring/prometheusRule/refusedPercent",
     {"monitoring": {"prometheusRule": {"refusedPercent": 200}}}),
    ("/monitoring/prometheusRule/backlogSeconds",
     {"monitoring": {"prometheusRule": {"backlogSeconds": 0}}}),
    ("/activator/replicas", {"activator": {"replicas": 0}}),
    ("/activator/maxHoldSeconds", {"activator": {"maxHoldSeconds": "10m"}}),
    ("/dashboards/namespace", {"dashboards": {"namespace": "A"}}),
]  # fmt: skip


def test_the_table_is_long_enough() -> None:
    assert len(UNKNOWN) + len(WRONG) >= 50


@pytest.mark.parametrize(
    ("key", "values"), UNKNOWN, ids=[f"{k} in {next(iter(v))}" for k, v in UNKNOWN]
)
def test_an_unknown_key_is_refused_by_name(key: str, values: Json) -> None:
    with pytest.raises(helm.HelmError, match="schema") as refused:
        render(values)
    assert f"additional properties '{key}' not allowed" in str(refused.value)


@pytest.mark.parametrize(
    ("path", "values"), WRONG, ids=[f"{p} {i}" for i, (p, _) in enumerate(WRONG)]
)
def test_a_wrong_value_is_refused_by_its_path(path: str, values: Json) -> None:
    with pytest.raises(helm.HelmError, match="schema") as refused:
        render(values)
    assert f"at '{path}'" in str(refused.value)
