"""The online evaluation: services mixed from a table, and figures that tell learning from luck."""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from llmservice_lab.predictors import online_eval
from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.predictors.online_eval import Plan, evaluate
from llmservice_lab.predictors.services import Services, kind_of
from llmservice_sidecar.adapters.predictors.shipped.base import DENSE, Description
from llmservice_sidecar.runtime.ports import PredictionQuery

WORDS = ("amber", "birch", "cedar", "delta", "ember")
PLAN = Plan(moments=(60, 120), unseen=80, settled=240, back_after=60, shuffles=2)


class Bags:
    """Knows the first word of a prompt and nothing of its length."""

    def describe(self, query: PredictionQuery) -> Description:
        place = next((place for place, word in enumerate(WORDS) if word in query.text), 0)
        dense = np.zeros(DENSE)
        dense[place] = 1.0
        return Description(dense, np.array([place]), np.ones(1), 5.0, 1.0)


def sample(source: str, model: str, number: int) -> Sample:
    rng = random.Random(f"{source} {model} {number}")
    place = rng.randrange(len(WORDS))
    log_tokens = 3.0 + 0.8 * place + rng.gauss(0.0, 0.2)
    prompt = f"{WORDS[place]} {source} {number}"
    return Sample(source, prompt, prompt, prompt, 3, model, round(math.exp(log_tokens)), "val")


SAMPLES = [
    sample(source, model, number)
    for source in ("alpaca_eval", "mmlu_pro_cot", "hh_harmless", "lawbench_zh")
    for model in (("wide", "broad", source) if source != "hh_harmless" else (source,))
    for number in range(130)
]


def test_a_service_has_one_model_per_source_and_its_own_where_it_can() -> None:
    services = Services(SAMPLES)
    assert services.models == ["broad", "wide"]
    rows = services.stream(3, length=200, model="wide")
    for source in ("alpaca_eval", "mmlu_pro_cot", "lawbench_zh"):
        assert {row.model for row in rows if row.source == source} == {"wide"}
    assert {row.model for row in rows if row.source == "hh_harmless"} == {"hh_harmless"}


def test_kinds_of_work_come_in_equal_parts_and_short_ones_are_made_up_for() -> None:
    services = Services([*SAMPLES, *(sample("rare", "wide", number) for number in range(10))])
    counts: dict[str, int] = {}
    for row in services.stream(1, length=410):
        counts[kind_of(row.source)] = counts.get(kind_of(row.source), 0) + 1
    assert counts == {"chat": 100, "exam": 100, "adversarial": 100, "legal": 100, "rare": 10}
    only = services.stream(1, length=50, kinds=("exam",))
    assert {row.source for row in only} == {"mmlu_pro_cot"}


def test_the_same_seed_gives_the_same_stream() -> None:
    services = Services(SAMPLES)
    assert services.stream(5, length=100) == services.stream(5, length=100)
    assert services.stream(5, length=100) != services.stream(6, length=100)


def test_what_can_be_learned_is_learned_and_found_again_after_a_change() -> None:
    found = evaluate(SAMPLES, Bags(), plan=PLAN)
    assert list(found) == [
        "after 0",
        "after 60",
        "after 120",
        "model changes",
        "mix changes",
        "CPU of an update",
    ]
    assert found["after 0"]["tau"] == pytest.approx(0.0, abs=0.2)
    assert found["after 120"]["tau"] > found["after 120"]["lightgbm"] - 0.05
    assert found["after 120"]["tau"] > 0.6
    assert found["after 120"]["merged"] > 0.6
    assert found["after 120"]["restarted"] == pytest.approx(found["after 120"]["tau"], abs=0.02)
    assert found["after 120"]["p90"] == pytest.approx(0.9, abs=0.1)
    assert found["model changes"]["back"] > 0.8  # within 60 requests


def test_the_command_prints_and_writes_its_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths, figures = tmp_path / "lengths.jsonl", tmp_path / "figures.json"
    with lengths.open("w") as out:
        for row in SAMPLES[:200]:
            line = {"source": row.source, "prompt": row.prompt, "model": row.model}
            out.write(json.dumps({**line, "output_tokens": row.output_tokens}) + "\n")
    options = ["--lengths", str(lengths), "--json", str(figures), "--shuffles", "1"]
    monkeypatch.setattr(sys, "argv", ["online_eval", *options])
    online_eval.main()
    assert "CPU of an update" in json.loads(figures.read_text())
    assert "learn p50" in capsys.readouterr().out
