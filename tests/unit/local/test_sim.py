"""`llmservice sim` from its options to its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llmservice_lab.predictors.recorded import write_recorded
from llmservice_lab.sim_plan import offered_load
from llmservice_lab.workload import load_workload
from llmservice_local.commands import sim
from llmservice_local.errors import CommandError
from typer import Typer
from typer.testing import CliRunner

WORKLOAD = str(Path(__file__).parents[3] / "examples" / "workloads" / "demo-test.jsonl")


def run(*options: str) -> tuple[dict[str, Any], str]:
    """The JSON document and what people read."""
    app = Typer()
    sim.register(app)
    done = CliRunner().invoke(
        app, ["--workload", WORKLOAD, "--json", "-", *options], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), done.stderr


def refused(*options: str) -> CommandError:
    app = Typer()
    sim.register(app)
    with pytest.raises(CommandError) as caught:
        CliRunner().invoke(app, ["--workload", WORKLOAD, *options], catch_exceptions=False)
    return caught.value


def test_one_run_for_each_policy_and_predictor_in_argument_order() -> None:
    document, _ = run(
        *("--policy", "SSJF", "--policy", "FCFS", "--predictor", "oracle", "--predictor", "none"),
        *("--slots", "4", "--load", "0.9", "--arrivals", "poisson", "--requests", "120"),
    )
    systems = [(run["policy"], run["predictor"]) for run in document["runs"]]
    assert systems == [("SSJF", "oracle"), ("SSJF", "none"), ("FCFS", "oracle"), ("FCFS", "none")]
    assert {run["requests"] for run in document["runs"]} == {108}
    assert {run["load"] for run in document["runs"]} == {0.9}
    assert document["offered_load"] == pytest.approx(0.9, rel=0.3)
    assert document["capacity_rps"] > 0
    assert document["seed"] == 1
    assert document["workload"] == WORKLOAD
    assert document["commit"]
    assert document["hardware"]
    assert set(document["runs"][0]["e2e_s"]) == {"mean", "p50", "p90", "p99", "p999", "max"}
    assert len(document["runs"][0]["by_length_decile"]) == 10


def test_beside_the_oracle_each_predictor_is_told_by_its_share_of_the_gain(tmp_path: Path) -> None:
    proxy = write_recorded(tmp_path / "proxy", recorded_lengths())
    options = ("--load", "0.9", "--arrivals", "poisson", "--slots", "4", "--requests", "120")
    document, _ = run(
        *options, "--predictor", "oracle", "--predictor", str(proxy), "--predictor", "inverted"
    )
    shares = {each["predictor"]: each["share_of_oracle_gain"] for each in document["shares"]}
    assert shares["oracle"] == pytest.approx(1.0)
    assert shares[str(proxy)] == pytest.approx(1.0, abs=0.02), "an oracle in a proxy's clothes"
    assert shares["inverted"] < 0.5
    alone, _ = run(*options, "--predictor", "none")
    assert [each["share_of_oracle_gain"] for each in alone["shares"]] == [None]


def recorded_lengths() -> dict[str, float]:
    rows = load_workload(Path(WORKLOAD))
    return {row.prompt: float(row.output_tokens) for row in rows if row.prompt}


def test_the_same_seed_gives_the_same_numbers() -> None:
    options = ("--load", "0.95", "--predictor", "noisy:tau=0.5", "--arrivals", "gamma:3")
    first, again = run(*options)[0], run(*options)[0]
    assert first["runs"] == again["runs"]
    assert run(*options, "--seed", "2")[0]["runs"] != first["runs"]


def test_ssjf_beats_fcfs_with_an_oracle() -> None:
    document, _ = run(
        *("--policy", "all", "--predictor", "oracle", "--slots", "4"),
        *("--load", "0.95", "--cost-model", "tiny-cpu"),
    )
    mean = {run["policy"]: run["e2e_s"]["mean"] for run in document["runs"]}
    assert mean["SSJF"] < 0.8 * mean["FCFS"]


def test_a_repeated_workload_is_pointed_out() -> None:
    document, told = run("--requests", "500", "--policy", "FCFS", "--predictor", "oracle")
    assert document["runs"][0]["requests"] == 450
    assert "the workload repeats" in told


def test_the_table_is_for_people_and_the_file_for_programs(tmp_path: Path) -> None:
    app = Typer()
    sim.register(app)
    file = tmp_path / "sim.json"
    options = ["--workload", WORKLOAD, "--policy", "FCFS", "--predictor", "none"]
    done = CliRunner().invoke(app, [*options, "--json", str(file)], catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "FCFS, none" in done.stderr
    assert len(json.loads(file.read_text())["runs"]) == 1


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (["--engine", "sglang"], "engine 'sglang' is not known; known: des, vllm"),
        (["--scheduler-class", "x.Y"], "scheduler_class=x.Y: the discrete-event engine has none"),
        (["--kv-tokens", "20"], "kv_tokens is 20; allowed: at least"),
        (["--policy", "LIFO"], "policy 'LIFO' is not known; known: FCFS, SSJF,"),
        (["--predictor", "psychic"], "predictor 'psychic' is not known; known: default, oracle"),
        (["--arrivals", "tidal"], "arrivals 'tidal' is not known; allowed: recorded"),
        (["--cost-model", "a100"], "cost model 'a100' is neither known"),
        (["--load", "-1"], "load is -1; allowed: above 0"),
        (["--workload", "none.csv"], "none.csv: unknown kind of file '.csv'"),
    ],
)
def test_what_cannot_be_run_is_explained(options: list[str], cause: str) -> None:
    error = refused(*options)
    assert str(error).startswith(cause)
    assert error.next_step


def test_a_workload_of_a_few_requests_is_refused(tmp_path: Path) -> None:
    short = tmp_path / "short.jsonl"
    short.write_text('{"arrival_s": 0, "prompt_tokens": 1, "output_tokens": 1}\n' * 9)
    assert "at least 10 requests" in str(refused("--workload", str(short)))


def test_all_at_once_has_no_offered_load() -> None:
    assert offered_load([0.0, 0.0], 1.0) is None
    assert offered_load([0.0, 1.0, 2.0], 2.0) == pytest.approx(0.5)
