"""The scheduler classes for systems that live in the engine, on vLLM's own engine core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace

import aiohttp
import pytest
from engine.completions import EngineClient
from llmservice_lab.cost_model import CostModel
from llmservice_lab.engine.environment import EngineEnvironmentError
from llmservice_lab.engine.process import EngineKind, EngineOptions, EngineProcess
from llmservice_lab.engine.schedulers.hints import (
    TESTED_VERSION,
    predicted_tokens,
    require_tested_version,
)
from llmservice_lab.results import RequestRecord
from llmservice_lab.sim_engine import EngineOptions as SimEngineOptions
from llmservice_lab.sim_predictors import oracle
from llmservice_lab.simulator import Setup, simulate
from llmservice_lab.vllm_engine_process import VllmSimulator
from llmservice_lab.workload import WorkloadRequest
from llmservice_sidecar.core.policies.fcfs import Fcfs

pytestmark = pytest.mark.timeout(300)  # the first test of the run starts vLLM

SRPT = "llmservice_lab.engine.schedulers.srpt.SrptScheduler"
LTR = "llmservice_lab.engine.schedulers.ltr.LtrScheduler"
STEP_OF_A_SECOND = CostModel(step_s=1.0, per_decode_s=0.0, per_prefill_token_s=0.0)


@pytest.fixture(scope="module")
def vllm() -> Iterator[VllmSimulator]:
    with VllmSimulator() as simulator:
        yield simulator


def setup_of(work: Sequence[tuple[float, int]], scheduler: str, *, prompt_tokens: int = 8) -> Setup:
    """One slot and steps of a second: (arrival, output tokens) of each request."""
    rows = [
        WorkloadRequest(
            arrival_s=at, prompt=None, prompt_tokens=prompt_tokens, output_tokens=tokens
        )
        for at, tokens in work
    ]
    return Setup(
        rows=rows,
        arrivals_s=[row.arrival_s for row in rows],
        policy=Fcfs(),
        predictor=oracle(rows),
        costs=STEP_OF_A_SECOND,
        slots=1,
        guarded=False,
        options=SimEngineOptions(scheduler_class=scheduler),
    )


def ends(records: Sequence[RequestRecord]) -> list[float | None]:
    return [record.finished_s for record in records]


def test_the_shortest_remaining_takes_the_slot_and_gives_it_back(vllm: VllmSimulator) -> None:
    # At 10 the first has 90 tokens left: 20 come before them, 95 after.
    records = vllm.simulate(setup_of([(0.0, 100), (9.5, 20), (9.5, 95)], SRPT))
    assert ends(records) == [120.0, 30.0, 215.0]
    assert [record.preemptions for record in records] == [1, 0, 0]


def test_ranks_go_by_what_remains_not_by_the_whole_length(vllm: VllmSimulator) -> None:
    # At 70 the first has 30 left: fewer than the 40 of the second, though longer as a whole.
    assert ends(vllm.simulate(setup_of([(0.0, 100), (69.5, 40)], SRPT))) == [100.0, 140.0]
    # A score does not change while the answer grows.
    assert ends(vllm.simulate(setup_of([(0.0, 100), (69.5, 40)], LTR))) == [140.0, 110.0]


def test_without_a_prefix_cache_a_preemption_is_computed_again(vllm: VllmSimulator) -> None:
    setup = replace(
        setup_of([(0.0, 100), (49.5, 10)], SRPT, prompt_tokens=1000),
        costs=CostModel(step_s=1.0, per_decode_s=0.0, per_prefill_token_s=0.01),
    )
    kept = vllm.simulate(setup)[0].finished_s or 0.0
    bare = replace(setup.options, prefix_caching=False)
    again = vllm.simulate(replace(setup, options=bare))[0].finished_s or 0.0
    assert again - kept == pytest.approx(0.01 * 1024, abs=0.2)  # 64 whole blocks were kept


def test_a_starved_request_is_promoted_for_a_quantum(vllm: VllmSimulator) -> None:
    """One long request against a stream that fills the slot alone."""
    work = [(0.0, 300), *((0.5 + 20 * number, 20) for number in range(60))]
    records = {name: vllm.simulate(setup_of(work, name)) for name in (SRPT, LTR)}
    # Never run under SRPT, 10 iterations after each 200 under LTR: 1,200 s of stream, 5 times.
    assert records[SRPT][0].finished_s == pytest.approx(1500, abs=2)
    assert records[LTR][0].preemptions == pytest.approx(6, abs=1)
    last = max(record.finished_s or 0.0 for record in records[LTR][1:])
    assert last == pytest.approx(1200 + 50, abs=12)


def test_the_plain_engine_says_that_it_has_no_scheduler_classes() -> None:
    with pytest.raises(ValueError, match="use the vllm engine"):
        simulate(setup_of([(0.0, 1)], SRPT))


def test_an_unknown_class_ends_the_simulation_with_vllms_own_words() -> None:
    with VllmSimulator() as vllm, pytest.raises(EngineEnvironmentError, match="NoScheduler"):
        vllm.simulate(setup_of([(0.0, 1)], "llmservice_lab.engine.schedulers.srpt.NoScheduler"))


def test_another_version_of_vllm_is_refused() -> None:
    require_tested_version("X", f"{TESTED_VERSION}+cpu")
    with pytest.raises(RuntimeError, match=r"tested with vLLM .* and this is 9\.9\.9: install"):
        require_tested_version("X", "9.9.9")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param({"predicted_tokens": 12}, 12.0, id="what is told counts"),
        pytest.param({}, 500.0, id="who tells nothing counts as long"),
        pytest.param({"predicted_tokens": "many"}, 500.0, id="nonsense does not end the engine"),
        pytest.param({"predicted_tokens": float("nan")}, 500.0, id="NaN has no place in an order"),
    ],
)
def test_predictions_come_with_the_request(told: dict[str, object], expected: float) -> None:
    request = SimpleNamespace(max_tokens=500, sampling_params=SimpleNamespace(extra_args=told))
    assert predicted_tokens(request) == expected


@pytest.fixture(scope="module")
def srpt_engine() -> Iterator[EngineProcess]:
    """The tiny model, two slots, scheduling ahead of the model as vLLM does by default."""
    options = EngineOptions(
        kind=EngineKind.TINY, max_num_seqs=2, arguments=(f"--scheduler-cls={SRPT}",)
    )
    with EngineProcess(options) as engine:
        yield engine


@pytest.fixture
async def client(srpt_engine: EngineProcess) -> AsyncIterator[EngineClient]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
        yield EngineClient(srpt_engine, session)


async def ask(client: EngineClient, prompt: str, tokens: int) -> int:
    xargs = {"out_len": tokens, "predicted_tokens": tokens}
    return (await client.ask(prompt, vllm_xargs=xargs, max_tokens=1500)).completion_tokens


async def test_a_real_server_preempts_and_every_answer_is_whole(client: EngineClient) -> None:
    ended: list[int] = []

    async def one(number: int, tokens: int) -> None:
        assert await ask(client, f"Question {number}:", tokens) == tokens
        ended.append(tokens)

    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(one(number, 1400))
        await client.metric_reaches("vllm:num_requests_running", 2)
        for number in range(2, 8):
            group.create_task(one(number, 20))
    assert sorted(ended) == ended
    assert await client.metric("vllm:num_preemptions_total") >= 2
