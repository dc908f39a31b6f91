"""The chart as Helm renders it without a cluster, and every combination of its switches."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import helm_python as helm
import yaml

Json = dict[str, Any]

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "charts" / "llmservice"
RELEASE: Final = "llmservice"
NAMESPACE: Final = "system"

# One way in which an installation may differ from the default; all of them together are valid, too.
TOGGLES: Final[Mapping[str, Json]] = {
    "in namespaces": {"namespaces": ["team-a", "team-b"]},
    "no definition": {"crds": {"install": False}},
    "definition goes": {"crds": {"keep": False}},
    "no roles": {"rbac": {"create": False}},
    "no roles for people": {"rbac": {"aggregate": False}},
    "own account": {"serviceAccount": {"create": False, "name": "existing"}},
    "named": {"fullnameOverride": "models", "nameOverride": "serving"},
    "network policy": {
        "networkPolicy": {
            "enabled": True,
            "monitoringNamespaces": ["monitoring"],
            "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        }
    },
    "activator": {
        "activator": {
            "enabled": True,
            "podLabels": {"team": "llm"},
            "podAnnotations": {"example.com/owner": "llm"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "priorityClassName": "system-cluster-critical",
        }
    },
    "service monitor": {"monitoring": {"serviceMonitor": {"enabled": True}}},
    "pod monitor": {"monitoring": {"podMonitor": {"enabled": True}}},
    "alerts": {"monitoring": {"prometheusRule": {"enabled": True, "alertLabels": {"team": "llm"}}}},
    "monitoring labels": {"monitoring": {"labels": {"release": "prometheus"}}},
    "dashboards": {
        "dashboards": {
            "enabled": True,
            "namespace": "monitoring",
            "annotations": {"grafana_folder": "LLMService"},
        }
    },
    "defaults": {
        "defaults": {
            "images": {"sidecar": "registry.example.com/s:1"},
            "engineResources": {"limits": {"nvidia.com/gpu": 1}},
            "tracing": {"exporterEndpoint": "http://collector:4317", "samplerArg": "0.05"},
        }
    },
    "pod": {
        "images": {"pullSecrets": [{"name": "registry"}], "pullPolicy": "Always"},
        "runAsUser": None,
        "logFormat": "json",
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "podLabels": {"team": "llm"},
        "podAnnotations": {"example.com/owner": "llm"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 1,
                        "preference": {
                            "matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]
                        },
                    }
                ]
            }
        },
        "priorityClassName": "system-cluster-critical",
    },
}  # fmt: skip


def render(values: Json | None = None, *, name: str = RELEASE) -> list[Json]:
    """All objects of a release, `helm test`'s among them."""
    return [item for text in render_texts(values, name=name).values() for item in parse(text)]


def render_texts(values: Json | None = None, *, name: str = RELEASE) -> dict[str, str]:
    """The text of every template but NOTES.txt by its path in `templates/`."""
    texts = _chart().render(values or {}, name=name, namespace=NAMESPACE)
    prefix = "llmservice/templates/"
    return {
        path.removeprefix(prefix): text for path, text in texts.items() if path.endswith(".yaml")
    }


def notes(values: Json | None = None) -> str:
    """What Helm prints after an installation."""
    texts = _chart().render(values or {}, name=RELEASE, namespace=NAMESPACE)
    return texts["llmservice/templates/NOTES.txt"]


def parse(text: str) -> list[Json]:
    """The objects in a text; ValueError for a key that a mapping has twice."""
    return [item for item in yaml.load_all(text, Loader=_NoDuplicates) if item]


def combinations() -> Iterator[tuple[str, frozenset[str], Json]]:
    """For every template all combinations of the switches that it reads: path, switches, values."""
    for path in sorted(render_texts()):
        ours = [toggle for toggle, values in TOGGLES.items() if set(values) & read_by(path)]
        for chosen in itertools.product((False, True), repeat=len(ours)):
            names = frozenset(itertools.compress(ours, chosen))
            yield path, names, merged(names)


def merged(toggles: frozenset[str]) -> Json:
    """The values of several switches together."""
    values: Json = {}
    for toggle in TOGGLES:
        if toggle in toggles:
            _merge(values, TOGGLES[toggle])
    return values


@cache
def read_by(path: str) -> frozenset[str]:
    """The top-level values that a template reads, in itself or in what it includes."""
    templates = CHART / "templates"
    named: dict[str, str] = {}
    for helpers in templates.glob("*.tpl"):
        parts = re.split(r'{{- define "([^"]+)" -}}', helpers.read_text(encoding="utf-8"))
        named |= dict(zip(parts[1::2], parts[2::2], strict=True))
    found: set[str] = set()
    seen: set[str] = set()
    texts = [(templates / path).read_text(encoding="utf-8")]
    while texts:
        text = texts.pop()
        found |= set(re.findall(r"\.Values\.(\w+)", text))
        for name in set(re.findall(r'include "([^"]+)"', text)) - seen:
            seen.add(name)
            texts.append(named[name])
    return frozenset(found)


def pods(manifests: list[Json]) -> dict[str, Json]:
    """The pod specs among the objects, by kind and name."""
    found: dict[str, Json] = {}
    for item in manifests:
        spec: Json = item.get("spec", {})
        pod = spec if item["kind"] == "Pod" else spec.get("template", {}).get("spec")
        if pod is not None:
            found[f"{item['kind']}/{item['metadata']['name']}"] = pod
    return found


def of_kind(manifests: list[Json], kind: str) -> list[Json]:
    """The objects of one kind."""
    return [item for item in manifests if item["kind"] == kind]


def _merge(into: Json, values: Json) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], cast("Json", value))
        else:
            into[key] = copy.deepcopy(cast("Any", value))


@cache
def _chart() -> helm.Chart:
    return helm.Chart.load(CHART)


class _NoDuplicates(yaml.CSafeLoader):
    """As the API server reads it: a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"line {node.start_mark.line + 1}: {', '.join(sorted(twice))} twice")
        return super().construct_mapping(node, deep=deep)
