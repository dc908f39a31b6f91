"""Changes that restart nothing: queue, scale, rollout, routes and what else is around the pods."""

from __future__ import annotations

from typing import Any

from integration.operator.field_changes import Change, Json, exists, live, the

_LIMITS: Json = {"scaling": {"maxReplicas": 5}, "suspend": False}
_RUNS: Json = {"suspend": False}
_HPA = "horizontalpodautoscalers"


def _queue(name: str, old: Any, new: Any, told: str, seen: tuple[Any, Any]) -> Change:
    return Change(f"queue.{name}", old, new, live(told), seen, restarts=False)


def _class(name: str, old: Any, new: Any, told: str) -> Change:
    look = live("priority_levels", 0, told)
    return Change(f"queue.priorityLevels[].{name}", old, new, look, (old, new), restarts=False)


def _parent(name: str, old: Any, new: Any) -> Change:
    look = the("httproutes", "spec", "parentRefs", 0, name)
    return Change(f"router.parentRefs[].{name}", old, new, look, (old, new), restarts=False)


def _picker(path: str, old: Any, new: Any) -> Change:
    place = path.split(".")
    look = the("inferencepools", "spec", "endpointPickerRef", *place)
    full = f"router.inferencePool.endpointPickerRef.{path}"
    return Change(full, old, new, look, (old, new), restarts=False)


def _scaling(name: str, old: int, new: int, *look: str | int, text: bool = False) -> Change:
    seen = (str(old), str(new)) if text else (old, new)
    return Change(f"scaling.{name}", old, new, the(_HPA, "spec", *look), seen, restarts=False,
                  beside=_LIMITS if name != "maxReplicas" else _RUNS)  # fmt: skip


QUEUE = (
    _queue("policy", "SSJF", "FCFS", "policy", ("SSJF", "FCFS")),
    _queue("tailWeightPercent", 100, 50, "tail_weight", (1.0, 0.5)),
    _queue("maxConcurrency", 4, 2, "max_concurrency", (4, 2)),
    _queue("targetTimePerOutputTokenMilliseconds", 20, 40, "target_tpot_s", (0.02, 0.04)),
    _queue("maxQueuedRequests", 100, 200, "max_queued_requests", (100, 200)),
    _queue("maxQueuedTokens", 100, 200, "max_queued_tokens", (100, 200)),
    _queue("queueTimeoutSeconds", 100, 200, "queue_timeout_s", (100.0, 200.0)),
    _queue("promoteAfterSeconds", 10, 20, "promote_after_s", (10.0, 20.0)),
    _class("name", "one", "two", "name"),
    _class("value", 1, 2, "value"),
    _class("maxConcurrency", 1, 2, "max_concurrency"),
    Change("queue.policyParameters", {"seed": "1"}, {"seed": "2"}, live("policy_parameters"),
           ({"seed": "1"}, {"seed": "2"}), restarts=False, beside={"queue": {"policy": "Random"}}),
    Change("predictor.mode", "Enforce", "Shadow", live("predictor_mode"), ("Enforce", "Shadow"),
           restarts=False),
    Change("tracing.samplerArg", "1.0", "0.5", live("sampler_arg"), ("1.0", "0.5"),
           restarts=False),
)  # fmt: skip

SCALE = (
    Change("replicas", 1, 3, the("deployments", "spec", "replicas"), (1, 3), restarts=False,
           beside=_RUNS),
    Change("suspend", False, True, the("deployments", "spec", "replicas"), (1, 0),
           restarts=False),
    _scaling("minReplicas", 1, 2, "minReplicas"),
    _scaling("maxReplicas", 3, 4, "maxReplicas"),
    _scaling("targetBacklogSeconds", 10, 20, "metrics", 0, "pods", "target", "averageValue",
             text=True),
    _scaling("idleSeconds", 60, 120, "behavior", "scaleDown", "stabilizationWindowSeconds"),
    Change("disruptionBudget.maxUnavailable", 1, "50%",
           the("poddisruptionbudgets", "spec", "maxUnavailable"), (1, "50%"), restarts=False),
    Change("rolloutStrategy.maxUnavailable", 0, 1,
           the("deployments", "spec", "strategy", "rollingUpdate", "maxUnavailable"), (0, 1),
           restarts=False),
    Change("rolloutStrategy.maxSurge", 1, "50%",
           the("deployments", "spec", "strategy", "rollingUpdate", "maxSurge"), (1, "50%"),
           restarts=False),
)  # fmt: skip

ROUTES = (
    _parent("name", "one", "two"),
    _parent("namespace", "one", "two"),
    _parent("group", "gateway.networking.k8s.io", "example.com"),
    _parent("kind", "Gateway", "ListenerSet"),
    _parent("sectionName", "one", "two"),
    _parent("port", 80, 443),
    Change("router.hostnames", ["a.example.com"], ["b.example.com"],
           the("httproutes", "spec", "hostnames"), (["a.example.com"], ["b.example.com"]),
           restarts=False),
    Change("router.grpcHostnames", ["a.example.com"], ["b.example.com"],
           the("grpcroutes", "spec", "hostnames"), (["a.example.com"], ["b.example.com"]),
           restarts=False),
    _picker("name", "one", "two"),
    _picker("group", "one.example.com", "two.example.com"),
    _picker("kind", "Service", "Picker"),
    _picker("port.number", 9002, 9003),
    _picker("failureMode", "FailOpen", "FailClose"),
    Change("monitoring.podMonitor", "Disabled", "Enabled", exists("podmonitors"), (False, True),
           restarts=False),
)  # fmt: skip

CHANGES = (*QUEUE, *SCALE, *ROUTES)
