"""Many LLMServices in one namespace: made, changed by a seed, and compared with another fleet."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

from fakes.live_operator import LiveOperator
from fakes.rest import Rest

Json = dict[str, Any]

OWNED = (
    "deployments", "services", "configmaps", "serviceaccounts", "poddisruptionbudgets",
    "horizontalpodautoscalers",
)  # fmt: skip
_LABEL = "llmservice.dev/name"
# What the API server and its controllers say, which tells when something was done, not what.
_FLEETING = {
    "uid", "resourceVersion", "creationTimestamp", "managedFields", "clusterIP", "clusterIPs",
    "lastTransitionTime", "deployment.kubernetes.io/revision",
    "llmservice.dev/static-config-hash",  # of static.json, which is compared: it has the namespace
}  # fmt: skip


class Fleet:
    """The services of one namespace."""

    def __init__(self, rest: Rest, namespace: str) -> None:
        self.rest = rest
        self.namespace = namespace

    def create(self, name: str, spec: Json) -> None:
        """A new service."""
        manifest = {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": name},
            "spec": spec,
        }
        self.rest.must("POST", self.rest.path("llmservices", self.namespace), manifest)

    def patch(self, name: str, spec: Json) -> None:
        """A change."""
        self.rest.must("PATCH", self.path(name), {"spec": spec})

    def delete(self, name: str) -> None:
        """The end of a service."""
        self.rest.must("DELETE", self.path(name))

    def path(self, name: str) -> str:
        """The path of a service."""
        return self.rest.path("llmservices", self.namespace, name)

    def versions(self) -> dict[str, str]:
        """The version of everything that the operator could have written."""
        found = {"llmservices": self.rest.list("llmservices", self.namespace)}
        found |= {kind: self._owned(kind) for kind in OWNED}
        return {
            f"{kind}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for kind, items in found.items()
            for item in items
        }

    def state(self) -> dict[str, str]:
        """Every service and owned object without what is fleeting, as text to compare."""
        services = self.rest.list("llmservices", self.namespace)
        state = {
            f"llmservices/{item['metadata']['name']}": self._lasting(item) for item in services
        }
        for kind in OWNED:
            for item in self._owned(kind):
                # A Deployment's status and generation are its controller's.
                kept = {key: value for key, value in item.items() if key != "status"}
                kept["metadata"] = {k: v for k, v in item["metadata"].items() if k != "generation"}
                state[f"{kind}/{item['metadata']['name']}"] = self._lasting(kept)
        return state

    def _owned(self, kind: str) -> list[Json]:
        return self.rest.list(kind, self.namespace, labelSelector=_LABEL)

    def _lasting(self, item: Json) -> str:
        text = json.dumps(_without_fleeting(item), sort_keys=True, indent=1)
        return text.replace(self.namespace, "NAMESPACE")


def _without_fleeting(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_fleeting(v) for k, v in value.items() if k not in _FLEETING}  # pyright: ignore[reportUnknownVariableType] - JSON
    if isinstance(value, list):
        return [_without_fleeting(entry) for entry in value]  # pyright: ignore[reportUnknownVariableType] - JSON
    return value


def differences(one: Fleet, other: Fleet) -> dict[str, tuple[str, str]]:
    """The objects that are not the same in both."""
    left, right = one.state(), other.state()
    return {
        name: (left.get(name, "absent"), right.get(name, "absent"))
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    }


def spec_of(number: int, *, suspended: bool = False) -> Json:
    """A spec that differs from its neighbours'; one in seven is scaled by itself."""
    policies = ("SSJF", "FCFS", "HRRN", "PromptCost")
    spec: Json = {
        "model": {"uri": f"file:///models/{number % 7}"},
        "engine": {"device": "CPU", "maxNumSeqs": 4 + number % 3},
        "queue": {"policy": policies[number % len(policies)]},
        "suspend": suspended,
    }
    return spec | ({"scaling": {"maxReplicas": 3}} if _scales(number) else {})


def change_of(rng: random.Random, number: int) -> Json:
    """A change of the service of that number, by chance."""
    scale: Json = {"replicas": rng.randint(0, 2)}
    if _scales(number):
        scale = {"scaling": {"maxReplicas": rng.randint(3, 9)}}
    changes: tuple[Json, ...] = (
        {"queue": {"policy": rng.choice(("SSJF", "FCFS", "HRRN"))}},
        {"engine": {"maxNumSeqs": rng.randint(1, 64)}},
        {"suspend": rng.random() < 0.5},
        {"disruptionBudget": {"maxUnavailable": rng.randint(1, 9)}},
        {"tracing": {"exporterEndpoint": f"http://otel-{rng.randint(1, 9)}:4317"}},
        scale,
    )
    return rng.choice(changes)


def _scales(number: int) -> bool:
    return number % 7 == 3


def metric(operator: LiveOperator, name: str, **labels: str) -> float:
    """The sum of a metric of the operator over all series with these labels; 0 without any."""
    total = 0.0
    for found in re.finditer(rf"^{name}(?:\{{(.*)\}})? (\S+)$", operator.metrics(), re.MULTILINE):
        if all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
            total += float(found[2])
    return total


def quantile(operator: LiveOperator, name: str, share: float) -> float:
    """The upper bound of the histogram's bucket in which that share of observations is reached."""
    pattern = rf'^{name}_bucket\{{le="([^"]+)"\}} (\S+)$'
    buckets = [
        (float(bound), float(count))
        for bound, count in re.findall(pattern, operator.metrics(), re.MULTILINE)
    ]
    wanted = share * buckets[-1][1]
    return next(bound for bound, count in buckets if count >= wanted)


def memory_mib(operator: LiveOperator) -> tuple[float, float]:
    """Resident memory of the operator now and at its highest."""
    text = Path(f"/proc/{operator.pid}/status").read_text()
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", text, re.MULTILINE))
    return int(found["VmRSS"]) / 1024, int(found["VmHWM"]) / 1024
