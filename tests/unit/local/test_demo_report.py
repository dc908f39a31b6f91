"""From a measurement to table, summary, report and traces."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fakes.demo_run import FORESEEN_TOO_SOON_S, measurement, workload
from llmservice_lab.demo import table
from llmservice_lab.demo.passes import arrivals_at
from llmservice_lab.demo.records import TraceIncomplete, overtakings
from llmservice_lab.demo.run import DemoFiles, conclude
from llmservice_lab.demo.summary import Comparison, Provenance, Summary, verdict

PROVENANCE = Provenance(commit="abc", seed=1, hardware="a machine", workload="w.jsonl", slots=1)
COUNT = 80
# Elements that HTML and SVG leave without an end tag.
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Collects text, classes and what was left open; follows self-closing SVG elements."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def concluded(
    directory: Path,
    *,
    capacity_after_rps: float = 2.0,
    predictors: Sequence[str] = ("default",),
) -> Summary:
    rows = workload(COUNT)
    measured, payloads = measurement(
        rows, capacity_after_rps=capacity_after_rps, predictors=predictors
    )
    return conclude(
        measured,
        payloads=payloads,
        provenance=PROVENANCE,
        files=DemoFiles.under(directory),
    )


def test_the_summary_has_a_run_per_policy_over_both_of_its_passes(tmp_path: Path) -> None:
    summary = concluded(tmp_path)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written == json.loads(json.dumps(summary))
    assert [run["policy"] for run in summary["runs"]] == ["FCFS", "SSJF"]
    assert [run["requests"] for run in summary["runs"]] == [COUNT * 2 * 9 // 10] * 2
    assert [one["policy"] for one in summary["passes"]] == ["FCFS", "SSJF", "SSJF", "FCFS"]
    assert summary["capacity_rps"] == pytest.approx(2.0)
    assert summary["offered_load"] == pytest.approx(0.925)
    assert summary["comparison"]["e2e_mean_ratio"] < 0.85
    assert summary["runs"][1]["tau"] == pytest.approx(1.0)
    # Both orders do the same work at the same times; two passes must not count it twice.
    rates = [run["tokens_per_s"] for run in summary["runs"]]
    assert rates[0] == pytest.approx(rates[1], rel=0.1)
    assert (rates[0] or 0) < 1 / 0.01
    eta_error_s = summary["runs"][1]["eta_error_s"]
    assert eta_error_s["p50"] == pytest.approx(FORESEEN_TOO_SOON_S, abs=1e-6)
    assert summary["failures"] == []


def test_an_offered_load_above_one_fails_the_run(tmp_path: Path) -> None:
    summary = concluded(tmp_path, capacity_after_rps=1.5)
    assert summary["offered_load"] > 1
    assert "above 1" in summary["failures"][0]
    assert any("FAILED" in line for line in table.facts(summary))


def test_the_table_shows_every_measure_with_its_ratio(tmp_path: Path) -> None:
    summary = concluded(tmp_path)
    assert table.header(summary) == ("", "FCFS", "SSJF", "SSJF / FCFS")
    rows = {row[0]: row[1:] for row in table.rows(summary)}
    for measure in ("end to end", "time to first token", "queue wait"):
        for name in ("mean", "p50", "p99"):
            assert re.fullmatch(r"\d+\.\d{3} s", rows[f"{measure} {name}"][1])
    assert float(rows["end to end mean"][2]) < 1
    assert rows["requests"][:2] == ("144", "144")
    assert "%" in rows["requests faster / slower with SSJF"][1]
    assert rows["predictor, Kendall tau"][1] == "1.00"
    assert len({len(row) for row in table.rows(summary)}) == 1


def test_each_predictor_is_told_by_the_share_of_the_oracles_gain(tmp_path: Path) -> None:
    summary = concluded(tmp_path, predictors=["default", "/models/blind/", "blind", "oracle"])
    shares = {one["predictor"]: one["share_of_oracle_gain"] for one in summary["shares"]}
    assert shares["default"] == pytest.approx(1.0)
    assert shares["oracle"] == pytest.approx(1.0)
    assert 0 <= (shares["blind"] or 0) < 0.9
    assert [(one["policy"], one["predictor"]) for one in summary["passes"]][:3] == [
        ("FCFS", "default"), ("SSJF", "default"), ("SSJF", "/models/blind/"),
    ]  # fmt: skip
    assert [run["predictor"] for run in summary["runs"]] == [
        "default", "default", "/models/blind/", "blind", "oracle",
    ]  # fmt: skip
    assert [run["requests"] for run in summary["runs"]] == [COUNT * 2 * 9 // 10] * 5
    assert table.header(summary) == ("", "FCFS", "SSJF", "SSJF / FCFS")
    assert any("with predictor oracle" in line and "100%" in line for line in table.facts(summary))
    assert any("with predictor blind" in line for line in table.facts(summary))


def test_without_the_oracle_there_is_no_share(tmp_path: Path) -> None:
    summary = concluded(tmp_path)
    assert [one["share_of_oracle_gain"] for one in summary["shares"]] == [None]
    assert not any("oracle" in line for line in table.facts(summary))


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        pytest.param(0.6, "SSJF won this run", id="faster"),
        pytest.param(1.0, "SSJF did not win this run", id="no difference is no win"),
    ],
)
def test_the_verdict_follows_the_figures(ratio: float, said: str) -> None:
    comparison = Comparison(
        e2e_mean_ratio=ratio, e2e_p99_ratio=1.1, faster_share=0.5, slower_share=0.5
    )
    assert verdict(comparison).startswith(said)


def test_the_report_is_one_well_formed_page_that_loads_nothing(tmp_path: Path) -> None:
    summary = concluded(tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.seen.count("svg") == 6
    assert page.seen.count("table") == 4
    assert not {"script", "link", "img", "iframe"} & set(page.seen)
    assert "http://" not in text
    assert "https://" not in text
    assert summary["verdict"] in page.text
    assert "Prompt <b>" in page.text  # escaped, so it arrives as text
    assert "prefers-color-scheme: dark" in text
    assert "nan" not in text.lower().replace("resonan", "")


def test_traces_are_otlp_json_with_the_clients_span_as_root(tmp_path: Path) -> None:
    concluded(tmp_path)
    resources = json.loads((tmp_path / "traces.json").read_text())["resourceSpans"]
    spans = [
        span
        for resource in resources
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert len(spans) == COUNT * 4 * 4
    trace = [span for span in spans if span["traceId"] == f"2{3:031x}"]
    roots = [span for span in trace if not span.get("parentSpanId")]
    assert [root["name"] for root in roots] == ["request"]
    assert {span["parentSpanId"] for span in trace if span not in roots} == {roots[0]["spanId"]}
    for span in trace:
        assert re.fullmatch(r"[0-9a-f]{16}", span["spanId"])
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])


def test_a_trace_without_the_engines_span_is_named(tmp_path: Path) -> None:
    rows = workload(COUNT)
    measured, payloads = measurement(rows)
    with pytest.raises(TraceIncomplete, match="request 5 has no span"):
        conclude(
            measured,
            payloads=[*payloads[:5], *payloads[6:]],
            provenance=PROVENANCE,
            files=DemoFiles.under(tmp_path),
        )


def test_overtaking_needs_a_later_arrival_and_an_earlier_admission() -> None:
    overtook, overtaken_by = overtakings([(0.0, 5.0), (1.0, 2.0), (3.0, 4.0), (4.5, 6.0)])
    assert overtook == [[], [0], [0], []]
    assert overtaken_by == [[1, 2], [], [], []]


def test_arrivals_are_stretched_to_the_wanted_rate() -> None:
    arrivals_s = arrivals_at(workload(COUNT), rate_rps=10.0)
    assert arrivals_s[0] == 0.0
    assert (COUNT - 1) / arrivals_s[-1] == pytest.approx(10.0)
