"""Prometheus metrics of the activator."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Final

from llmservice_api import __version__
from llmservice_api.activation import ActivatorReport
from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llmservice_sidecar.activator.desk import OUTCOMES
from llmservice_sidecar.runtime import telemetry_names as names

_SERVICE_LABELS: Final = ("namespace", "service")
_HOLD_BUCKETS: Final = (0.5, 1, 2, 5, 10, 20, 40, 60, 90, 120, 180, 300, 450, 600)


class ActivatorMetrics:
    """Implements `Recorder`. Labels are the services of the cluster: no client can make one."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._registry = CollectorRegistry(auto_describe=True)
        self._requests = Counter(
            names.METRIC_ACTIVATOR_REQUESTS,
            "Requests by how they left the activator.",
            (*_SERVICE_LABELS, names.LABEL_OUTCOME),
            registry=self._registry,
        )
        self._hold = Histogram(
            names.METRIC_ACTIVATOR_HOLD,
            "Seconds from arrival to a replica's answer of requests that had to wait for one.",
            buckets=_HOLD_BUCKETS,
            registry=self._registry,
        )
        Info(names.METRIC_BUILD, "The running version.", registry=self._registry).info(
            {"version": __version__}
        )
        ProcessCollector(namespace=names.METRIC_PREFIX_PROCESS, registry=self._registry)

    def watch(self, report: Callable[[], ActivatorReport]) -> None:
        """Read this on every scrape from now on. To be called once."""
        self._registry.register(_Gauges(report))

    def know(self, key: str) -> None:
        """A service may have series from now on."""
        self._known.add(key)

    def ended(self, key: str, *, outcome: str) -> None:
        """Count an end; of a service that is gone nobody asks any more."""
        if key in self._known:
            self._requests.labels(*key.split("/", 1), outcome).inc()

    def held(self, *, seconds: float) -> None:
        """Time a wait."""
        self._hold.observe(seconds)

    def forget(self, key: str) -> None:
        """The service is gone: its series end."""
        self._known.discard(key)
        for outcome in OUTCOMES:
            with contextlib.suppress(KeyError):  # there was none of these
                self._requests.remove(*key.split("/", 1), outcome)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Body and content type; OpenMetrics if the Accept header asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Gauges(Collector):
    def __init__(self, report: Callable[[], ActivatorReport]) -> None:
        self._report = report

    def collect(self) -> Iterable[Metric]:
        """What is held now."""
        report = self._report()
        held = GaugeMetricFamily(
            names.METRIC_ACTIVATOR_HELD,
            "Requests that wait for a replica.",
            labels=_SERVICE_LABELS,
        )
        for key, count in report.held.items():
            held.add_metric(key.split("/", 1), count)
        yield held
        yield GaugeMetricFamily(
            names.METRIC_ACTIVATOR_BYTES, "Bytes of requests in hand.", value=report.held_bytes
        )
        yield GaugeMetricFamily(
            names.METRIC_ACTIVATOR_SYNCED,
            "1 when the operator has told of every service.",
            value=float(report.synced),
        )
