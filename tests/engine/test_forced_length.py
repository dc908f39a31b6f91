"""The logits processor in the real engine with the tiny model."""

from __future__ import annotations

import asyncio

import pytest
from engine.completions import CHAT, COMPLETIONS, EngineClient

pytestmark = pytest.mark.timeout(300)  # the first test of the run starts the engine

PROMPT = "Explain in two sentences why the sky is blue."
ENDS = ["stop", "length"]


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("out_len", [1, 2, 37, 300])
async def test_an_answer_has_exactly_the_forced_length(
    tiny: EngineClient, path: str, stream: bool, temperature: int, out_len: int
) -> None:
    answer = await tiny.ask(
        PROMPT, path=path, stream=stream, temperature=temperature, out_len=out_len
    )
    assert (answer.completion_tokens, answer.finish_reason) == (out_len, "stop")
    assert len(answer.token_ids) == out_len


async def test_a_request_without_a_forced_length_is_untouched(tiny: EngineClient) -> None:
    alone = await tiny.ask(PROMPT, max_tokens=80)
    beside = await asyncio.gather(
        tiny.ask(PROMPT, max_tokens=80),
        *(tiny.ask(f"{i} {PROMPT}", out_len=10 * i) for i in range(1, 4)),
    )
    assert beside[0].token_ids == alone.token_ids
    assert beside[0].finish_reason in ENDS


async def test_a_forced_answer_is_the_free_answer_until_its_end(tiny: EngineClient) -> None:
    free = await tiny.ask(PROMPT, max_tokens=50)
    forced = await tiny.ask(PROMPT, out_len=50)
    assert forced.token_ids[:49] == free.token_ids[:49]


@pytest.mark.parametrize("value", [12, 12.0, "12"])
async def test_a_length_may_come_as_any_spelling_of_a_number(
    tiny: EngineClient, value: object
) -> None:
    assert (await tiny.ask(PROMPT, out_len=value)).completion_tokens == 12


async def test_max_tokens_still_bounds_a_forced_answer(tiny: EngineClient) -> None:
    answer = await tiny.ask(PROMPT, out_len=100, max_tokens=10)
    assert (answer.completion_tokens, answer.finish_reason) == (10, "length")


async def test_rows_of_one_batch_keep_their_own_lengths(tiny: EngineClient) -> None:
    lengths = [3, 90, 1, 40, 7, 120, 15, 60, 2, 33, 5, 75]
    answers = await asyncio.gather(
        *(tiny.ask(f"{i} {PROMPT}", out_len=length) for i, length in enumerate(lengths))
    )
    assert [answer.completion_tokens for answer in answers] == lengths


@pytest.mark.parametrize("value", [0, -3, 1.5, "many"])
@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
async def test_a_bad_length_is_a_bad_request_that_says_why(
    tiny: EngineClient, path: str, value: object
) -> None:
    status, message = await tiny.refusal(path, tiny.body(PROMPT, path=path, out_len=value))
    assert status == 400
    assert "vllm_xargs.out_len must be a whole number of at least 1" in message
