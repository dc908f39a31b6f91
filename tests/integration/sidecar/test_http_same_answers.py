"""Through the sidecar a client gets what the engine alone would have answered."""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any, Final, cast

import openai
import pytest
from integration.sidecar.running import SidecarProcess
from llmservice_lab.engine.process import EngineProcess

PROMPTS: Final = 50
# They differ between any two calls, also of the engine alone.
VOLATILE: Final = frozenset({"id", "created", "system_fingerprint", "created_at", "item_id"})
PATHS: Final = ("/v1/chat/completions", "/v1/completions")


def prompts() -> list[str]:
    rng = random.Random(3)
    words = ("river", "stone", "light", "über", "数", "engine", '"quote"', "line\nbreak", "[DONE]")
    return [" ".join(rng.choices(words, k=rng.randint(1, 30))) for _ in range(PROMPTS)]


def body(path: str, prompt: str, number: int, *, stream: bool) -> dict[str, Any]:
    asked: dict[str, Any] = {"model": "tiny", "max_tokens": 3 + number % 9, "temperature": 0}
    if path == PATHS[0]:
        asked["messages"] = [{"role": "user", "content": prompt}]
    else:
        asked["prompt"] = prompt
    asked["return_token_ids"] = True
    if number % 3:
        asked["vllm_xargs"] = {"out_len": 1 + number % 12}
    if stream:
        asked["stream"] = True
        if number % 2:
            asked["stream_options"] = {"include_usage": True}
    return asked


def stable(value: Any) -> Any:
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        return {key: stable(item) for key, item in named.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [stable(item) for item in cast("list[Any]", value)]
    return value


def events(text: str) -> list[Any]:
    lines = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def folded(chunks: list[Any]) -> dict[str, Any]:
    """A stream without where its chunks are cut: under load the engine puts tokens together."""
    answer: dict[str, Any] = {
        "text": "",
        "tokens": [],
        "prompt": None,  # in the first chunk, which may be the last too
        "last": [],
        "usage": None,
        "fields": set[str](),
    }
    for chunk in stable(chunks):
        answer["usage"] = chunk.get("usage") or answer["usage"]
        answer["fields"] |= chunk.keys()
        for choice in chunk["choices"]:
            delta = choice.pop("delta", {})
            answer["text"] += choice.pop("text", None) or delta.get("content") or ""
            answer["tokens"] += choice.pop("token_ids", None) or []
            answer["prompt"] = choice.pop("prompt_token_ids", None) or answer["prompt"]
            answer["fields"] |= {f"choice.{name}" for name in choice}
            if choice["finish_reason"] is not None:
                answer["last"].append(choice)
    return answer


def test_where_an_answer_is_cut_does_not_matter() -> None:
    first = {"text": "a", "token_ids": [1], "prompt_token_ids": [7, 8], "finish_reason": None}
    last = {"text": "b", "token_ids": [2], "prompt_token_ids": None, "finish_reason": "stop"}
    whole = first | {"text": "ab", "token_ids": [1, 2], "finish_reason": "stop"}
    cut = [{"choices": [dict(first)]}, {"choices": [dict(last)]}]
    assert folded(cut) == folded([{"choices": [whole]}])


def curl(url: str, asked: dict[str, Any]) -> str:
    command = ["curl", "--silent", "--show-error", "--no-buffer", "--noproxy", "*", url]
    command += ["--header", "content-type: application/json", "--data-binary", "@-"]
    sent = json.dumps(asked).encode()
    done = subprocess.run(command, input=sent, capture_output=True, check=True, timeout=60)
    return done.stdout.decode()


@pytest.mark.parametrize("path", PATHS)
def test_curl_streams_are_equal(
    sidecar: SidecarProcess, engine_latency: EngineProcess, path: str
) -> None:
    for number, prompt in enumerate(prompts()[:10]):
        asked = body(path, prompt, number, stream=True)
        direct = folded(events(curl(engine_latency.url + path, asked)))
        through = folded(events(curl(sidecar.http + path, asked)))
        assert through == direct
        assert (direct["usage"] is not None) is bool(number % 2)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_official_client_gets_the_same(
    sidecar: SidecarProcess, engine_latency: EngineProcess, stream: bool
) -> None:
    with (
        openai.OpenAI(base_url=f"{engine_latency.url}/v1", api_key="none") as direct,
        openai.OpenAI(base_url=f"{sidecar.http}/v1", api_key="none") as through,
    ):
        for number, prompt in enumerate(prompts()):
            for path in PATHS:
                asked = body(path, prompt, number, stream=stream)
                assert ask(through, path, asked) == ask(direct, path, asked)


def ask(client: openai.OpenAI, path: str, asked: dict[str, Any]) -> Any:
    extra = {key: asked.pop(key) for key in ("vllm_xargs", "return_token_ids") if key in asked}
    try:
        endpoint: Any = client.chat.completions if path == PATHS[0] else client.completions
        answer: Any = endpoint.create(**asked, extra_body=extra)
        if asked.get("stream"):
            return folded([part.model_dump() for part in answer])
        return stable(answer.model_dump())
    finally:
        asked.update(extra)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "wrong", [{"temperature": -5}, {"max_tokens": 10**6}, {"logit_bias": {"x": "y"}}]
)
def test_what_the_engine_refuses_is_passed_on_untouched(
    sidecar: SidecarProcess, engine_latency: EngineProcess, path: str, wrong: dict[str, Any]
) -> None:
    asked = body(path, "hello", 0, stream=False) | wrong
    direct = json.loads(curl(engine_latency.url + path, asked))
    assert "error" in direct
    assert json.loads(curl(sidecar.http + path, asked)) == direct


def test_responses_are_equal(sidecar: SidecarProcess, engine_latency: EngineProcess) -> None:
    asked = {"input": "hello there", "max_output_tokens": 6, "temperature": 0}
    answers = [
        stable(json.loads(curl(f"{base}/v1/responses", asked)))
        for base in (engine_latency.url, sidecar.http)
    ]
    assert answers[0]["status"] in {"completed", "incomplete"}
    assert answers[0]["usage"] == answers[1]["usage"]
    assert text_of(answers[0]) == text_of(answers[1])


def text_of(response: dict[str, Any]) -> list[str]:
    return [part["text"] for item in response["output"] for part in item["content"]]


def test_models_health_and_tokenize_pass_through(
    sidecar: SidecarProcess, engine_latency: EngineProcess
) -> None:
    asked = {"model": "tiny", "prompt": "hello"}
    direct = json.loads(curl(f"{engine_latency.url}/tokenize", asked))
    assert json.loads(curl(f"{sidecar.http}/tokenize", asked)) == direct
    refused = json.loads(curl(f"{sidecar.http}/tokenize", asked | {"chat_template": "x"}))
    assert refused["error"]["param"] == "chat_template"
    with openai.OpenAI(base_url=f"{sidecar.http}/v1", api_key="none") as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
