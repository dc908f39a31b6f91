"""`llmservice eval` from its options to its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.lengths import answers, write_lengths
from llmservice_local.commands import eval as evaluation
from llmservice_local.errors import CommandError
from typer import Typer
from typer.testing import CliRunner

ROW_KEYS = {
    *("predictor", "source", "model", "n", "tau_b", "pairwise_1_2x", "pairwise_2x", "mae_tokens"),
    *("coverage_p50", "coverage_p90", "latency_ms"),
}


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lengths(tmp_path_factory.mktemp("eval") / "lengths.jsonl", answers())


def run(*options: str) -> dict[str, Any]:
    app = Typer()
    evaluation.register(app)
    done = CliRunner().invoke(app, [*options, "--json", "-"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def refused(*options: str) -> str:
    app = Typer()
    evaluation.register(app)
    with pytest.raises(CommandError) as caught:
        CliRunner().invoke(app, list(options), catch_exceptions=False)
    return caught.value.cause


def test_a_row_for_each_predictor_source_and_model(lengths: Path) -> None:
    options = ("--predictor", "constant", "--predictor", "tfidf-ridge")
    document = run("--lengths", str(lengths), *options)
    assert set(document) == {"commit", "seed", "lengths", "split", "rows", "sources"}
    named = [(row["predictor"], row["source"], row["model"]) for row in document["rows"]]
    assert named == [
        (predictor, source, model)
        for predictor in ("constant", "tfidf-ridge")
        for source in ("quiz", "tales")
        for model in ("large", "small")
    ]
    assert {frozenset(row) for row in document["rows"]} == {frozenset(ROW_KEYS)}
    assert sum(row["n"] for row in document["rows"]) == 2 * 48
    constant, words = document["rows"][2], document["rows"][6]
    assert constant["tau_b"] is None
    assert constant["pairwise_2x"] == 0.5
    assert words["tau_b"] > 0.3
    assert words["pairwise_2x"] > 0.9
    assert words["latency_ms"]["p99"] >= words["latency_ms"]["p50"] > 0


def test_the_default_predictor_tells_mean_and_quantiles_of_every_answer(lengths: Path) -> None:
    document = run("--lengths", str(lengths), "--predictor", "default")
    for row in document["rows"]:
        assert 0 < row["coverage_p50"] <= row["coverage_p90"] <= 1
        assert row["mae_tokens"] > 0


def test_learning_online_makes_the_error_smaller(lengths: Path) -> None:
    options = ("--lengths", str(lengths), "--predictor", "default", "--split", "all")

    def error(document: dict[str, Any]) -> float:
        return sum(row["mae_tokens"] * row["n"] for row in document["rows"])

    learned, still = run(*options, "--online"), run(*options)
    assert error(learned) < 0.8 * error(still)
    assert [row["n"] for row in learned["rows"]] == [row["n"] for row in still["rows"]]


def test_the_same_seed_gives_the_same_figures(lengths: Path) -> None:
    def figures() -> list[dict[str, Any]]:
        document = run("--lengths", str(lengths), "--online", "--seed", "3")
        return [{key: row[key] for key in ROW_KEYS - {"latency_ms"}} for row in document["rows"]]

    assert figures() == figures()


def test_a_file_without_split_is_all_test_and_untrained_baselines_work(tmp_path: Path) -> None:
    rows = [{key: row[key] for key in ("source", "prompt", "model", "output_tokens")}
            for row in answers(40)]  # fmt: skip
    path = write_lengths(tmp_path / "bare.jsonl", rows)
    options = ("--predictor", "constant", "--predictor", "prompt-length")
    document = run("--lengths", str(path), *options)
    assert sum(row["n"] for row in document["rows"]) == 2 * 80
    cause = refused("--lengths", str(path), "--predictor", "tfidf-ridge")
    assert "no rows with split train" in cause


def test_prompt_length_goes_by_the_recorded_count(tmp_path: Path) -> None:
    rows = [
        {"source": "s", "prompt": f"p{n}", "model": "m", "output_tokens": n, "prompt_tokens": n}
        for n in range(10, 30)
    ]
    path = write_lengths(tmp_path / "counted.jsonl", rows)
    document = run("--lengths", str(path), "--predictor", "prompt-length")
    assert document["rows"][0]["tau_b"] == pytest.approx(1.0)


def test_baselines_learn_from_another_table(tmp_path: Path, lengths: Path) -> None:
    rows = [row for row in answers() if row["split"] == "test"]
    path = write_lengths(tmp_path / "test.jsonl", rows)
    options = ("--predictor", "tfidf-ridge", "--train", str(lengths))
    assert run("--lengths", str(path), *options)["sources"][1]["tau_b"] > 0.3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(("--predictor", "clever"), "'clever' is not known; known: default", id="name"),
        pytest.param(("--split", "dev"), "split 'dev' is not known; known: train", id="split"),
        pytest.param(("--predictor", "tfidf-ridge", "--online"), "does not learn", id="online"),
    ],
)
def test_what_is_not_allowed_is_named(lengths: Path, options: tuple[str, ...], words: str) -> None:
    assert words in refused("--lengths", str(lengths), *options)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write_lengths(tmp_path / "bad.jsonl", [{"source": "s", "prompt": "p", "model": "m"}])
    assert "output_tokens" in refused("--lengths", str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "absent.parquet" in refused("--lengths", str(tmp_path / "absent.parquet"))


def test_people_read_means_over_models(lengths: Path) -> None:
    app = Typer()
    evaluation.register(app)
    done = CliRunner().invoke(app, ["--lengths", str(lengths), "--predictor", "constant"])
    assert done.exit_code == 0
    assert "constant, tales" in done.stderr
    assert done.stdout == ""
