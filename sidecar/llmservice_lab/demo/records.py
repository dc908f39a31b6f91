"""One request of one pass: what the client saw, joined with what its trace says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from llmservice_sidecar.runtime import telemetry_names as names

from llmservice_lab.demo.passes import Pass
from llmservice_lab.demo.spans import Span
from llmservice_lab.load import Reply
from llmservice_lab.workload import WorkloadRequest

CLIENT_SERVICE: Final = "demo-client"
_CLIENT_SPAN: Final = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Times are seconds; `due_s`, `queued_s` and `admitted_s` count from the start of the pass.

    `output_tokens` is the true length, `predicted_tokens` what the sidecar ordered by.
    `overtook` and `overtaken_by` are workload rows, earliest arrival first.
    """

    row: int
    pass_index: int
    policy: str
    predictor: str
    prompt: str
    source: str
    prompt_tokens: int
    output_tokens: int
    due_s: float
    e2e_s: float
    ttft_s: float
    queued_s: float
    admitted_s: float
    predicted_tokens: float
    prediction_source: str
    engine_queue_s: float
    predicted_wait_s: float | None  # from the arrival at the gate; None: it had not to wait
    overtook: Sequence[int]
    overtaken_by: Sequence[int]
    trace_id: str

    @property
    def queue_wait_s(self) -> float:
        """Seconds between arrival at the gate and admission."""
        return self.admitted_s - self.queued_s


class TraceIncomplete(LookupError):
    """A request's trace lacks a span; the message names the request and the span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traced:
    """What one trace says; times are Unix seconds."""

    queue: Span
    server: Span
    engine: Span


def join(measured: Pass, *, rows: Sequence[WorkloadRequest], spans: Iterable[Span]) -> list[Record]:
    """The records of one pass, in arrival order. Raises TraceIncomplete."""
    by_trace: dict[str, list[Span]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    traced = [
        _traced(row, by_trace.get(reply.trace_id, ())) for row, reply in enumerate(measured.replies)
    ]
    # To the clock of the pass: both processes are on one machine and share its wall clock.
    start_s = measured.started_s + measured.epoch_offset_s
    intervals = [(one.queue.start_s - start_s, one.queue.end_s - start_s) for one in traced]
    overtook, overtaken_by = overtakings(intervals)
    return [
        _record(
            measured,
            row,
            request=rows[row],
            traced=traced[row],
            interval=intervals[row],
            overtook=overtook[row],
            overtaken_by=overtaken_by[row],
        )
        for row in range(len(traced))
    ]


def overtakings(
    intervals: Sequence[tuple[float, float]],
) -> tuple[list[list[int]], list[list[int]]]:
    """For (queued, admitted) times: whom each overtook, and by whom it was overtaken."""
    overtook: list[list[int]] = [[] for _ in intervals]
    overtaken_by: list[list[int]] = [[] for _ in intervals]
    order = sorted(range(len(intervals)), key=lambda index: intervals[index])
    for place, later in enumerate(order):
        queued_s, admitted_s = intervals[later]
        for earlier in order[:place]:
            if intervals[earlier][0] < queued_s and intervals[earlier][1] > admitted_s:
                overtook[later].append(earlier)
                overtaken_by[earlier].append(later)
    return overtook, overtaken_by


def client_spans(measured: Pass, *, rows: Sequence[WorkloadRequest]) -> list[Span]:
    """The root span of every request as its client saw it; the door's span is its child."""
    return [
        Span(
            trace_id=reply.trace_id,
            span_id=reply.span_id,
            parent_id="",
            name=_CLIENT_SPAN,
            service=CLIENT_SERVICE,
            start_s=reply.sent_s + measured.epoch_offset_s,
            end_s=reply.done_s + measured.epoch_offset_s,
            attributes={
                "demo.pass": measured.index,
                "demo.policy": measured.policy,
                "demo.predictor": measured.predictor,
                "demo.row": row,
                "demo.source": rows[row].source or "",
                "demo.output_tokens": reply.output_tokens,
                "demo.time_to_first_token_s": (reply.first_s or reply.done_s) - reply.due_s,
            },
        )
        for row, reply in enumerate(measured.replies)
    ]


def _traced(row: int, spans: Sequence[Span]) -> _Traced:
    def one(what: str, found: Iterable[Span]) -> Span:
        for span in found:
            return span
        raise TraceIncomplete(f"the trace of request {row} has no span {what!r}")

    return _Traced(
        queue=one(names.SPAN_QUEUE, (s for s in spans if s.name == names.SPAN_QUEUE)),
        server=one("of the door", (s for s in spans if names.ATTR_DOOR in s.attributes)),
        engine=one(names.SPAN_ENGINE_OWN, (s for s in spans if s.name == names.SPAN_ENGINE_OWN)),
    )


def _record(
    measured: Pass,
    row: int,
    *,
    request: WorkloadRequest,
    traced: _Traced,
    interval: tuple[float, float],
    overtook: Sequence[int],
    overtaken_by: Sequence[int],
) -> Record:
    reply = measured.replies[row]
    attributes = traced.server.attributes
    expected_s = traced.queue.attributes.get(names.ATTR_PREDICTED_WAIT_S)
    return Record(
        row=row,
        pass_index=measured.index,
        policy=measured.policy,
        predictor=measured.predictor,
        prompt=request.prompt or "",
        source=request.source or "",
        prompt_tokens=reply.prompt_tokens,
        output_tokens=reply.output_tokens,
        due_s=reply.due_s - measured.started_s,
        e2e_s=reply.done_s - reply.due_s,
        ttft_s=_first(reply) - reply.due_s,
        queued_s=interval[0],
        admitted_s=interval[1],
        predicted_tokens=float(attributes.get(names.ATTR_PREDICTED, 0.0)),
        prediction_source=str(attributes.get(names.ATTR_PREDICTION_SOURCE, "")),
        engine_queue_s=float(traced.engine.attributes.get(names.ATTR_ENGINE_QUEUE_S, 0.0)),
        predicted_wait_s=None if expected_s is None else float(expected_s),
        overtook=overtook,
        overtaken_by=overtaken_by,
        trace_id=reply.trace_id,
    )


def _first(reply: Reply) -> float:
    return reply.done_s if reply.first_s is None else reply.first_s
