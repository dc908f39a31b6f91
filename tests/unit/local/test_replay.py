"""`llmservice replay` from files of traces to its table and its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.simulated_traces import Simulated, traces_of
from fakes.traced import otlp_lines
from llmservice_lab.analysis.record import TracedRequest
from llmservice_local.commands import replay
from llmservice_local.errors import CommandError
from typer import Typer
from typer.testing import CliRunner, Result

REQUESTS = traces_of(Simulated(count=300))


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    return written(tmp_path / "traces.jsonl", REQUESTS)


def written(path: Path, requests: list[TracedRequest]) -> Path:
    path.write_text("".join(otlp_lines(requests)))
    return path


def invoked(*arguments: str | Path) -> Result:
    app = Typer()
    replay.register(app)
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def refused(*arguments: str | Path) -> CommandError:
    with pytest.raises(CommandError) as caught:
        invoked(*arguments)
    return caught.value


def test_the_result_is_that_of_a_simulation_with_what_it_can_be_held_to(traces: Path) -> None:
    done = invoked(traces, "--predictor", "recorded", "--predictor", "oracle", "--json", "-")
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["workload"] == str(traces)
    assert document["engine"] == "des"
    systems = [(run["policy"], run["predictor"]) for run in document["runs"]]
    assert systems == [("FCFS", "recorded"), ("SSJF", "recorded"), ("SSJF", "oracle")]
    assert {run["requests"] for run in document["runs"]} == {270}
    assert set(document["runs"][0]["e2e_s"]) == {"mean", "p50", "p90", "p99", "p999", "max"}
    figures = [change["figure"] for change in document["comparisons"][0]["changes"]]
    assert figures == ["e2e_mean", "e2e_p50", "e2e_p99", "queue_wait_mean"]
    assert document["self_check"]["passed"]
    assert document["requests_by_outcome"] == {"completed": 300}


def test_people_read_what_was_measured_what_was_replayed_and_the_gains(traces: Path) -> None:
    told = invoked(traces, "--slots", "12").stderr
    for part in ("as measured", "as replayed", "SSJF, recorded", "self-check (FCFS)", "95 %"):
        assert part in told
    assert "note: 12 slots are more than were ever in flight" in told


def test_a_replay_that_is_off_shows_no_gain_and_fails(tmp_path: Path) -> None:
    slow = [
        msgspec.structs.replace(one, ended_s=one.ended_s, queue_wait_s=one.wait_s + 60.0)
        for one in REQUESTS
    ]
    file = written(tmp_path / "slow.jsonl", slow)
    error = refused(file, "--json", tmp_path / "result.json")
    assert "no gain is promised" in error.cause
    assert "--force" in error.next_step
    assert json.loads((tmp_path / "result.json").read_text())["comparisons"] == []
    assert "SSJF, recorded" in invoked(file, "--force").stderr


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--predictor", "build/proxy"), "traces hold no text of prompts"),
        (("--policy", "Fastest"), "policy 'Fastest' is not known"),
        (("--recorded-policy", "SSJF"), "none of 300 requests can be replayed: 300 served by FCFS"),
        (("--since", "tuesday"), "--since: 'tuesday' is neither"),
        (("--header", "token"), "--header is not written"),
    ],
)
def test_what_cannot_be_asked_for_is_said(
    traces: Path, options: tuple[str, ...], cause: str
) -> None:
    assert cause in refused(traces, *options).cause


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "absent.json" in refused(tmp_path / "absent.json").cause
