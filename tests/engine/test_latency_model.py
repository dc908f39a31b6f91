"""The latency model is pure: it is tested without an engine."""

from __future__ import annotations

import subprocess
import sys

import pytest
from llmservice_lab.engine.latency_model import LatencyModel, prompt_seed, token_at

VOCABULARY = 4096


def test_a_step_costs_its_base_its_decodes_and_its_prefill() -> None:
    model = LatencyModel(step_s=0.005, per_decode_s=0.001, per_prefill_token_s=0.0001)
    assert model.duration_s(decodes=3, prefill_tokens=100) == pytest.approx(0.018)


def test_the_environment_carries_the_model_to_another_process() -> None:
    model = LatencyModel(step_s=0.007, per_decode_s=0, per_prefill_token_s=1e-5)
    assert LatencyModel.from_environment(model.to_environment()) == model


def test_an_empty_environment_means_the_defaults() -> None:
    assert LatencyModel.from_environment({}) == LatencyModel()


@pytest.mark.parametrize("text", ["fast", "-1", "nan", "inf"])
def test_a_bad_value_is_refused_by_the_name_of_its_variable(text: str) -> None:
    with pytest.raises(ValueError, match=f"LLMSERVICE_LATENCY_STEP_S='{text}'"):
        LatencyModel.from_environment({"LLMSERVICE_LATENCY_STEP_S": text})


def test_lengths_without_a_forced_one_have_the_mean_and_a_bound() -> None:
    model = LatencyModel(mean_output_tokens=100)
    lengths = [model.output_tokens(prompt_seed([i])) for i in range(4000)]
    assert min(lengths) >= 1
    assert max(lengths) <= 800
    assert sum(lengths) / len(lengths) == pytest.approx(100, rel=0.08)


def test_tokens_avoid_special_tokens_and_single_bytes() -> None:
    tokens = [token_at(prompt_seed([1, 2, 3]), i, vocabulary=VOCABULARY) for i in range(5000)]
    assert min(tokens) >= VOCABULARY // 8
    assert max(tokens) < VOCABULARY


def test_different_prompts_get_different_answers() -> None:
    assert prompt_seed([1, 2, 3]) != prompt_seed([1, 2, 4])
    assert prompt_seed([1, 2]) != prompt_seed([2, 1])


def test_the_seed_is_the_same_in_another_process() -> None:
    script = (
        "from llmservice_lab.engine.latency_model import prompt_seed; print(prompt_seed([7, 8, 9]))"
    )
    other = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert int(other.stdout) == prompt_seed([7, 8, 9])
