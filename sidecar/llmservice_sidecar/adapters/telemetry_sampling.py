"""Which spans are recorded, and which of them are sampled at the head of a trace.

With the tail rule all requests are recorded, so that it can be seen at their end whether they are
worth keeping; the W3C flag that engine and children get stays the head's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from llmservice_api.sidecar_config import ConfigError, TracingConfig
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    AlwaysRecordSampler,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.util.types import Attributes

_SAMPLERS: Final[Mapping[str, Callable[[float], Sampler]]] = {
    "always_on": lambda _: ALWAYS_ON,
    "always_off": lambda _: ALWAYS_OFF,
    "traceidratio": TraceIdRatioBased,
    "parentbased_always_on": lambda _: ParentBased(ALWAYS_ON),
    "parentbased_always_off": lambda _: ParentBased(ALWAYS_OFF),
    "parentbased_traceidratio": lambda ratio: ParentBased(TraceIdRatioBased(ratio)),
}
# Whoever switches traces off wants none, not the bad ones only.
_WITHOUT_TAIL: Final = frozenset({"always_off", "parentbased_always_off"})


class LiveSampler(Sampler):
    """A sampler whose ratio may change while it is in use (`live.json`, `sampler_arg`).

    It is asked of requests; what is within one has what the request's own span got.
    """

    def __init__(self, config: TracingConfig) -> None:
        self._kind = config.sampler
        self._default_arg = config.sampler_arg
        self._sampler = self._made(config.sampler_arg)

    def set_arg(self, arg: str | None) -> None:
        """Use another argument; None returns to the static one. Raises ConfigError."""
        self._sampler = self._made(self._default_arg if arg is None else arg)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: trace.SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[trace.Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        """What the sampler in use says."""
        return self._sampler.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """The sampler in use."""
        return self._sampler.get_description()

    def _made(self, arg: str) -> Sampler:
        head = _head(self._kind, arg)
        return head if self._kind in _WITHOUT_TAIL else AlwaysRecordSampler(head)


def _head(kind: str, arg: str) -> Sampler:
    if kind not in _SAMPLERS:
        raise ConfigError(f"tracing.sampler: {kind!r} is not one of {', '.join(_SAMPLERS)}")
    try:
        ratio = float(arg)
    except ValueError as error:
        raise ConfigError(
            f"tracing.sampler_arg: {arg!r} is not a number from 0 to 1, as text"
        ) from error
    if not 0.0 <= ratio <= 1.0:
        raise ConfigError(f"tracing.sampler_arg: {arg!r} is not between 0 and 1")
    return _SAMPLERS[kind](ratio)
