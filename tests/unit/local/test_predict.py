"""`llmservice predict` from its options to its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llmservice_lab.pretrain import query_for
from llmservice_local.commands import predict
from llmservice_local.errors import CommandError
from llmservice_sidecar.adapters.predictors.learned import snapshot
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from typer import Typer
from typer.testing import CliRunner

STORY = "Write a long story about a lighthouse keeper, in several chapters."


def run(*options: str, text: str = "") -> dict[str, Any]:
    app = Typer()
    predict.register(app)
    done = CliRunner().invoke(app, [*options, "--json", "-"], input=text, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def refused(*options: str) -> str:
    app = Typer()
    predict.register(app)
    with pytest.raises(CommandError) as caught:
        CliRunner().invoke(app, list(options), catch_exceptions=False)
    return caught.value.cause


def without_time(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "latency_ms"}


def test_a_prompt_has_a_mean_and_quantiles_in_order() -> None:
    said = run(STORY)
    assert 1 <= said["p50_tokens"] <= said["p90_tokens"]
    assert said["mean_tokens"] <= said["p90_tokens"]
    assert said["latency_ms"] > 0
    assert set(said) == {
        *("predictor", "source", "mean_tokens", "p50_tokens", "p90_tokens"),
        *("prompt_tokens", "generated_tokens", "latency_ms"),
    }


def test_a_file_and_standard_input_say_the_same_as_an_argument(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text(STORY)
    first = without_time(run(STORY))
    assert without_time(run("--file", str(path))) == first
    assert without_time(run(text=STORY)) == first


def test_max_tokens_bounds_all_figures() -> None:
    said = run(STORY, "--max-tokens", "20")
    assert max(said["mean_tokens"], said["p50_tokens"], said["p90_tokens"]) <= 20


def test_what_is_left_is_bounded_by_what_may_come() -> None:
    said = run(STORY, "--max-tokens", "300", "--generated", "290")
    assert 1 <= said["mean_tokens"] <= 10
    assert said["generated_tokens"] == 290


def test_of_an_answer_that_outlived_its_prediction_more_is_to_come() -> None:
    late = run("Hi", "--generated", "9000")["mean_tokens"]
    assert late > run("Hi", "--generated", "3000")["mean_tokens"] > 1


def test_a_snapshot_knows_the_model_that_it_has_learned_from(tmp_path: Path) -> None:
    predictor = OnlinePredictor()
    for number in range(60):
        query = query_for(f"Describe object {number}.", model="brief")
        predictor.observe(query, output_tokens=3, censored=False)
    path = tmp_path / "state.bin"
    path.write_bytes(snapshot.save(predictor))
    options = ("Describe object 99.", "--predictor", str(path))
    brief = run(*options, "--model", "brief")["mean_tokens"]
    assert brief < 10 < run(*options, "--model", "other")["mean_tokens"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param((STORY, "--predictor", "none"), "'none' is not known", id="predictor"),
        pytest.param((STORY, "--file", "x"), "--file are given", id="two prompts"),
        pytest.param(("--file", "absent.txt"), "absent.txt", id="no such file"),
        pytest.param(
            (STORY, "--max-tokens", "10", "--generated", "10"), "nothing is left", id="nothing left"
        ),
    ],
)
def test_what_is_not_allowed_is_named(options: tuple[str, ...], words: str) -> None:
    assert words in refused(*options)


def test_a_broken_artefact_is_named(tmp_path: Path) -> None:
    for name in ("state.bin", "base.safetensors"):
        path = tmp_path / name
        path.write_bytes(b"not a predictor")
        assert str(path) in refused(STORY, "--predictor", str(path))


def test_people_read_one_line() -> None:
    app = Typer()
    predict.register(app)
    done = CliRunner().invoke(app, [STORY])
    assert done.exit_code == 0
    assert "default" in done.stderr
    assert done.stdout == ""
