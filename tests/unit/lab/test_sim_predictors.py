"""Simulated predictors: how well each ranks, and what each must not know."""

from __future__ import annotations

import math
import random

import pytest
from llmservice_lab.results import rank_tau
from llmservice_lab.sim_online import online
from llmservice_lab.sim_plan import make_sim_predictor
from llmservice_lab.sim_predictors import SimPredictor
from llmservice_lab.workload import WorkloadRequest


def rows(count: int = 1500) -> list[WorkloadRequest]:
    rng = random.Random(11)
    return [
        WorkloadRequest(
            arrival_s=float(number),
            prompt=f"Question {number}",
            prompt_tokens=5,
            output_tokens=1 + int(math.exp(rng.gauss(4.5, 1.0))),
        )
        for number in range(count)
    ]


ROWS = rows()


def tau(predictor: SimPredictor) -> float | None:
    predicted = [predictor.predict(i, row).output_tokens for i, row in enumerate(ROWS)]
    truth = [row.output_tokens for row in ROWS]
    return rank_tau(list(zip(predicted, truth, strict=True)))


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("oracle", 1.0, 1e-9),
        ("inverted", -1.0, 0.01),
        ("random", 0.0, 0.05),
        ("noisy:tau=0.1", 0.1, 0.0101),
        ("noisy:tau=0.5", 0.5, 0.0101),
        ("noisy:tau=0.9", 0.9, 0.0101),
    ],
)
def test_predictors_rank_as_they_say(name: str, expected: float, tolerance: float) -> None:
    predictor = make_sim_predictor(name, ROWS, seed=1)
    assert tau(predictor) == pytest.approx(expected, abs=tolerance)
    assert predictor.starts_trusted


@pytest.mark.parametrize(("name", "trusted"), [("none", False), ("constant", True)])
def test_some_say_the_same_of_everybody(name: str, *, trusted: bool) -> None:
    predictor = make_sim_predictor(name, ROWS, seed=1)
    assert tau(predictor) is None
    predictor.observe(0, ROWS[0])
    assert tau(predictor) is None
    assert predictor.starts_trusted is trusted


def test_random_and_inverted_keep_the_distribution() -> None:
    truth = sorted(float(row.output_tokens) for row in ROWS)
    shuffled = make_sim_predictor("random", ROWS, seed=1)
    assert sorted(shuffled.predict(i, r).output_tokens for i, r in enumerate(ROWS)) == truth


def test_the_seed_decides_the_noise() -> None:
    def first(seed: int) -> float:
        return make_sim_predictor("noisy:tau=0.5", ROWS, seed=seed).predict(0, ROWS[0]).p90_tokens

    assert first(1) == first(1)
    assert first(1) != first(2)


@pytest.mark.parametrize("name", ["noisy:tau=1", "noisy:tau=0", "noisy:tau=x"])
def test_a_tau_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="tau"):
        make_sim_predictor(name, ROWS, seed=1)


def test_equal_lengths_cannot_be_noisy() -> None:
    with pytest.raises(ValueError, match=r"no noise gives tau=0\.5 on these 1500 requests"):
        make_sim_predictor("noisy:tau=0.5", [ROWS[0]] * 1500, seed=1)


def test_an_unknown_predictor_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="known: default, oracle, none, random"):
        make_sim_predictor("psychic", ROWS, seed=1)


def test_the_deployed_predictor_starts_with_what_it_ships_and_learns() -> None:
    predictor = online(None)
    assert predictor.starts_trusted
    capped = WorkloadRequest(
        arrival_s=0.0, prompt=None, prompt_tokens=9, output_tokens=80, max_tokens=50
    )
    assert predictor.predict(0, capped).output_tokens <= 50.0
    before = predictor.predict(0, ROWS[0])
    assert before.source == "model"
    for index, row in enumerate(ROWS[:60]):
        predictor.observe(index, row)
    predictor.observe(0, capped)
    assert predictor.predict(0, ROWS[0]) != before


def test_a_file_that_is_no_predictor_is_named(tmp_path: object) -> None:
    file = f"{tmp_path}/snapshot"
    with open(file, "w") as out:  # noqa: PTH123 - the path is text as on the command line
        out.write("nothing")
    with pytest.raises(ValueError, match="snapshot: not readable"):
        make_sim_predictor(file, ROWS, seed=1)
