"""Nodes that run nothing: pods are bound to them, reported ready, and let go when deleted.

What the API server and its controllers see is what they see of kubelets: Node objects with
heartbeats, bindings, pod status, and the end of pods that were asked to go.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from cluster.controlplane import ControlPlane
from fakes.rest import Rest

Json = dict[str, Any]
_CAPACITY = {"cpu": "1000", "memory": "4Ti", "pods": "10000", "nvidia.com/gpu": "1000"}
_READY = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
_HEARTBEAT_S = 10.0
_WATCH_S = 60


class FakeNodes:
    """A few nodes for the pods of LLMServices; every pod is ready at `address`."""

    def __init__(self, plane: ControlPlane, *, count: int, address: str) -> None:
        self._plane = plane
        self._names = [f"fake-{number}" for number in range(count)]
        self._address = address
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._next = itertools.cycle(self._names)

    def __enter__(self) -> Self:
        rest = Rest(self._plane)
        for name in self._names:
            rest.must("POST", "/api/v1/nodes", {"metadata": {"name": name}})
            path = f"/api/v1/nodes/{name}/status"
            rest.must("PATCH", path, {"status": _node_status()})
        rest.close()
        self._beating.start()
        self._serving.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._beating.join()
        rest = Rest(self._plane)
        for name in self._names:
            rest.call("DELETE", f"/api/v1/nodes/{name}")
        rest.close()

    def _beat(self) -> None:
        """Renew the nodes' Leases: without them their pods are taken away."""
        rest = Rest(self._plane)
        place = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        while not self._ended.is_set():
            for name in self._names:
                stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": stamp}
                if not rest.call("PATCH", f"{place}/{name}", {"spec": spec}).ok:
                    rest.must("POST", place, {"metadata": {"name": name}, "spec": spec})
            self._ended.wait(_HEARTBEAT_S)
        rest.close()

    def _serve(self) -> None:
        """Do for every pod what a kubelet would tell about it."""
        rest = Rest(self._plane)
        while not self._ended.is_set():
            for pod in self._pods():
                if self._ended.is_set():
                    break
                self._look(rest, pod)
        rest.close()

    def _look(self, rest: Rest, pod: Json) -> None:
        metadata, spec = pod["metadata"], pod["spec"]
        path = rest.path("pods", metadata["namespace"], metadata["name"])
        if "deletionTimestamp" in metadata:
            if "nodeName" in spec:
                rest.call("DELETE", path, {"gracePeriodSeconds": 0})
            return
        if pod.get("status", {}).get("podIP"):
            return
        if "nodeName" not in spec:
            target = {"kind": "Node", "apiVersion": "v1", "name": next(self._next)}
            binding = {"metadata": {"name": metadata["name"]}, "target": target}
            rest.call("POST", f"{path}/binding", binding)
        # A pod that has gone meanwhile is somebody else's wish: its event is on its way.
        rest.call("PATCH", f"{path}/status", {"status": _pod_status(self._address)})

    def _pods(self) -> Iterator[Json]:
        """Every pod as it is and as it changes, for a minute."""
        connection = Rest(self._plane).connection
        query = f"watch=true&timeoutSeconds={_WATCH_S}&labelSelector=llmservice.dev/name"
        connection.request("GET", f"/api/v1/pods?{query}")
        response = connection.getresponse()
        try:
            while line := response.readline():
                event = json.loads(line)
                if event["type"] in {"ADDED", "MODIFIED"}:
                    yield event["object"]
        except (OSError, http.client.HTTPException):
            return  # the plane ends before its nodes
        finally:
            connection.close()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _node_status() -> Json:
    ready = {
        "type": "Ready", "status": "True", "reason": "Fake",
        "lastHeartbeatTime": _now(), "lastTransitionTime": _now(),
    }  # fmt: skip
    return {"conditions": [ready], "capacity": _CAPACITY, "allocatable": _CAPACITY}


def _pod_status(address: str) -> Json:
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": _now()} for kind in _READY]
    addresses = {"podIP": address, "podIPs": [{"ip": address}]}
    return {"phase": "Running", "conditions": conditions, "startTime": _now(), **addresses}
