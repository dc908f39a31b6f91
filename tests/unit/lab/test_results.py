"""The figures of a run, against numpy and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from llmservice_lab.results import (
    RequestRecord,
    RunLabels,
    length_deciles,
    quantiles,
    rank_tau,
    summarise,
)
from llmservice_sidecar.core.request import Outcome

LABELS = RunLabels(policy="SSJF", predictor="oracle", slots=4, load=0.9, seed=1)


def record(
    number: int, *, outcome: Outcome = Outcome.COMPLETED, predicted: float | None = None
) -> RequestRecord:
    """Arrives each second, waits 1 s, then 1 s to the first token, then 1 s a token."""
    at = float(number)
    tokens = number % 10 + 1
    done = outcome is Outcome.COMPLETED
    return RequestRecord(
        arrival_s=at,
        output_tokens=tokens,
        outcome=outcome,
        admitted_s=at + 1 if done else None,
        first_token_s=at + 2 if done else None,
        finished_s=at + 1 + tokens if done else None,
        predicted_tokens=predicted,
        engine_queue_s=0.25 if done else None,
    )


def test_quantiles_are_numpys() -> None:
    rng = np.random.default_rng(4)
    values = rng.exponential(size=5000).tolist()
    figures = quantiles([*values, None])
    wanted = np.percentile(values, [50, 90, 99, 99.9])
    got = [figures["p50"], figures["p90"], figures["p99"], figures["p999"]]
    assert got == pytest.approx(wanted.tolist())
    assert figures["mean"] == pytest.approx(sum(values) / len(values))
    assert figures["max"] == max(values)


def test_nothing_observed_is_null_everywhere() -> None:
    assert set(quantiles([None]).values()) == {None}


def test_the_first_tenth_is_warm_up() -> None:
    records = [record(number) for number in range(100)]
    summary = summarise(list(reversed(records)), LABELS)
    assert (summary["requests"], summary["completed"]) == (90, 90)
    assert summary["queue_wait_s"]["mean"] == pytest.approx(1.0)
    assert summary["ttft_s"]["max"] == pytest.approx(2.0)
    assert summary["tpot_s"]["p50"] == pytest.approx((3 - 2) / 1)
    assert summary["e2e_s"]["mean"] == pytest.approx(1 + 5.5)
    assert summary["engine_queue_s"]["p90"] == pytest.approx(0.25)
    assert (summary["policy"], summary["slots"], summary["load"]) == ("SSJF", 4, 0.9)


def test_every_outcome_is_counted_and_only_the_completed_are_timed() -> None:
    ends = [Outcome.REJECTED, Outcome.EVICTED, Outcome.CANCELLED, Outcome.FAILED]
    records = [record(n) for n in range(20)]
    records += [record(20 + n, outcome=outcome) for n, outcome in enumerate(ends)]
    summary = summarise(records, LABELS)
    counts = [summary["rejected"], summary["evicted"], summary["cancelled"], summary["failed"]]
    assert counts == [1, 1, 1, 1]
    assert summary["completed"] == 18
    assert summary["requests"] == 22


def test_tokens_per_second_count_the_window_of_arrivals() -> None:
    records = [record(number) for number in range(100)]
    finished = [r for r in records if r.finished_s is not None and 10 < r.finished_s <= 99]
    expected = sum(r.output_tokens for r in finished) / (99 - 10)
    assert summarise(records, LABELS)["tokens_per_s"] == pytest.approx(expected)


def test_tokens_per_second_of_a_batch_count_until_its_end() -> None:
    batch = [
        RequestRecord(
            arrival_s=0.0, output_tokens=10, outcome=Outcome.COMPLETED, finished_s=float(n + 1)
        )
        for n in range(10)
    ]
    assert summarise(batch, LABELS)["tokens_per_s"] == pytest.approx(10.0)


def test_an_empty_run_has_no_figures() -> None:
    summary = summarise([], LABELS)
    assert summary["tokens_per_s"] is None
    assert summary["tau"] is None
    assert summary["by_length_decile"] == []


def test_a_batch_in_which_nothing_finished_has_no_throughput() -> None:
    lost = RequestRecord(arrival_s=0.0, output_tokens=1, outcome=Outcome.FAILED)
    assert summarise([lost], LABELS)["tokens_per_s"] is None


def test_deciles_are_of_true_length() -> None:
    deciles = length_deciles([record(number) for number in range(100)])
    assert [d["max_output_tokens"] for d in deciles] == list(range(1, 11))
    assert [d["requests"] for d in deciles] == [10] * 10
    assert deciles[9]["e2e_mean_s"] == pytest.approx(11.0)
    assert deciles[0]["e2e_p99_s"] == pytest.approx(2.0)


def test_tau_ranks_predictions_against_the_truth() -> None:
    records = [record(n, predicted=float(n % 10)) for n in range(50)]
    assert summarise(records, LABELS)["tau"] == pytest.approx(1.0)
    assert rank_tau([(3.0, 1), (2.0, 2), (1.0, 3)]) == pytest.approx(-1.0)


@pytest.mark.parametrize("pairs", [[], [(1.0, 2)], [(1.0, 2), (1.0, 3)], [(1.0, 2), (2.0, 2)]])
def test_tau_of_equal_values_is_undefined(pairs: list[tuple[float, int]]) -> None:
    assert rank_tau(pairs) is None


def test_the_error_of_predicted_waits_is_of_those_that_have_one() -> None:
    records = [record(number) for number in range(100)]
    records[50:60] = [replace(one, predicted_wait_s=0.75) for one in records[50:60]]
    records[60] = replace(records[60], predicted_wait_s=3.0, admitted_s=None)
    error_s = summarise(records, LABELS)["eta_error_s"]
    assert (error_s["mean"], error_s["max"]) == (pytest.approx(0.25), pytest.approx(0.25))
    assert summarise(records[:40], LABELS)["eta_error_s"]["mean"] is None
