"""`llmservice report` from its options to its page and its JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fakes.traced import START_S, Load, otlp_lines, requests_of
from llmservice_lab.analysis.document import iso
from llmservice_local.commands import report
from llmservice_local.errors import CommandError
from typer import Typer
from typer.testing import CliRunner, Result

COUNT = 300


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "spans.jsonl"
    path.write_text("".join(otlp_lines(requests_of(Load(count=COUNT, utilisation=1.1)))))
    return path


def invoke(*options: str | Path) -> Result:
    app = Typer()
    report.register(app)
    return CliRunner().invoke(app, [str(option) for option in options], catch_exceptions=False)


def run(page: Path, *options: str | Path) -> dict[str, Any]:
    done = invoke(*options, "--out", page, "--json", "-")
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_file_becomes_a_page_and_the_same_figures(spans: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    document = run(page, spans)
    assert document["schema"] == 1
    assert document["requests"] == COUNT
    assert document["slow"]["requests"] == 15
    assert f"{document['slow']['listed'][0]['total_s']:.2f} s" in page.read_text()


def test_every_field_that_is_promised_is_there(spans: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "report.md").read_text()
    promised = text.split("## JSON", 1)[1]
    document = run(tmp_path / "page.html", spans)

    for listed in document["slow"]["listed"]:
        listed["numbers"] = listed["seconds"] = {}
    for one in document["recommendations"]:
        one["numbers"] = {}
    document["orders"] = document["policies"] = {}
    for one in document["calibration"]:
        one["sources"] = {}
    found = set(re.findall(r'"(\w+)":', json.dumps(document)))
    assert not {name for name in found if f'"{name}"' not in promised}


def test_the_threshold_the_time_and_the_limit_are_the_user_s(spans: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run(page, spans, "--slow", "0", "--listed", "5")["slow"]["requests"] == COUNT
    assert run(page, spans, "--limit", "50")["requests"] == 50
    until = iso(START_S + 20)
    assert 0 < run(page, spans, "--until", until)["requests"] < COUNT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--since", "noon"], "--since: 'noon' is neither", id="a time that is none"),
        pytest.param(["--service", "other"], "no request of service 'other'", id="no such service"),
        pytest.param(["--header", "secret"], "--header is not written as", id="a header"),
    ],
)
def test_what_cannot_be_done_is_said(spans: Path, options: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message) as error:
        invoke(spans, *options)
    assert "secret" not in error.value.cause


def test_files_that_cannot_be_read_or_written_are_named(spans: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"absent\.jsonl"):
        invoke(tmp_path / "absent.jsonl")
    with pytest.raises(CommandError, match=r"cannot write .*page\.html"):
        invoke(spans, "--out", tmp_path / "absent" / "page.html")


def test_without_a_source_the_usage_is_wrong() -> None:
    assert invoke().exit_code == 2
