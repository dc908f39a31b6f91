"""Requests as traces tell them: a simulated load, and its OTLP/JSON as a sidecar writes it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from fakes.slot_server import FIRST_TOKEN_AFTER_S, Event, serve
from llmservice_lab.analysis.record import TracedRequest
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.runtime import telemetry_names as names

START_S: Final = 1_790_000_000.0  # Unix seconds
STEP_S: Final = 0.02
SERVICE: Final = "chat"
_TENANTS: Final = ("search", "support", None)


@dataclass(frozen=True, kw_only=True)
class Load:
    """A load of one pod: Poisson arrivals, answers of 1 to 1,000 tokens, predicted with an error.

    `utilisation` is of the slots; 1 and above grows a queue.
    """

    count: int = 400
    slots: int = 8
    utilisation: float = 0.9
    policy: str = "SSJF"
    error: float = 0.3  # standard deviation of the logarithm of predicted over actual
    seed: int = 1


_MEAN_TOKENS: Final = 150.0


def requests_of(load: Load) -> list[TracedRequest]:
    """What became of the load's requests, in order of arrival."""
    rng = random.Random(load.seed)
    rate = load.utilisation * load.slots / (_MEAN_TOKENS * STEP_S)
    now = 0.0
    made: list[Request] = []
    actual: dict[RequestId, int] = {}
    for number in range(load.count):
        now += rng.expovariate(rate)
        tokens = max(1, min(round(rng.lognormvariate(4.5, 1.0)), 1000))
        said = tokens * rng.lognormvariate(0.0, load.error)
        request = Request(
            id=RequestId(f"r{number}"),
            arrived_at=now,
            prompt_tokens=rng.randint(20, 400),
            prediction=Prediction(said, said * 1.5, "model", said * 0.95),
            tenant=rng.choice(_TENANTS),
        )
        made.append(request)
        actual[request.id] = tokens
    gate = Gate(
        policy=make_policy(load.policy),
        estimator=WorkEstimator(),
        rules=(),
        limit_slots=load.slots,
        max_queued=10 * load.count,
        max_queued_tokens=10**12,
    )
    heads: dict[RequestId, tuple[int, int]] = {}

    def note(event: Event) -> None:
        if event.what == "offer" and event.decision == "queued":
            standing = gate.standing(event.request.id)
            heads[event.request.id] = (standing.position, standing.depth)

    admitted = serve(
        gate,
        made,
        lambda one: actual[one.id] * STEP_S,
        on_event=note,
        output_tokens=lambda one: actual[one.id],
    )
    overtaken = _overtaken(made, admitted)
    return [
        _traced(one, admitted[one.id], actual[one.id], heads.get(one.id), overtaken, load.policy)
        for one in made
    ]


def _overtaken(
    made: list[Request], admitted: dict[RequestId, float]
) -> dict[RequestId, list[RequestId]]:
    by: dict[RequestId, list[RequestId]] = {}
    for place, one in enumerate(made):
        at = admitted[one.id]
        for later in made[place + 1 :]:
            if later.arrived_at >= at:
                break
            if admitted[later.id] < at:
                by.setdefault(one.id, []).append(later.id)
    return by


def _traced(
    one: Request,
    admitted_at: float,
    tokens: int,
    head: tuple[int, int] | None,
    overtaken: dict[RequestId, list[RequestId]],
    policy: str,
) -> TracedRequest:
    called = START_S + admitted_at
    first = called + FIRST_TOKEN_AFTER_S
    ended = first + tokens * STEP_S
    by = overtaken.get(one.id, [])
    return TracedRequest(
        request_id=one.id,
        trace_id=f"{int(one.id[1:]) + 1:032x}",
        service=SERVICE,
        pod="chat-0",
        door="http",
        arrived_s=START_S + one.arrived_at,
        ended_s=ended,
        outcome="completed",
        reason="stop",
        sampled_by="head",
        model="tiny",
        tenant=one.tenant,
        stream=True,
        policy=policy,
        order=policy,
        prompt_tokens=one.prompt_tokens,
        predicted_tokens=one.prediction.output_tokens,
        predicted_p50=one.prediction.p50_tokens,
        predicted_p90=one.prediction.p90_tokens,
        prediction_source="model",
        predict_s=0.002,
        actual_tokens=tokens,
        output_tokens=tokens,
        queued_s=START_S + one.arrived_at,
        left_queue_s=called,
        queue_wait_s=admitted_at - one.arrived_at,
        position=None if head is None else head[0],
        depth=None if head is None else head[1],
        key=0.0,
        gamma_per_s=0.1,
        overtaken_by=len(by),
        overtaken_by_ids=tuple(by[:8]),
        called_s=called,
        first_token_s=first,
        engine_ended_s=ended,
        longest_gap_s=STEP_S,
        client_stall_s=0.0,
        engine_queue_s=0.001,
    )


def otlp_lines(requests: Iterable[TracedRequest], *, per_line: int = 50) -> Iterator[str]:
    """As `tracing.exporter: otlp-file` writes them, the engine's spans in batches of their own."""
    batch: list[TracedRequest] = []
    for one in requests:
        batch.append(one)
        if len(batch) == per_line:
            yield _line(batch)
            batch = []
    if batch:
        yield _line(batch)


def _line(batch: list[TracedRequest]) -> str:
    ours = [span for one in batch for span in _spans(one)]
    theirs = [_engine_span(one) for one in batch if one.engine_queue_s is not None]
    resource = {names.RESOURCE_SERVICE_NAME: batch[0].service, names.RESOURCE_POD: batch[0].pod}
    engine = {names.RESOURCE_SERVICE_NAME: f"{batch[0].service}-engine"}
    document = {
        "resourceSpans": [
            {"resource": {"attributes": _pairs(engine)}, "scopeSpans": [{"spans": theirs}]},
            {"resource": {"attributes": _pairs(resource)}, "scopeSpans": [{"spans": ours}]},
        ]
    }
    return json.dumps(document, separators=(",", ":")) + "\n"


