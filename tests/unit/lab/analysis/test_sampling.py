"""A part of the traces, and the slow ones beside it, tell of the service what all traces tell."""

from __future__ import annotations

import random

import msgspec
import pytest
from fakes.simulated_traces import Simulated, traces_of
from fakes.traced import Load, requests_of
from llmservice_lab.analysis.document import Report, analyse
from llmservice_lab.analysis.page import render, verdict
from llmservice_lab.analysis.record import Reading, Told, TracedRequest
from llmservice_lab.analysis.sampling import WHOLE, queued_share, sample_of
from llmservice_lab.replay import fidelity
from llmservice_lab.replay.recording import recording_of
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.request import Outcome
from llmservice_sidecar.runtime.tail_rule import HEAD, TailRule

SLOTS = 16


def load(policy: str) -> list[TracedRequest]:
    requests = requests_of(Load(count=6000, slots=SLOTS, utilisation=0.9, policy=policy))
    return [msgspec.structs.replace(one, limit_slots=SLOTS) for one in requests]


ALL = load("FCFS")


def kept_of(
    requests: list[TracedRequest], ratio: float, *, head: bool = True
) -> list[TracedRequest]:
    """The traces that a sampler and the rule for the tail leave, in order of arrival."""
    rng, rule = random.Random(7), TailRule()
    by: dict[str, str] = {}
    for one in sorted(requests, key=lambda one: one.ended_s):
        why = rule.judge(Outcome(one.outcome), Reason.STOP, duration_s=one.total_s)
        if rng.random() < ratio:
            by |= {one.request_id: HEAD} if head else {}
        elif why is not None:
            by[one.request_id] = why
    return [
        msgspec.structs.replace(one, sampled_by=by[one.request_id])
        for one in requests
        if one.request_id in by
    ]


def report(requests: list[TracedRequest]) -> Report:
    return analyse(Reading(source="test", requests=requests, told=Told()))


FULL = report(ALL)


@pytest.mark.parametrize("ratio", [0.1, 0.01])
def test_the_middle_of_a_sample_is_the_middle_of_all(ratio: float) -> None:
    found = report(kept_of(ALL, ratio))
    total, of_all = found.latency["total_s"], FULL.latency["total_s"]
    assert found.kept_at_their_end > 50
    assert total.n == found.requests - found.kept_at_their_end
    # Lengths spread widely: of 60 requests the median is that of all to a third, of 600 to a tenth.
    noise = 0.8 / (6000 * ratio) ** 0.5 * 3
    assert total.p50 == pytest.approx(of_all.p50, rel=noise)
    assert found.slow.usual.tokens == pytest.approx(FULL.slow.usual.tokens, rel=noise)
    assert found.slow.threshold_s == pytest.approx(FULL.slow.threshold_s, rel=noise)


def test_every_figure_of_latency_is_of_what_chance_picked() -> None:
    found = report(kept_of(ALL, 0.1))
    picked = found.requests - found.kept_at_their_end
    assert sum(one.n for one in found.by_length_decile) == picked
    assert sum(one.n for one in found.by_tenant) == picked
    assert sum(one.n for one in found.over_time) == picked
    assert found.calibration[0].n == picked
    assert found.policies == found.orders == {"FCFS": picked}
    assert found.completed == found.requests > picked


@pytest.mark.parametrize("policy", ["FCFS", "SSJF"])
@pytest.mark.parametrize("ratio", [0.1, 0.05, 0.01])
def test_no_advice_is_other_than_that_of_all(policy: str, ratio: float) -> None:
    every = load(policy)
    found = report(kept_of(every, ratio))
    assert {one.action for one in found.recommendations} <= {
        one.action for one in report(every).recommendations
    }
    assert not found.whole
    assert found.order_gain is None
    assert found.pressure.busy_share is None
    assert found.pressure.slots == FULL.pressure.slots == SLOTS


def test_the_worst_stay_and_have_the_cause_that_all_traces_give_them() -> None:
    found, every = report(kept_of(ALL, 0.05)), report(ALL)
    of_all = {one.request_id: one.cause for one in every.slow.listed}
    assert found.slow.listed[0].request_id == every.slow.listed[0].request_id
    both = [one for one in found.slow.listed if one.request_id in of_all]
    assert len(both) > 50
    assert sum(one.cause == of_all[one.request_id] for one in both) > 0.9 * len(both)
    kept = sum(one.kept_at_their_end for one in found.slow.causes)
    assert 0 < kept <= found.kept_at_their_end


def test_failures_are_told_with_how_many_are_there_only_for_that() -> None:
    failed = [
        msgspec.structs.replace(one, outcome="failed", reason="engine_error", sampled_by=by)
        for one, by in zip(ALL, 4 * ["error"] + ["head"], strict=False)
    ]
    found = report([*failed, *ALL[5:]])
    [ending] = [one for one in found.endings if one.outcome == "failed"]
    assert (ending.requests, ending.kept_at_their_end) == (5, 4)
    text = render(found)
    assert "5 failed (engine_error, 4 kept for it)" in text


def test_where_chance_picked_none_figures_are_of_all_and_nothing_is_advised() -> None:
    found = report(kept_of(ALL, 0.05, head=False))
    assert found.latency["total_s"].n == found.requests == found.kept_at_their_end > 50
    assert found.recommendations == []
    assert not found.whole
    assert "of the service they say nothing" in verdict(found)
    assert "all figures look slower than the service is" in render(found)


def test_the_share_is_told_by_the_depths_and_is_that_of_the_replay() -> None:
    every = traces_of(Simulated(count=2000, load=1.0))
    for ratio in (1.0, 0.5, 0.1):
        kept = [one for one in kept_of(every, ratio) if one.sampled_by == HEAD]
        share = queued_share(kept)
        assert share == pytest.approx(ratio, rel=0.1)
        assert share == fidelity.sampled_share(recording_of(kept).stretches)


def test_a_rush_that_is_kept_at_its_end_hides_no_sampling() -> None:
    rush = traces_of(Simulated(count=2000, load=1.5))
    kept = kept_of(rush, 0.1)
    assert sum(one.kept_at_its_end for one in kept) > 0.3 * len(rush)
    found = sample_of(kept)
    assert found.share == pytest.approx(0.1, rel=0.2)
    assert not found.whole


@pytest.mark.parametrize(
    ("sampled_by", "whole"),
    [
        pytest.param("head", True, id="nobody is there for its end"),
        pytest.param("slow", False, id="somebody is"),
    ],
)
def test_where_nobody_queued_a_trace_kept_at_its_end_tells_of_sampling(
    sampled_by: str, whole: bool
) -> None:
    calm = [msgspec.structs.replace(one, position=None, depth=None) for one in ALL[:100]]
    first = msgspec.structs.replace(calm[0], sampled_by=sampled_by)
    found = sample_of([first, *calm[1:]])
    assert found.share is None
    assert found.whole is whole


def test_the_page_says_what_a_part_of_the_requests_does_not_show() -> None:
    found = report(kept_of(ALL, 0.1))
    text = render(found)
    assert f"{found.kept_at_their_end} of {found.requests} traces were kept because" in text
    assert "all figures look slower" not in text
    assert "sampled by chance hold about 10% of the requests" in text
    assert "cannot be told from a part of the requests" in text
    assert "cannot be told" not in render(FULL)
    assert FULL.whole
    assert (FULL.sampled or 0.0) >= WHOLE
