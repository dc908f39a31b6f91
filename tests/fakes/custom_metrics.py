"""A custom-metrics adapter: serves custom.metrics.k8s.io behind the real API server.

It has one metric of pods, the backlog per replica, and reads it where KEDA would: from the
operator's /backlog.
"""

from __future__ import annotations

import json
import ssl
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import yaml
from cluster.controlplane import ControlPlane
from fakes.certificates import server_pair
from fakes.live_pods import is_ready
from llmservice_api import names

Json = dict[str, Any]
_GROUP: Final = "custom.metrics.k8s.io"
_VERSION: Final = "v1beta2"
_NOW: Final = "2026-01-01T00:00:00Z"


@contextmanager
def custom_metrics(plane: ControlPlane, *, namespace: str, backlog_url: str) -> Generator[None]:
    """Serve the metrics through the API server until the context ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(plane, backlog_url))
    with tempfile.TemporaryDirectory() as directory:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = server_pair()
        for name, content in pair.files.items():
            Path(directory, name).write_bytes(content)
        context.load_cert_chain(Path(directory, "tls.crt"), Path(directory, "tls.key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    registration = yaml.safe_dump_all(_registration(namespace, server.server_address[1]))
    try:
        plane.kubectl("apply", "-f", "-", stdin=registration)
        service = f"apiservice/{_VERSION}.{_GROUP}"
        plane.kubectl("wait", "--for=condition=Available", service, "--timeout=60s")
        yield
    finally:
        # A group that is registered and does not answer keeps namespaces from being deleted.
        plane.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=registration)
        server.shutdown()
        thread.join()
        server.server_close()


def _registration(namespace: str, port: int) -> list[Json]:
    place = {"name": "custom-metrics", "namespace": namespace}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": place,
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{_VERSION}.{_GROUP}"},
            "spec": {
                "service": {**place, "port": port},
                "group": _GROUP,
                "version": _VERSION,
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
    ]


def _handler(plane: ControlPlane, backlog_url: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = urllib.parse.unquote(self.path).partition("?")
            words = path.strip("/").split("/")
            found = _discovery() if len(words) <= 3 else _values(plane, backlog_url, words, query)
            body = json.dumps(found).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's word
            """Say nothing."""

    return Handler


def _discovery() -> Json:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{_GROUP}/{_VERSION}",
        "resources": [
            {
                "name": f"pods/{names.METRIC_BACKLOG}",
                "singularName": "",
                "namespaced": True,
                "kind": "MetricValueList",
                "verbs": ["get"],
            }
        ],
    }


def _values(plane: ControlPlane, backlog_url: str, words: list[str], query: str) -> Json:
    """`.../namespaces/NS/pods/*/METRIC?labelSelector=...`"""
    namespace, metric = words[4], words[-1]
    selector = urllib.parse.parse_qs(query)["labelSelector"][0]
    labels = dict(pair.split("=", 1) for pair in selector.split(","))
    listed = plane.kubectl("-n", namespace, "get", "pods", "-l", selector, "-o", "json")
    ready = [pod for pod in json.loads(listed)["items"] if is_ready(pod)]
    if metric != names.METRIC_BACKLOG:
        return {}
    asked = urllib.parse.urlencode({"namespace": namespace, "name": labels[names.LABEL_NAME]})
    try:
        with urllib.request.urlopen(f"{backlog_url}?{asked}", timeout=10) as answer:
            backlog_s = json.load(answer)["backlog_seconds"]
    except urllib.error.HTTPError:
        return {}  # as an adapter that has scraped nothing yet
    return {
        "kind": "MetricValueList",
        "apiVersion": f"{_GROUP}/{_VERSION}",
        "metadata": {},
        "items": [
            {
                "describedObject": {
                    "kind": "Pod",
                    "apiVersion": "/v1",
                    "namespace": namespace,
                    "name": pod["metadata"]["name"],
                },
                "metric": {"name": metric},
                "timestamp": _NOW,
                "value": f"{round(backlog_s * 1000)}m",
            }
            for pod in ready
        ],
    }
