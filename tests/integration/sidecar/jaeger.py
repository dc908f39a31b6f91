"""A real Jaeger in one process with spans in memory, and its query API."""

from __future__ import annotations

import json
import socket
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cluster.processes import Processes, free_ports
from cluster.tools import ensure

_START_S: Final = 60.0
_ANY: Final = "127.0.0.1:0"
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# Ports that nobody here asks; without a value they would be fixed ones.
_UNUSED: Final = (
    "admin.http",
    "collector.grpc-server",
    "collector.http-server",
    "collector.otlp.http",
    "http-server",
    *(f"processor.{kind}.server" for kind in ("jaeger-binary", "jaeger-compact", "zipkin-compact")),
)


@dataclass(frozen=True, kw_only=True)
class StoredSpan:
    """One span as Jaeger tells it; ids in hex, `parent` is "" for a root."""

    span_id: str
    parent: str
    name: str
    kind: str  # "server", "client", "internal"
    service: str
    tags: dict[str, Any]
    process: dict[str, Any]  # the resource
    warnings: tuple[str, ...]  # a parent that is not there, a span sent twice
    text: str = field(repr=False)  # all of it


@dataclass
class JaegerProcess:
    """Runs while its `with` block lasts; `endpoint` takes OTLP/gRPC. `directory` has its log."""

    directory: Path

    def __post_init__(self) -> None:
        self._processes = Processes(self.directory)

    def __enter__(self) -> Self:
        program = ensure(["jaeger"])["jaeger"]
        otlp, query, query_grpc = free_ports(3)
        self.endpoint = f"http://127.0.0.1:{otlp}"
        self._query = f"http://127.0.0.1:{query}"
        ports = [f"--{name}{_flag(name)}={_ANY}" for name in _UNUSED]
        command = [
            str(program),
            *ports,
            "--collector.otlp.enabled=true",
            f"--collector.otlp.grpc.host-port=127.0.0.1:{otlp}",
            f"--query.http-server.host-port=127.0.0.1:{query}",
            f"--query.grpc-server.host-port=127.0.0.1:{query_grpc}",
        ]
        self._processes.up("jaeger", command, lambda: self._answers(otlp), within_s=_START_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._processes.stop()

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> list[Any]:
        """What the query API answers under `data`."""
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        with _DIRECT.open(f"{self._query}{path}{query}", timeout=60) as reply:
            return json.loads(reply.read())["data"] or []

    def traces(self, service: str, **tags: str) -> dict[str, list[StoredSpan]]:
        """The traces with a span of `service` that has these tags, by trace id."""
        asked = {"service": service, "limit": "10000"}
        if tags:
            asked["tags"] = json.dumps(tags)
        return {one["traceID"]: spans_of(one) for one in self.get("/api/traces", asked)}

    def _answers(self, otlp: int) -> None:
        self.get("/api/services")
        socket.create_connection(("127.0.0.1", otlp), timeout=1).close()


def spans_of(trace: dict[str, Any]) -> list[StoredSpan]:
    """The spans of a trace of the query API."""
    processes = trace["processes"]
    return [_span(span, processes[span["processID"]]) for span in trace["spans"]]


def _span(span: dict[str, Any], process: dict[str, Any]) -> StoredSpan:
    parents = [one["spanID"] for one in span["references"] if one["refType"] == "CHILD_OF"]
    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
    return StoredSpan(
        span_id=span["spanID"],
        parent=parents[0] if parents else "",
        name=span["operationName"],
        kind=tags.get("span.kind", ""),
        service=process["serviceName"],
        tags=tags,
        process={tag["key"]: tag["value"] for tag in process["tags"]},
        warnings=tuple(span["warnings"] or ()),
        text=json.dumps(span),
    )


def _flag(name: str) -> str:
    return "-host-port" if name.startswith("processor.") else ".host-port"
