"""The tiny model: the same every time, and close enough to a real one to be worth serving."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from engine.completions import CHAT, EngineClient
from llmservice_lab.engine import tiny_model
from llmservice_lab.engine.environment import ensure_engine_python

pytestmark = pytest.mark.timeout(300)

PROMPT = (
    "Write a short story about a detective who finds a letter in the old library, "
    "and explain what happens next."
)


def digests(directory: Path) -> dict[str, str]:
    """The hash of every file that decides what the model says."""
    names = ("config.json", "model.safetensors", "tokenizer.json")
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names}


def test_building_it_again_gives_the_same_bytes(tmp_path: Path) -> None:
    python = ensure_engine_python(log=print)
    builder = Path(tiny_model.__file__).with_name("tiny_model_build.py")
    subprocess.run([str(python), str(builder), str(tmp_path)], check=True, capture_output=True)
    assert digests(tmp_path) == digests(tiny_model.ensure_tiny_model(python))


async def test_english_takes_a_sane_number_of_tokens(tiny: EngineClient) -> None:
    answer = await tiny.ask(PROMPT, out_len=1)
    assert 1.0 <= answer.prompt_tokens / len(PROMPT.split()) <= 2.5


async def test_a_greedy_answer_is_the_same_twice(tiny: EngineClient) -> None:
    first = await tiny.ask(PROMPT, path=CHAT, out_len=100)
    assert await tiny.ask(PROMPT, path=CHAT, out_len=100) == first
    assert await tiny.ask(PROMPT, path=CHAT, out_len=100, stream=True) == first


async def test_an_answer_is_varied_readable_text(tiny: EngineClient) -> None:
    answer = await tiny.ask(PROMPT, out_len=100)
    assert answer.text.isascii()
    assert len(set(answer.token_ids)) > 50
