"""Spans of requests that the head did not sample, until it is known whether they are kept.

A request's spans are few and its SERVER span ends last; that one says by an attribute whether the
tail rule keeps the trace. Runs on the event loop's thread alone, where the spans are made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from llmservice_sidecar.runtime import telemetry_names as names

MAX_HELD_SPANS: Final = 16_384
# A prediction that is cancelled ends its span just after the request's.
_KEPT_FOR_STRAGGLERS: Final = 256


@dataclass(slots=True)
class _Held:
    spans: list[ReadableSpan] = field(default_factory=list[ReadableSpan])
    missing: int = 0


class HeldSpans:
    """Holds at most `most` ended spans of requests that are being served.

    `keep` gets the spans of a kept trace, marked as sampled; `lose` how many of it are missing.
    """

    def __init__(
        self,
        *,
        keep: Callable[[ReadableSpan], None],
        lose: Callable[[int], None],
        most: int = MAX_HELD_SPANS,
    ) -> None:
        self._keep = keep
        self._lose = lose
        self._most = most
        self._count = 0
        self._open: dict[int, _Held] = {}  # by the SERVER span's id
        self._kept: dict[int, None] = {}  # SERVER spans whose traces were kept, the latest

    def __len__(self) -> int:
        return self._count

    def started(self, context: SpanContext, kind: SpanKind) -> None:
        """A span has begun that the head did not sample."""
        if kind is SpanKind.SERVER:
            self._open[context.span_id] = _Held()

    def ended(self, span: ReadableSpan) -> None:
        """It has ended."""
        if span.kind is SpanKind.SERVER and span.context is not None:
            self._decide(span, span.context.span_id)
            return
        parent = 0 if span.parent is None else span.parent.span_id
        held = self._open.get(parent)
        if held is None:
            if parent in self._kept:
                self._keep(_sampled(span))
        elif self._count >= self._most:
            held.missing += 1
        else:
            held.spans.append(span)
            self._count += 1

    def _decide(self, server: ReadableSpan, span_id: int) -> None:
        held = self._open.pop(span_id, None)
        if held is None:
            return  # it began before anybody listened
        self._count -= len(held.spans)
        if not server.attributes or names.ATTR_SAMPLED_BY not in server.attributes:
            return
        for span in (*held.spans, server):
            self._keep(_sampled(span))
        if held.missing:
            self._lose(held.missing)
        self._kept[span_id] = None
        if len(self._kept) > _KEPT_FOR_STRAGGLERS:
            del self._kept[next(iter(self._kept))]


def _sampled(span: ReadableSpan) -> ReadableSpan:
    """The same span with the W3C flag, without which exporters leave it out."""
    context = span.context
    assert context is not None
    return ReadableSpan(
        name=span.name,
        context=SpanContext(
            context.trace_id,
            context.span_id,
            is_remote=False,
            trace_flags=TraceFlags(context.trace_flags | TraceFlags.SAMPLED),
            trace_state=context.trace_state,
        ),
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
