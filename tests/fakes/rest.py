"""The API server without a client in between: fast, and its answers as they are.

kubectl costs a process for each question, and tests of every field ask thousands.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml
from cluster.controlplane import ControlPlane

Json = dict[str, Any]

_PAGE = "100"
_IDLE_S = 30.0  # the API server closes what nobody uses, a minute later

PLACES = {
    "llmservices": "/apis/llmservice.dev/v1alpha1",
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "leaderworkersets": "/apis/leaderworkerset.x-k8s.io/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "scaledobjects": "/apis/keda.sh/v1alpha1",
    "httproutes": "/apis/gateway.networking.k8s.io/v1",
    "grpcroutes": "/apis/gateway.networking.k8s.io/v1",
    "inferencepools": "/apis/inference.networking.k8s.io/v1",
    "podmonitors": "/apis/monitoring.coreos.com/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "leases": "/apis/coordination.k8s.io/v1",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status code and body."""

    status: int
    body: Json

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.status < 300

    @property
    def message(self) -> str:
        """What the API server says about a refusal."""
        return str(self.body.get("message", ""))


class Rest:
    """One connection with the rights of the plane's administrator; not for two threads."""

    def __init__(self, plane: ControlPlane) -> None:
        parts = urlsplit(plane.server)
        self.connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, context=_context(plane.kubeconfig), timeout=60
        )
        self._used_s = time.monotonic()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def call(self, method: str, path: str, body: Any = None, **query: str) -> Answer:
        """Any call; a PATCH with a dict is a merge patch."""
        if time.monotonic() - self._used_s > _IDLE_S:
            self.connection.close()  # it opens again by itself
        self._used_s = time.monotonic()
        patch = method == "PATCH"
        kind = "application/merge-patch+json" if patch else "application/json"
        target = f"{path}?{urlencode(query)}" if query else path
        text = None if body is None else json.dumps(body)
        self.connection.request(method, target, text, {"Content-Type": kind})
        response = self.connection.getresponse()
        return Answer(response.status, json.loads(response.read() or b"{}"))

    def path(self, plural: str, namespace: str = "", name: str = "") -> str:
        """The path of a collection or an object."""
        where = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(filter(None, (f"{PLACES.get(plural, '/api/v1')}{where}/{plural}", name)))

    def get(self, plural: str, namespace: str, name: str) -> Json:
        """One object, empty when there is none."""
        answer = self.call("GET", self.path(plural, namespace, name))
        return answer.body if answer.ok else {}

    def list(self, plural: str, namespace: str = "", **query: str) -> list[Json]:
        """All objects of a kind, in pages: other threads of the tests have to answer meanwhile."""
        items: list[Json] = []
        more: dict[str, str] = {}
        while True:
            path = self.path(plural, namespace)
            page = self.must("GET", path, **query, **more, limit=_PAGE)
            items += page["items"]
            more = {"continue": page["metadata"].get("continue", "")}
            if not more["continue"]:
                return items

    def must(self, method: str, path: str, body: Any = None, **query: str) -> Json:
        """The body of a call that has to work."""
        answer = self.call(method, path, body, **query)
        assert answer.ok, f"{method} {path}: {answer.status} {answer.message}"
        return answer.body


def _context(kubeconfig: Path) -> ssl.SSLContext:
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=_pem(cluster, "certificate-authority"))
    with tempfile.TemporaryDirectory() as directory:
        pair = Path(directory) / "pair.pem"
        pair.write_text(_pem(user, "client-certificate") + _pem(user, "client-key"))
        context.load_cert_chain(pair)
    return context


def _pem(entry: Json, key: str) -> str:
    if inline := entry.get(f"{key}-data"):
        return base64.b64decode(inline).decode()
    return Path(entry[key]).read_text()