def _spans(one: TracedRequest) -> list[dict[str, Any]]:
    spans: list[dict[str, Any]] = []
    if one.predict_s is not None:
        end_s = one.arrived_s + one.predict_s
        spans.append(_span(one, 2, names.SPAN_PREDICT, (one.arrived_s, end_s), {}))
    if one.queued_s is not None and one.left_queue_s is not None:
        spans.append(_queue_span(one, one.queued_s, one.left_queue_s))
    if one.called_s is not None and one.engine_ended_s is not None:
        spans.append(_client_span(one, one.called_s, one.engine_ended_s))
    return [*spans, _door_span(one)]


def _door_span(one: TracedRequest) -> dict[str, Any]:
    attributes = {
        names.ATTR_REQUEST_ID: one.request_id,
        names.ATTR_DOOR: one.door,
        names.ATTR_OUTCOME: one.outcome,
        names.ATTR_REASON: one.reason,
        names.ATTR_TENANT: one.tenant,
        names.ATTR_PRIORITY: one.priority,
        names.ATTR_POLICY: one.policy,
        names.ATTR_ORDER: one.order,
        names.ATTR_TAIL_WEIGHT: one.tail_weight,
        names.ATTR_SLOTS: one.slots,
        names.ATTR_PROMPT_TOKENS: one.prompt_tokens,
        names.ATTR_TIMEOUT_S: one.timeout_s,
        names.ATTR_SAMPLED_BY: one.sampled_by or None,
        names.ATTR_PREDICTED: one.predicted_tokens,
        names.ATTR_PREDICTED_P50: one.predicted_p50,
        names.ATTR_PREDICTED_P90: one.predicted_p90,
        names.ATTR_PREDICTION_SOURCE: one.prediction_source,
        names.ATTR_ACTUAL: one.actual_tokens,
    }
    return _span(one, 1, "POST /v1/completions", (one.arrived_s, one.ended_s), attributes)


def _queue_span(one: TracedRequest, start_s: float, end_s: float) -> dict[str, Any]:
    attributes = {
        names.ATTR_QUEUE_WAIT_S: one.queue_wait_s,
        names.ATTR_PREDICTED_WAIT_S: one.expected_wait_s,
        names.ATTR_KEY: one.key,
        names.ATTR_GAMMA: one.gamma_per_s,
        names.ATTR_LIMIT_SLOTS: one.limit_slots,
        names.ATTR_OVERTOOK: one.overtook,
        names.ATTR_OVERTAKEN_BY: one.overtaken_by,
        names.ATTR_OVERTAKEN_BY_IDS: one.overtaken_by_ids,
    }
    span = _span(one, 3, names.SPAN_QUEUE, (start_s, end_s), attributes)
    if one.position is not None:
        place = {names.ATTR_QUEUE_POSITION: one.position, names.ATTR_QUEUE_DEPTH: one.depth}
        span["events"] = [_event(names.EVENT_OFFER, start_s, place)]
    return span


def _client_span(one: TracedRequest, start_s: float, end_s: float) -> dict[str, Any]:
    attributes = {
        names.ATTR_GEN_AI_OPERATION: "text_completion",
        names.ATTR_GEN_AI_PROVIDER: names.PROVIDER,
        names.ATTR_GEN_AI_MODEL: one.model,
        names.ATTR_GEN_AI_STREAM: one.stream,
        names.ATTR_GEN_AI_CHOICES: one.slots,
        names.ATTR_GEN_AI_MAX_TOKENS: one.max_tokens,
        names.ATTR_GEN_AI_INPUT_TOKENS: one.prompt_tokens,
        names.ATTR_GEN_AI_OUTPUT_TOKENS: one.output_tokens,
        names.ATTR_LONGEST_GAP_S: one.longest_gap_s,
        names.ATTR_CLIENT_STALL_S: one.client_stall_s,
    }
    span = _span(one, 4, f"text_completion {one.model}", (start_s, end_s), attributes)
    span["kind"] = 3
    if one.first_token_s is not None:
        span["events"] = [_event(names.EVENT_FIRST_TOKEN, one.first_token_s, {})]
    return span


def _engine_span(one: TracedRequest) -> dict[str, Any]:
    times = (one.called_s or 0.0, one.engine_ended_s or 0.0)
    attributes = {names.ATTR_ENGINE_QUEUE_S: one.engine_queue_s}
    span = _span(one, 5, names.SPAN_ENGINE_OWN, times, attributes)
    span["parentSpanId"] = _id(one, 4)
    return span


def _span(
    one: TracedRequest,
    number: int,
    name: str,
    times: tuple[float, float],
    attributes: dict[str, Any],
) -> dict[str, Any]:
    return {
        "traceId": one.trace_id,
        "spanId": _id(one, number),
        **({} if number == 1 else {"parentSpanId": _id(one, 1)}),
        "name": name,
        "startTimeUnixNano": str(round(times[0] * 1e9)),
        "endTimeUnixNano": str(round(times[1] * 1e9)),
        "attributes": _pairs(attributes),
    }


def _id(one: TracedRequest, number: int) -> str:
    return f"{number:02x}{one.trace_id[-14:]}"


def _event(name: str, at_s: float, attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "timeUnixNano": str(round(at_s * 1e9)),
        "attributes": _pairs(attributes),
    }


def _pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": _value(value)}
        for key, value in attributes.items()
        if value is not None
    ]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case _:
            return {"arrayValue": {"values": [_value(item) for item in value]}}
