"""What one look at a service leaves behind: a span, figures and the subject of its log lines."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Final

from llmservice_api import names
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from llmservice_operator import structured_log
from llmservice_operator.capabilities import Capabilities
from llmservice_operator.cluster import Cluster, ClusterError, ObjectRef, Refused, ServiceKey
from llmservice_operator.conditions import Condition
from llmservice_operator.kinds import POD
from llmservice_operator.kube_json import Manifest, section
from llmservice_operator.leader_election import NotLeader
from llmservice_operator.metrics import Metrics

_PREFIX: Final = "llmservice"
_EXPECTED: Final = frozenset({"NotFound", "Conflict"})  # of a write: the object has gone or changed


class Telemetry:
    """Wraps the looks; is told by the reconciler what it has found."""

    def __init__(self, tracer: Tracer, metrics: Metrics) -> None:
        self._tracer = tracer
        self._metrics = metrics

    async def look(
        self, key: ServiceKey, reconcile: Callable[[ServiceKey], Awaitable[float | None]]
    ) -> float | None:
        """`reconcile(key)`, seen from outside. Raises what it raises."""
        started_s = time.perf_counter()
        attributes = {f"{_PREFIX}.namespace": key.namespace, f"{_PREFIX}.name": key.name}
        with (
            structured_log.about(key),
            self._tracer.start_as_current_span(
                "reconcile",
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as span,
        ):
            try:
                again_s = await reconcile(key)
            except Exception as error:
                reason = reason_of(error)
                _failed(span, reason, error)
                self._metrics.looked(time.perf_counter() - started_s, error=reason)
                raise
            self._metrics.looked(time.perf_counter() - started_s)
            return again_s

    def read(self, raw: Manifest) -> None:
        """The service as it is before the look."""
        structured_log.learn(uid=raw["metadata"]["uid"])

    def judged(self, key: ServiceKey, conditions: Sequence[Condition]) -> None:
        """The service as it is after the look."""
        self._metrics.judged(key, conditions)

    def gone(self, key: ServiceKey) -> None:
        """There is no such service."""
        self._metrics.gone(key)


class TracedCluster:
    """A cluster whose calls are counted; writes have spans, under that of their look.

    `seen` is shown every object with our label that is there.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        tracer: Tracer,
        metrics: Metrics,
        seen: Callable[[Manifest], object],
    ) -> None:
        self._cluster = cluster
        self._seen = seen
        self._tracer = tracer
        self._metrics = metrics

    @property
    def capabilities(self) -> Capabilities:
        """As the cluster says."""
        return self._cluster.capabilities

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """The live object, None when there is none."""
        async with self._counted("get", ref.kind):
            found = await self._cluster.get(ref)
        # Watches tell of what has our label alone.
        if found is not None and names.LABEL_NAME in section(found, "metadata", "labels"):
            self._seen(found)
        return found

    async def pods_of(self, key: ServiceKey) -> Sequence[Manifest]:
        """The pods with the service's label."""
        async with self._counted("list", POD.kind):
            found = await self._cluster.pods_of(key)
        for manifest in found:
            self._seen(manifest)
        return found

    async def apply(
        self,
        manifest: Manifest,
        *,
        subresource: str = "",
        manager: str = names.FIELD_MANAGER,
    ) -> Manifest:
        """Server-side apply."""
        kind: str = manifest["kind"]
        name = f"apply {kind}/{subresource}" if subresource else f"apply {kind}"
        with self._span(name, manifest["metadata"]["name"]) as span:
            async with self._counted("apply", kind, span):
                return await self._cluster.apply(manifest, subresource=subresource, manager=manager)

    async def delete(self, ref: ObjectRef, *, uid: str) -> None:
        """Delete that very object."""
        with self._span(f"delete {ref.kind}", ref.name) as span:
            async with self._counted("delete", ref.kind, span):
                await self._cluster.delete(ref, uid=uid)

    def _span(self, name: str, about: str) -> AbstractContextManager[Span]:
        return self._tracer.start_as_current_span(
            name,
            kind=SpanKind.CLIENT,
            attributes={"k8s.object.name": about},
            record_exception=False,
            set_status_on_exception=False,
        )

    @asynccontextmanager
    async def _counted(
        self, verb: str, kind: str, span: Span | None = None
    ) -> AsyncGenerator[None]:
        try:
            yield
        except ClusterError as error:
            reason = reason_of(error)
            self._metrics.called(verb, kind, result=reason)
            if span is not None and reason not in _EXPECTED:
                _failed(span, reason, error)
            raise
        self._metrics.called(verb, kind, result="ok")


def reason_of(error: Exception) -> str:
    """One word for why something failed; the API server's own where it has said one."""
    if isinstance(error, Refused):
        return error.reason
    if isinstance(error, NotLeader):
        return "NotLeader"
    if isinstance(error, TimeoutError):
        return "Timeout"
    return "Unreachable" if isinstance(error, ClusterError) else "Unexpected"


def _failed(span: Span, reason: str, error: Exception) -> None:
    span.set_attribute("error.type", reason)
    span.set_status(Status(StatusCode.ERROR, str(error)))
