"""One smoke test on the engine as a pod runs it: real vLLM, real (tiny) weights, the sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from fakes.otlp_receiver import OtlpReceiver
from integration.sidecar.conftest import static_config
from integration.sidecar.running import SidecarProcess
from llmservice_lab.engine.process import EngineKind, EngineOptions, EngineProcess


@pytest.fixture(scope="module")
def engine_tiny() -> Iterator[EngineProcess]:
    with EngineProcess(EngineOptions(kind=EngineKind.TINY)) as engine:
        yield engine


@pytest.mark.timeout(300)
def test_a_real_model_answers_alike_with_and_without_the_sidecar(
    engine_tiny: EngineProcess, otlp: OtlpReceiver, tmp_path: Path
) -> None:
    with SidecarProcess(static_config(engine_tiny, otlp), tmp_path) as sidecar:
        answers = [answer(engine_tiny.url), answer(sidecar.http)]
    assert answers[0] == answers[1]
    text, finish, tokens = answers[1]
    assert text
    assert (finish, tokens) == ("stop", 24)


def answer(base: str) -> tuple[str, str | None, int]:
    """Text, finish reason and completion tokens of a streamed chat at temperature 0."""
    text, finish, tokens = "", None, 0
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none") as client:
        stream = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Tell me about rivers."}],
            temperature=0,
            max_tokens=100,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"vllm_xargs": {"out_len": 24}},
        )
        for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
            if chunk.usage is not None:
                tokens = chunk.usage.completion_tokens
    return text, finish, tokens
