"""A demo that was simulated instead of measured: replies and OTLP payloads as a real one has."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence

from llmservice_lab.demo.passes import DEFAULT, Measurement, Pass, turns
from llmservice_lab.load import Reply
from llmservice_lab.workload import WorkloadRequest
from llmservice_sidecar.runtime import telemetry_names as names
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

EPOCH_OFFSET_S = 1_700_000_000.0
TOKEN_S = 0.01
FORESEEN_TOO_SOON_S = 0.25  # the sidecar expects every wait to be so much shorter than it is
_FIRST_TOKEN_S = 0.02


def workload(count: int, *, seed: int = 1) -> list[WorkloadRequest]:
    """Requests with answers of very different lengths, more than one slot can serve at once."""
    rng = random.Random(seed)
    at_s = 0.0
    rows: list[WorkloadRequest] = []
    for number in range(count):
        rows.append(
            WorkloadRequest(
                arrival_s=at_s,
                prompt=f"Prompt <b>{number}</b>",
                prompt_tokens=5,
                output_tokens=rng.choice((5, 20, 20, 200)),
                source="made-up",
            )
        )
        at_s += rng.expovariate(1 / 0.62)
    return rows


def measurement(
    rows: Sequence[WorkloadRequest],
    *,
    capacity_after_rps: float = 2.0,
    predictors: Sequence[str] = (DEFAULT,),
) -> tuple[Measurement, list[bytes]]:
    """All passes over `rows` on one simulated slot, and the spans that they left.

    All predictors know the lengths, but one of the name "blind" takes nothing for longer than 5.
    """
    passes: list[Pass] = []
    payloads: list[bytes] = []
    for index, turn in enumerate(turns(predictors), start=1):
        started_s = 1000.0 * index
        blind = 5 if turn.predictor == "blind" else 10**6
        admitted = _serve(rows, shortest_first=turn.policy == "SSJF", blind_above=blind)
        replies = [
            _reply(row, admitted[number], started_s=started_s, trace_id=f"{index:x}{number:031x}")
            for number, row in enumerate(rows)
        ]
        passes.append(
            Pass(
                index=index,
                policy=turn.policy,
                predictor=turn.predictor,
                started_s=started_s,
                epoch_offset_s=EPOCH_OFFSET_S,
                replies=replies,
            )
        )
        payloads += [_payload(reply, row) for reply, row in zip(replies, rows, strict=True)]
    measured = Measurement(
        rows=rows,
        capacity_before_rps=2.0,
        capacity_after_rps=capacity_after_rps,
        offered_rps=1.85,
        passes=passes,
    )
    return measured, payloads


def _serve(
    rows: Sequence[WorkloadRequest], *, shortest_first: bool, blind_above: int
) -> list[float]:
    """When each request is admitted by one server that takes TOKEN_S a token."""
    admitted = [0.0] * len(rows)
    waiting: list[tuple[float, int]] = []
    free_s, coming = 0.0, 0
    while coming < len(rows) or waiting:
        if not waiting:
            free_s = max(free_s, rows[coming].arrival_s)
        while coming < len(rows) and rows[coming].arrival_s <= free_s:
            key = min(rows[coming].output_tokens, blind_above) if shortest_first else coming
            heapq.heappush(waiting, (float(key), coming))
            coming += 1
        number = heapq.heappop(waiting)[1]
        admitted[number] = free_s
        free_s += rows[number].output_tokens * TOKEN_S
    return admitted


def _reply(row: WorkloadRequest, admitted_s: float, *, started_s: float, trace_id: str) -> Reply:
    due_s = started_s + row.arrival_s
    return Reply(
        due_s=due_s,
        sent_s=due_s,
        first_s=started_s + admitted_s + _FIRST_TOKEN_S,
        done_s=started_s + admitted_s + max(row.output_tokens * TOKEN_S, _FIRST_TOKEN_S),
        status=200,
        output_tokens=row.output_tokens,
        prompt_tokens=row.prompt_tokens,
        queue_wait_s=admitted_s - row.arrival_s,
        trace_id=trace_id,
        span_id=trace_id[:16],
    )


def _payload(reply: Reply, row: WorkloadRequest) -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "tiny"
    spans = resource.scope_spans.add().spans
    admitted_s = reply.sent_s + (reply.queue_wait_s or 0.0)
    for number, (name, start_s, end_s) in enumerate(
        (
            ("POST /v1/chat/completions", reply.sent_s, reply.done_s),
            (names.SPAN_QUEUE, reply.sent_s, admitted_s),
            (names.SPAN_ENGINE_OWN, admitted_s, reply.done_s),
        ),
        start=1,
    ):
        span = spans.add(
            trace_id=bytes.fromhex(reply.trace_id),
            span_id=number.to_bytes(8, "big"),
            parent_span_id=bytes.fromhex(reply.span_id),
            name=name,
            start_time_unix_nano=round((start_s + EPOCH_OFFSET_S) * 1e9),
            end_time_unix_nano=round((end_s + EPOCH_OFFSET_S) * 1e9),
        )
        if number == 1:
            span.attributes.add(key=names.ATTR_DOOR).value.string_value = "http"
            predicted = span.attributes.add(key=names.ATTR_PREDICTED)
            predicted.value.double_value = row.output_tokens * 1.1
        if name == names.SPAN_QUEUE and reply.queue_wait_s:
            expected = span.attributes.add(key=names.ATTR_PREDICTED_WAIT_S)
            expected.value.double_value = reply.queue_wait_s - FORESEEN_TOO_SOON_S
        if name == names.SPAN_ENGINE_OWN:
            span.attributes.add(key=names.ATTR_ENGINE_QUEUE_S).value.double_value = 0.0004
    return request.SerializeToString()
