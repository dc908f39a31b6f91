"""The operator's own metrics, as Prometheus reads them. No label names a service or a pod."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from llmservice_api import __version__
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily

from llmservice_operator.cluster import ServiceKey
from llmservice_operator.conditions import Condition

PREFIX: Final = "llmservice_operator"
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0)
# Reasons come from the API server; any other word of it is counted as Other.
_REASONS: Final = frozenset(
    {
        "AlreadyExists", "BadRequest", "Conflict", "Expired", "Forbidden", "Invalid",
        "MethodNotAllowed", "NameConflict", "NotAcceptable", "NotFound", "NotLeader",
        "RequestEntityTooLarge", "Timeout", "Unauthorized", "Unexpected", "Unreachable",
        "UnsupportedMediaType",
    }
)  # fmt: skip
_Judgement = tuple[tuple[str, str], ...]


class Metrics:
    """Everything that is counted. `depth` and `blind_s` are asked when Prometheus asks."""

    def __init__(
        self,
        *,
        depth: Callable[[], int],
        leading: Callable[[], bool],
        blind_s: Callable[[], float],
    ) -> None:
        self.registry: Final = CollectorRegistry()
        self._services = _ServicesByCondition()
        self.registry.register(self._services)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._looks = Histogram(
            f"{PREFIX}_reconcile_seconds", "How long one look at one service took.",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._waits = Histogram(
            f"{PREFIX}_queue_wait_seconds", "How long a service waited for its look.",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._errors = self._counter("reconcile_errors", "Looks that failed.", "reason")
        self._retries = self._counter("retries", "Looks that were taken because one had failed.")
        self._polls = self._counter("polls", "Questions to sidecars.", "result")
        self._calls = self._counter(
            "api_requests", "Calls of the API server made for services.", "verb", "kind", "result"
        )
        self._gauge("queue_depth", "Services that wait or are being looked at.", depth)
        self._gauge("leader", "1 while this operator may write.", leading)
        self._gauge(
            "unseen_change_seconds",
            "How long a listed change has not been told by its watch; 0 when all have.",
            blind_s,
        )
        build = Gauge(f"{PREFIX}_build_info", "Always 1.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)

    def looked(self, seconds: float, *, error: str = "") -> None:
        """One look at a service has ended; `error` is the reason of one that failed."""
        self._looks.observe(seconds)
        if error:
            self._errors.labels(error if error in _REASONS else "Other").inc()

    def waited(self, seconds: float) -> None:
        """A service has come to its look."""
        self._waits.observe(seconds)

    def retried(self) -> None:
        """A look is taken because the last one failed."""
        self._retries.inc()

    def polled(self, result: str) -> None:
        """A sidecar was asked: answered, late, unreadable or unreachable."""
        self._polls.labels(result).inc()

    def called(self, verb: str, kind: str, *, result: str) -> None:
        """A call has ended: ok, or a reason as in `looked`."""
        known = result if result == "ok" or result in _REASONS else "Other"
        self._calls.labels(verb, kind, known).inc()

    def judged(self, key: ServiceKey, conditions: Sequence[Condition]) -> None:
        """What is true of a service now."""
        self._services.judged(key, conditions)

    def gone(self, key: ServiceKey) -> None:
        """A service is no more."""
        self._services.gone(key)

    def text(self) -> bytes:
        """The page that Prometheus scrapes, in CONTENT_TYPE."""
        return generate_latest(self.registry)

    def _counter(self, name: str, said: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", said, labels, registry=self.registry)

    def _gauge(self, name: str, said: str, value: Callable[[], float]) -> None:
        Gauge(f"{PREFIX}_{name}", said, registry=self.registry).set_function(lambda: float(value()))


class _ServicesByCondition:
    """Counts services by condition and truth: conditions x 3 series, however many services."""

    def __init__(self) -> None:
        self._judged: dict[ServiceKey, _Judgement] = {}
        self._known: dict[_Judgement, _Judgement] = {}  # few differ: thousands share one object

    def judged(self, key: ServiceKey, conditions: Sequence[Condition]) -> None:
        judgement = tuple((entry.type, str(entry.status)) for entry in conditions)
        self._judged[key] = self._known.setdefault(judgement, judgement)

    def gone(self, key: ServiceKey) -> None:
        self._judged.pop(key, None)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            f"{PREFIX}_services", "Services by condition.", labels=["condition", "status"]
        )
        tally = Tally(pair for pairs in self._judged.values() for pair in pairs)
        for (condition, status), count in sorted(tally.items()):
            family.add_metric([condition, status], count)
        yield family
