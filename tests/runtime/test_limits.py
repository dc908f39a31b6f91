"""What bounds the slots in flight, told by the answers themselves; on virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from llmservice_api.sidecar_config import LiveConfig
from llmservice_sidecar.core.admission.kv_forecast import KvForecast
from llmservice_sidecar.core.errors import EngineUnavailable, RequestRejected
from llmservice_sidecar.core.gamma import WorkEstimator
from llmservice_sidecar.core.gate import Gate
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.runtime.answer import Usage
from llmservice_sidecar.runtime.async_gate import AsyncGate
from llmservice_sidecar.runtime.limits import Limit, Limits
from runtime.conftest import Bench, MakeBench

pytestmark = pytest.mark.looptime

SLOTS = 4
PATIENT_S = 1e6


@dataclass
class Hand:
    """Limits whose clock and engine are moved by hand."""

    slots: int = SLOTS
    notice_delay_s: float = 0.0
    now: float = 0.0

    def __post_init__(self) -> None:
        self.kv = KvForecast()
        gate = Gate(policy=Fcfs(), limit_slots=self.slots, max_queued=9, estimator=WorkEstimator())
        self.gate = AsyncGate(gate, clock=lambda: self.now)
        self.limits = Limits(
            self.gate,
            slots=self.slots,
            kv_forecast=self.kv,
            clock=lambda: self.now,
            notice_delay_s=lambda: self.notice_delay_s,
        )

    def serve(self, *, token_s: float, tokens: int = 65, prompt: int = 100, slots: int = 1) -> None:
        """As many answers at once as are allowed, streamed in stretches of 16 events."""
        count = max(self.limits.limit.slots // slots, 1)
        paces = [self.limits.start(request(prompt=prompt, slots=slots)) for _ in range(count)]
        self.now += 0.01 + 1e-5 * prompt
        for pace in paces:
            pace.first_token(slots)
        for done in range(17, tokens, 16):
            self.now += 16 * token_s
            for pace in paces:
                pace.progress(done * slots)
        for pace in paces:
            pace.end(Usage(prompt, tokens * slots), prediction=None)


def request(*, prompt: int = 100, slots: int = 1) -> Request:
    return Request(
        id=RequestId("r"),
        arrived_at=0.0,
        prompt_tokens=prompt,
        prediction=Prediction(650, 650, "test"),
        slots=slots,
    )


async def until_settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("max_concurrency", "limit"),
    [
        (None, Limit(4, "slots")),
        (2, Limit(2, "max_concurrency")),
        (4, Limit(4, "slots")),
        (9, Limit(4, "slots")),
    ],
)
def test_the_smallest_bound_is_the_limit(max_concurrency: int | None, limit: Limit) -> None:
    hand = Hand()
    hand.limits.apply(LiveConfig(max_concurrency=max_concurrency))
    assert hand.limits.limit == limit


def test_tokens_that_take_too_long_lower_the_limit_until_the_target_is_lifted() -> None:
    hand = Hand()
    hand.limits.apply(LiveConfig(target_tpot_s=0.02))
    for _ in range(200):
        hand.serve(token_s=0.01 * hand.limits.limit.slots)
    assert hand.limits.limit == Limit(2, "time_per_output_token")
    assert hand.limits.token_s == pytest.approx(0.02, rel=0.02)
    hand.limits.apply(LiveConfig())
    assert hand.limits.limit == Limit(4, "slots")


def test_the_smaller_of_target_and_max_concurrency_counts() -> None:
    hand = Hand()
    hand.limits.apply(LiveConfig(target_tpot_s=0.02, max_concurrency=1))
    for _ in range(200):
        hand.serve(token_s=0.01 * hand.limits.limit.slots)
    assert hand.limits.limit == Limit(1, "max_concurrency")


def test_n_answers_of_one_request_are_as_fast_as_one_each() -> None:
    hand = Hand()
    for _ in range(20):
        hand.serve(token_s=0.02, slots=2)
    assert hand.limits.token_s == pytest.approx(0.02)


def test_an_answer_in_one_piece_tells_the_time_of_a_token_too() -> None:
    hand = Hand()
    for prompt in range(100, 2100, 100):  # streamed: what a prompt takes is learned
        hand.serve(token_s=0.02, prompt=prompt)
    for _ in range(2000):
        pace = hand.limits.start(request(prompt=1000))
        hand.now += 0.01 + 100 * 0.04
        pace.end(Usage(1000, 100), prediction=None)
    assert hand.limits.token_s == pytest.approx(0.04, rel=0.02)


def test_short_answers_and_failed_ones_teach_nothing() -> None:
    hand = Hand()
    for _ in range(100):
        hand.serve(token_s=0.02, tokens=5)
        pace = hand.limits.start(request())
        pace.first_token(1)
        hand.now += 100.0
        pace.end(None, prediction=None)
    assert hand.limits.token_s is None
    assert hand.limits.in_flight_slots == 0


def test_the_forecast_learns_how_long_answers_really_are() -> None:
    hand = Hand()
    for _ in range(8):
        hand.serve(token_s=0.02, tokens=65)
    assert hand.kv.bias == pytest.approx(0.1)


def test_the_prediction_that_counted_is_the_one_that_is_judged() -> None:
    hand = Hand()
    for _ in range(8):
        hand.limits.start(request()).end(Usage(10, 65), prediction=Prediction(65, 65, "model"))
    assert hand.kv.bias == pytest.approx(1.0)


def test_far_from_the_engine_more_are_sent_ahead() -> None:
    hand = Hand(notice_delay_s=0.1)
    for _ in range(400):  # 10 a second
        hand.limits.start(request()).end(None, prediction=None)
        hand.now += 0.1
    assert hand.limits.limit == Limit(SLOTS + 3, "slots")
    hand.notice_delay_s = 0.0
    hand.now += 1.0
    hand.limits.start(request()).end(None, prediction=None)
    assert hand.limits.limit == Limit(SLOTS, "slots")


async def test_a_request_that_will_not_fit_the_cache_waits_beside_a_free_slot(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(slots=2)
    bench.predictor.tokens = {"a": 10.0, "b": 10.0}
    bench.pipeline.limits.kv_capacity(6)
    first = asyncio.create_task(bench.request("a", out_len=10))
    await until_settled()
    second = asyncio.create_task(bench.request("b", out_len=10))
    await asyncio.sleep(5)
    blocked = bench.pipeline.snapshot()
    assert (blocked.limit_slots, blocked.limit_reason) == (1, "kv_cache")
    assert (blocked.in_flight_slots, blocked.queued_requests) == (1, 1)
    await asyncio.gather(first, second)
    assert bench.engine.peak == 1
    _assert_free(bench)


async def test_a_larger_cache_lets_the_blocked_go_at_once(make_bench: MakeBench) -> None:
    bench = make_bench(slots=2)
    bench.pipeline.limits.kv_capacity(6)
    first = asyncio.create_task(bench.request("a", out_len=10))
    await until_settled()
    second = asyncio.create_task(bench.request("b", out_len=10))
    await asyncio.sleep(5)
    bench.pipeline.limits.kv_capacity(100_000)
    await until_settled()
    assert bench.pipeline.snapshot().in_flight_slots == 2
    await asyncio.gather(first, second)
    _assert_free(bench)


async def test_streams_steer_the_limit_and_a_new_configuration_frees_it(
    make_bench: MakeBench,
) -> None:
    # The engine takes 1 s a token, however many it has.
    live = LiveConfig(target_tpot_s=0.5, queue_timeout_s=PATIENT_S)
    bench = make_bench(slots=4, live=live)
    await asyncio.gather(*(bench.request(f"r{i}", out_len=200) for i in range(16)))
    now = bench.pipeline.snapshot()
    assert (now.limit_slots, now.limit_reason) == (1, "time_per_output_token")
    bench.pipeline.apply_live(LiveConfig(target_tpot_s=2.0, queue_timeout_s=PATIENT_S))
    await asyncio.gather(*(bench.request(f"s{i}", out_len=200) for i in range(16)))
    now = bench.pipeline.snapshot()
    assert (now.limit_slots, now.limit_reason) == (4, "slots")
    _assert_free(bench)


async def test_a_request_of_several_slots_is_served_however_low_the_target(
    make_bench: MakeBench,
) -> None:
    live = LiveConfig(target_tpot_s=0.5, queue_timeout_s=PATIENT_S)
    bench = make_bench(slots=4, live=live)
    await asyncio.gather(*(bench.request(f"r{i}", out_len=200) for i in range(16)))
    assert bench.pipeline.snapshot().limit_slots == 1
    others = [asyncio.create_task(bench.request(f"s{i}", out_len=20)) for i in range(3)]
    await until_settled()
    await bench.request("wide", out_len=20, slots=3)
    await asyncio.gather(*others)
    assert bench.outcomes()[-4:] == [("completed", "stop")] * 4
    assert bench.pipeline.snapshot().limit_slots == 1
    with pytest.raises(RequestRejected):
        await bench.request("too wide", slots=5)
    _assert_free(bench)


async def test_whatever_ends_a_request_it_is_no_longer_in_flight(make_bench: MakeBench) -> None:
    bench = make_bench(slots=2)
    leaving = asyncio.create_task(bench.request("leaves", out_len=100))
    await asyncio.sleep(5)
    assert bench.pipeline.limits.in_flight_slots == 1
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    bench.engine.up = False
    with pytest.raises(EngineUnavailable):
        await bench.request("refused")
    _assert_free(bench)


def _assert_free(bench: Bench) -> None:
    bench.assert_idle()
    assert bench.pipeline.limits.in_flight_slots == 0
