"""The shipped workloads are what their README says, and train tells nothing about test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict, cast

import pytest
from llmservice_lab.benchmarks.mixes import MIXES, RECORDED
from llmservice_lab.benchmarks.work import Mix
from llmservice_lab.similarity import nearest_similarity
from llmservice_lab.workload import load_workload
from llmservice_lab.workload_build import MAX_PROMPT_CHARS, MAX_SIMILARITY, PARTS

WORKLOADS = Path(__file__).parents[3] / "examples" / "workloads"


class Row(TypedDict):
    arrival_s: float
    prompt: str
    prompt_tokens: int
    output_tokens: int
    source: str
    recorded_model: str


def rows(name: str) -> list[Row]:
    lines = (WORKLOADS / name).read_text(encoding="utf-8").splitlines()
    return [cast("Row", json.loads(line)) for line in lines]


def prompts(name: str) -> list[str]:
    return [row["prompt"] for row in rows(name)]


def test_train_and_test_share_no_prompt() -> None:
    normal = {name: {" ".join(p.lower().split()) for p in prompts(name)} for name in FILES}
    assert not normal["demo-train.jsonl"] & normal["demo-test.jsonl"]


def test_no_test_prompt_nearly_repeats_a_train_prompt() -> None:
    nearest = nearest_similarity(prompts("demo-test.jsonl"), prompts("demo-train.jsonl"))
    assert nearest.max() <= MAX_SIMILARITY


def test_similarity_finds_a_prompt_with_one_word_changed() -> None:
    text = "Write a short story about a lighthouse keeper who finds a message in a bottle."
    changed = text.replace("lighthouse", "harbour")
    other = "Prove that the square root of two is irrational."
    near, far = nearest_similarity([changed, other], [text])
    assert near > 0.7
    assert far < 0.2
    assert nearest_similarity([text], [])[0] == 0


FILES = {"demo-train.jsonl": 1000, "demo-test.jsonl": 400}


@pytest.mark.parametrize(("name", "at_least"), FILES.items())
def test_rows_are_enough_and_every_prompt_is_there_once(name: str, at_least: int) -> None:
    found = prompts(name)
    assert len(found) >= at_least
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("name", FILES)
def test_rows_fit_the_demo_engine_and_arrive_in_order(name: str) -> None:
    found = rows(name)
    arrivals = [row["arrival_s"] for row in found]
    assert arrivals[0] == 0
    assert arrivals == sorted(arrivals)
    assert all(0 < len(row["prompt"]) <= MAX_PROMPT_CHARS for row in found)
    assert all(1 <= row["output_tokens"] <= 2048 for row in found)


def test_only_permissive_sources_are_shipped() -> None:
    allowed = {part.source for part in PARTS}
    assert allowed == {"mmlu_pro_cot", "arena_hard_v0.1", "oasst_1k_multisample"}
    for name in FILES:
        assert {row["source"] for row in rows(name)} == allowed


def test_shipped_data_stays_within_two_megabytes() -> None:
    assert sum(file.stat().st_size for file in WORKLOADS.iterdir()) <= 2_000_000


PERMISSIVE = {
    "arena_hard_v0.1",
    "azure2023_code",
    "azure2023_conv",
    "lmsys1m",
    "mmlu_pro_cot",
    "mooncake_conversation",
    "oasst_1k_multisample",
    "servegen_deepseek-r1",
    "wildbench_v2",
}


@pytest.mark.parametrize("mix", [*MIXES, *RECORDED], ids=lambda mix: mix.name)
def test_every_mix_loads_and_has_permissive_sources_only(mix: Mix) -> None:
    found = load_workload(WORKLOADS.parents[1] / mix.path)
    assert len(found) >= 700
    assert found[0].arrival_s == 0
    assert {row.source for row in found} <= PERMISSIVE
    assert all(0 <= row.cached_tokens < max(row.prompt_tokens, 1) for row in found)


def test_only_sources_whose_texts_may_be_passed_on_come_with_prompts() -> None:
    sources = {
        row.source
        for mix in (*MIXES, *RECORDED)
        for row in load_workload(WORKLOADS.parents[1] / mix.path)
        if row.prompt is not None
    }
    assert sources == {"arena_hard_v0.1", "oasst_1k_multisample"}


def test_every_shipped_file_is_in_the_readme() -> None:
    text = (WORKLOADS / "README.md").read_text(encoding="utf-8")
    names = {path.name for path in WORKLOADS.iterdir()}
    assert len(names) > 5
    assert all(f"`{name}`" in text for name in names - {"README.md"})
