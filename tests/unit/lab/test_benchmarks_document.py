"""Targets, formulas, tables and the document around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from llmservice_lab.benchmarks.bars import Target
from llmservice_lab.benchmarks.cases import Case
from llmservice_lab.benchmarks.document import BEGIN, END, SECTIONS, put_between_marks
from llmservice_lab.benchmarks.grid import FULL, Grid, label
from llmservice_lab.benchmarks.markdown import cell, percent, prose, table
from llmservice_lab.benchmarks.mixes import MIXES
from llmservice_lab.benchmarks.plots import decorate, figure
from llmservice_lab.benchmarks.sections import contest, formulas
from llmservice_lab.benchmarks.statistics import Estimate
from llmservice_lab.benchmarks.timeline import SingleBurst
from llmservice_lab.systems import SYSTEMS

ROOT = Path(__file__).parents[3]


def case(**changes: object) -> Case:
    plain: dict[str, object] = {"path": Path("a.parquet"), "slots": 8, "load": 0.9, "requests": 100}
    return Case(**(plain | changes))  # type: ignore[arg-type]  # fields by name, as the table has them


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "0.9"),
        ({"arrivals": "recorded"}, "0.9, recorded"),
        ({"arrivals": "gamma:3", "load": 0.7}, "CV 3, 0.7"),
        ({"arrivals": "burst:1.5,60,600", "load": 0.7}, "bursts on 0.7"),
        ({"single": SingleBurst(peak=1, seconds=1, before=0, after=0)}, "one burst, cold start"),
    ],
)
def test_a_case_is_named_in_few_words(changes: dict[str, object], words: str) -> None:
    assert label(case(**changes)) == words


@pytest.mark.parametrize(
    ("value", "side", "met"),
    [(1.0, "at most", True), (1.1, "at most", False), (0.9, "at least", False)],
)
def test_a_target_is_met_on_its_own_side(value: float, side: str, met: bool) -> None:
    assert Target("x", value, 1.0, side).met is met  # type: ignore[arg-type]  # from a table


def test_nothing_meets_a_target_with_a_figure_that_is_none() -> None:
    assert not Target("x", float("nan"), 1.0, "at most").met
    assert not Target("x", float("nan"), 1.0, "at least").met
    assert str(Target("x", float("nan"), 1.0)).startswith("NOT")


def test_only_what_is_between_the_marks_is_replaced() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = put_between_marks(text, "new")
    assert once == f"before\n{BEGIN}\n\nnew\n{END}\nafter\n"
    assert put_between_marks(once, "new") == once


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the marks"):
        put_between_marks("no marks", "new")


def test_the_document_of_the_repository_has_the_marks() -> None:
    assert put_between_marks((ROOT / "docs" / "benchmarks.md").read_text(), "x")


def test_cells_show_the_interval() -> None:
    assert cell(Estimate(0.5, 0.25, 0.75)) == "0.50 [0.25, 0.75]"
    assert percent(Estimate(0.5, 0.25, 0.75)) == "50 % [25, 75]"
    assert list(table(("a", "b"), [("1", "2")])) == ["| a | b |", "|---|---|", "| 1 | 2 |", ""]
    assert list(prose("\n    one\n    two\n")) == ["one", "two", ""]


def test_every_system_is_in_the_comparison() -> None:
    wanted = contest.SECTION.wanted(Grid(mixes=MIXES, effort=FULL))
    assert len(SYSTEMS) > 25
    for each in wanted:
        assert {who.policy for who in each.contenders} == set(SYSTEMS)


def test_every_section_counts_ten_thousand_requests_and_five_seeds() -> None:
    grid = Grid(mixes=MIXES, effort=FULL)
    wanted = [each for section in SECTIONS for each in section.wanted(grid)]
    assert len(wanted) > 100
    assert all(len(each.seeds) >= 5 for each in wanted)
    assert all(each.case.requests * 0.9 >= 10_000 for each in wanted)


def test_the_wait_of_exponential_service_is_the_textbooks() -> None:
    service = np.random.default_rng(1).exponential(1.0, 200_000)
    assert formulas.fcfs_wait_s(0.8, service) == pytest.approx(4.0, rel=0.03)


def test_one_class_for_everybody_is_arrival_order() -> None:
    service = np.array([1.0, 2.0, 5.0])
    same = formulas.priority_wait_s(0.2, service, [7.0, 7.0, 7.0])
    assert same == pytest.approx(formulas.fcfs_wait_s(0.2, service))


def test_shortest_first_waits_less_and_longest_first_more() -> None:
    service = np.array([1.0, 2.0, 5.0])
    shortest = formulas.priority_wait_s(0.3, service, service.tolist())
    longest = formulas.priority_wait_s(0.3, service, (-service).tolist())
    assert shortest < formulas.fcfs_wait_s(0.3, service) < longest


def test_the_same_figures_make_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with figure(tmp_path / f"{name}.svg", columns=2) as (left, right):
            left.plot([1, 2], [3, 4], label="x")
            decorate(left, title="t", across="a", up="b")
            decorate(right, title="t", across="a", up="b")
    first = (tmp_path / "a.svg").read_text()
    assert first == (tmp_path / "b.svg").read_text()
    assert "<svg" in first
    assert len(first) < 40_000
