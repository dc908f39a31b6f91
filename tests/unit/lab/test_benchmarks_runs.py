"""Cases, their work and their timelines; what is kept is not run again."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from llmservice_lab.benchmarks import runner
from llmservice_lab.benchmarks.cases import (
    FCFS,
    ORACLE_SJF,
    Case,
    CaseRun,
    Contender,
    run_case,
    work_of,
)
from llmservice_lab.benchmarks.grid import BURST
from llmservice_lab.benchmarks.predictors import make_predictor
from llmservice_lab.benchmarks.runner import Wanted, collect
from llmservice_lab.benchmarks.store import Store
from llmservice_lab.benchmarks.timeline import BEFORE_S, SingleBurst, timeline_of
from llmservice_lab.benchmarks.work import arrange
from llmservice_lab.parquet import write_rows
from llmservice_lab.results import RequestRecord
from llmservice_lab.workload import WorkloadRequest
from llmservice_sidecar.core.request import Outcome

SSJF = Contender(policy="SSJF", predictor="oracle")
BURST_AT_ONCE = SingleBurst(peak=1.5, seconds=60.0, before=0.0, after=0.7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Fifty requests of which every fifth is long."""
    rows = [
        {"arrival_s": at / 2, "prompt_tokens": 10, "output_tokens": 400 if at % 5 == 0 else 20 + at}
        for at in range(50)
    ]
    write_rows(tmp_path / "mix.parquet", rows)
    return tmp_path / "mix.parquet"


@pytest.fixture
def case(path: Path) -> Case:
    return Case(path=path, slots=2, load=0.9, requests=400)


def rows(count: int) -> list[WorkloadRequest]:
    return [
        WorkloadRequest(arrival_s=float(at), prompt=None, prompt_tokens=0, output_tokens=at + 1)
        for at in range(count)
    ]


def test_every_pass_over_the_rows_has_each_of_them_once_in_another_order() -> None:
    found = [row.output_tokens for row in arrange(rows(20), count=40, seed=1, keep_order=False)]
    assert sorted(found[:20]) == sorted(found[20:]) == list(range(1, 21))
    assert found[:20] != found[20:]


def test_recorded_rows_keep_their_order_from_a_place_of_the_seed_on() -> None:
    found = arrange(rows(20), count=45, seed=3, keep_order=True)
    first = found[0].output_tokens
    assert [row.output_tokens for row in found] == [(first - 1 + at) % 20 + 1 for at in range(45)]
    times = [row.arrival_s for row in found]
    assert times == sorted(times)
    assert times[0] == 0


def test_all_contenders_of_a_seed_get_the_same_work_and_other_seeds_other_work(case: Case) -> None:
    assert work_of(case, 1) == work_of(case, 1)
    assert work_of(case, 1)[1] != work_of(case, 2)[1]


def test_a_case_with_bursts_has_enough_requests_for_them(case: Case) -> None:
    bursts = replace(case, load=0.7, arrivals=BURST, bursts=2)
    found, times, _ = work_of(bursts, 1)
    assert len(found) == len(times) > case.requests
    assert times[-1] > 1000


def test_knowing_the_lengths_lowers_the_mean_of_the_same_requests(case: Case) -> None:
    fcfs, ssjf, oracle = (run_case(case, who, seed=1) for who in (FCFS, SSJF, ORACLE_SJF))
    means = [run["summary"]["e2e_s"]["mean"] or 0.0 for run in (fcfs, ssjf, oracle)]
    assert means[0] > max(means[1:])
    assert fcfs["summary"]["completed"] == oracle["summary"]["completed"] == 360


def test_what_is_wrong_by_a_constant_factor_predicts_its_multiple() -> None:
    found = make_predictor("biased:10/oracle", rows(5), seed=1)
    assert found.predict(3, rows(5)[3]).output_tokens == 40


def test_no_number_is_said_as_no_number() -> None:
    tokens = make_predictor("nan", rows(5), seed=1).predict(0, rows(5)[0]).output_tokens
    assert tokens != tokens  # noqa: PLR0124 - only NaN differs from itself


def test_a_single_burst_comes_after_the_idle_time() -> None:
    idle = SingleBurst(peak=1.5, seconds=60.0, before=0.1, after=0.7)
    times = idle.times(10.0, rng=random.Random(1))
    before = sum(at < BEFORE_S for at in times)
    burst = sum(BEFORE_S <= at < BEFORE_S + 60 for at in times)
    assert before == pytest.approx(300, rel=0.2)
    assert burst == pytest.approx(900, rel=0.1)
    assert BURST_AT_ONCE.times(10.0, rng=random.Random(1))[0] < 1


def test_a_timeline_counts_who_waits_and_when_nobody_does() -> None:
    def record(arrival_s: float, admitted_s: float, finished_s: float) -> RequestRecord:
        return RequestRecord(
            arrival_s=arrival_s,
            output_tokens=1,
            outcome=Outcome.COMPLETED,
            admitted_s=admitted_s,
            finished_s=finished_s,
        )

    records = [record(1, 1, 5), record(2, 70, 72), record(3, 25, 70), record(80, 80, 81)]
    found = timeline_of(records, BURST_AT_ONCE)
    assert found["waiting"] == [2, 2, 1, 1, 1, 1, 0, 0, 0]
    assert found["burst_requests"] == 3
    assert found["burst_mean_e2e_s"] == pytest.approx((4 + 70 + 67) / 3)
    assert found["recovered_s"] == pytest.approx(10)
    assert found["mean_e2e_s"][0] == pytest.approx((4 + 70 + 67) / 3)
    assert found["mean_e2e_s"][1] is None


def test_a_kept_result_is_found_by_everything_it_depends_on(case: Case, tmp_path: Path) -> None:
    store = Store(tmp_path / "kept")
    run = run_case(case, FCFS, seed=1)
    store.put(case, FCFS, seed=1, run=run)
    assert store.get(case, FCFS, seed=1) == run
    assert store.get(case, FCFS, seed=2) is None
    assert store.get(case, SSJF, seed=1) is None
    assert store.get(replace(case, load=0.8), FCFS, seed=1) is None


def test_what_is_kept_is_not_run_again(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(case, requests=100)
    wanted = [Wanted(case=small, contenders=(FCFS, SSJF), seeds=(1, 2))]
    store = Store(tmp_path / "kept")
    news: list[tuple[int, int]] = []
    first = collect(wanted, store=store, on_done=lambda done, total: news.append((done, total)))
    assert news[-1] == (4, 4)
    assert [len(runs) for runs in first.values()] == [2, 2]

    def forbidden(_jobs: object) -> CaseRun:
        raise AssertionError("a kept result was run again")

    monkeypatch.setattr(runner, "run_case", forbidden)
    assert collect(wanted, store=store, on_done=lambda _done, _total: None) == first
