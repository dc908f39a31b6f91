"""A pipeline on virtual time: the real one, in front of a fake engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes.engine import FakeEngine
from fakes.spans import EndedSpans, request_tracer
from llmservice_api.sidecar_config import LiveConfig
from llmservice_sidecar.core.admission.kv_forecast import KvForecast
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.request import Prediction, RequestId
from llmservice_sidecar.core.trust import Trust
from llmservice_sidecar.runtime.account import Telemetry
from llmservice_sidecar.runtime.async_gate import AsyncGate
from llmservice_sidecar.runtime.call import Door, InferenceCall
from llmservice_sidecar.runtime.limits import Limits
from llmservice_sidecar.runtime.ordering import Ordering
from llmservice_sidecar.runtime.pipeline import Pipeline
from llmservice_sidecar.runtime.ports import PredictionQuery, RequestEnd
from llmservice_sidecar.runtime.predicting import Predicting
from opentelemetry.sdk.trace import ReadableSpan

DOOR = Door("http", "POST /v1/completions")


@dataclass
class ScriptedPredictor:
    """Says what `tokens` maps a prompt's text to, after `delay_s`."""

    tokens: dict[str, float] = field(default_factory=dict[str, float])
    delay_s: float = 0.0
    mean_tokens: float = 100.0
    late: bool = False
    error: Exception | None = None
    observed: list[tuple[str, int, bool]] = field(default_factory=list[tuple[str, int, bool]])

    async def predict(self, query: PredictionQuery) -> Prediction:
        """Look the text up."""
        await asyncio.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        tokens = self.tokens.get(query.text, 100.0)
        return Prediction(tokens, tokens * 2, "model")

    async def predictions(self, query: PredictionQuery) -> AsyncGenerator[Prediction]:
        """The same; before it the running mean at once, if `late`."""
        if self.late:
            yield self.running_mean(query)
        yield await self.predict(query)

    def running_mean(self, query: PredictionQuery) -> Prediction:
        """The same for all."""
        del query
        return Prediction(self.mean_tokens, self.mean_tokens, "history")

    def observe(self, query: PredictionQuery, *, output_tokens: int, censored: bool) -> None:
        """Note it."""
        self.observed.append((query.text, output_tokens, censored))


@dataclass
class RecordingMetrics:
    """Implements `RequestMetrics` by noting."""

    ends: list[RequestEnd] = field(default_factory=list[RequestEnd])
    waits: list[float] = field(default_factory=list[float])
    foreseen: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    sources: list[str] = field(default_factory=list[str])

    def predicted(self, *, source: str, duration_s: float) -> None:
        """Note it."""
        self.sources.append(source)

    def left_queue(
        self,
        *,
        wait_s: float,
        predicted_wait_s: float | None = None,
        trace_id: str | None = None,
    ) -> None:
        """Note it."""
        self.waits.append(wait_s)
        if predicted_wait_s is not None:
            self.foreseen.append((predicted_wait_s, wait_s))

    def finished(self, end: RequestEnd) -> None:
        """Note it."""
        self.ends.append(end)


@dataclass
class Bench:
    """A pipeline and everything that a test looks at."""

    pipeline: Pipeline
    gate: AsyncGate
    engine: FakeEngine
    predictor: ScriptedPredictor
    metrics: RecordingMetrics
    ended: EndedSpans
    order: list[str] = field(default_factory=list[str])

    async def request(self, name: str, out_len: int = 3, **changes: Any) -> bytes:
        """Serve one call to its end and return what the client got."""
        async with self.pipeline.serve(call(name, out_len, **changes), door=DOOR) as served:
            self.order.append(name)
            return b"".join([chunk async for chunk in served.chunks()])

    def outcomes(self) -> list[tuple[str, str]]:
        """Outcome and reason of all ended requests, in the order of their ends."""
        return [(end.outcome.value, end.reason.value) for end in self.metrics.ends]

    def spans(self, name: str) -> list[ReadableSpan]:
        """The ended spans of a name."""
        return [span for span in self.ended.spans if span.name == name]

    def assert_idle(self) -> None:
        """Nothing is left anywhere."""
        gate = self.gate.state
        assert (gate.in_flight_slots, gate.queued_requests, self.engine.running) == (0, 0, 0)


def call(name: str, out_len: int = 3, **changes: Any) -> InferenceCall:
    """A streamed completion of `out_len` tokens whose prompt is its name."""
    body: dict[str, object] = {
        "prompt": name,
        "stream": changes.get("stream", True),
        "vllm_xargs": {"out_len": out_len},
    }
    fields: dict[str, Any] = {
        "request_id": RequestId(name),
        "path": "/v1/completions",
        "body": body,
        "query": PredictionQuery(
            text=name, prompt_tokens=2, endpoint="completions", model="m", max_tokens=1000
        ),
        "stream": True,
        "operation": "text_completion",
    }
    return InferenceCall(**{**fields, **changes})


MakeBench = Callable[..., Bench]


@pytest.fixture
def make_bench() -> MakeBench:
    """Makes a pipeline; must be called inside the running loop."""

    def make(*, slots: int = 1, trusted: bool = True, live: LiveConfig | None = None) -> Bench:
        clock = asyncio.get_running_loop().time
        engine, predictor, metrics = FakeEngine(), ScriptedPredictor(), RecordingMetrics()
        kv_forecast = KvForecast()
        gate = AsyncGate(
            Gate(
                policy=make_policy("FCFS"),
                rules=(kv_forecast,),
                limit_slots=slots,
                max_queued=100,
                estimator=WorkEstimator(),
            ),
            clock=clock,
        )
        trust = Trust(min_samples=20, window=100, starts_trusted=trusted)
        ended = EndedSpans()
        pipeline = Pipeline(
            gate=gate,
            engine=engine,
            ordering=Ordering(
                gate,
                trust=trust,
                limits=Limits(gate, slots=slots, kv_forecast=kv_forecast, clock=clock),
                live=live or LiveConfig(tail_weight=0.0),
                clock=clock,
            ),
            predicting=Predicting(predictor, kind="Scripted"),
            telemetry=Telemetry(request_tracer(ended), metrics, clock),
        )
        return Bench(pipeline, gate, engine, predictor, metrics, ended)

    return make
