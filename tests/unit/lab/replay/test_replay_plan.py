"""A replay from the traces to its document, on virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec
import pytest
from fakes.simulated_traces import COSTS, SLOTS, Simulated, traces_of
from fakes.traced import otlp_lines
from llmservice_lab.analysis.readers import Selection, read_requests
from llmservice_lab.analysis.record import Reading, Told, TracedRequest
from llmservice_lab.replay.document import ReplayDocument
from llmservice_lab.replay.plan import ReplayPlan, run_replay
from llmservice_lab.sim_plan import RunStep

BUSY = Simulated()


def reading_of(requests: Sequence[TracedRequest]) -> Reading:
    return Reading(source="traces", requests=requests, told=Told())


def replayed(requests: Sequence[TracedRequest], **options: Any) -> ReplayDocument:
    plan = replace(ReplayPlan(policies=["SSJF"]), **options)
    return run_replay(reading_of(requests), plan, on_step=lambda _step: None)


def mean_e2e_s(requests: Sequence[TracedRequest]) -> float:
    return fmean(one.total_s for one in requests[len(requests) // 10 :])


def gain_of(document: ReplayDocument, number: int = 0) -> float:
    gain = document["comparisons"][number]["changes"][0]["gain"]
    assert gain is not None
    return gain


@pytest.mark.parametrize("load", [0.7, 0.92, 0.97])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_predicted_gain_is_within_ten_points_of_what_a_run_then_gives(
    tmp_path: Path, load: float, seed: int
) -> None:
    before = traces_of(replace(BUSY, load=load, seed=seed))
    after = traces_of(replace(BUSY, load=load, seed=seed, policy="SSJF"))
    file = tmp_path / "traces.jsonl"
    file.write_text("".join(otlp_lines(before)))
    reading = read_requests([str(file)], Selection())
    document = run_replay(reading, ReplayPlan(policies=["SSJF"]), on_step=lambda _step: None)
    measured = 1 - mean_e2e_s(after) / mean_e2e_s(before)
    change = document["comparisons"][0]["changes"][0]
    assert gain_of(document) == pytest.approx(measured, abs=0.1)
    assert change["low"] is not None
    assert change["high"] is not None
    assert change["low"] <= gain_of(document) <= change["high"]
    assert document["self_check"]["passed"]
    assert document["self_check"]["sampled"] == pytest.approx(1.0, abs=0.02)


def test_what_ssjf_gained_is_told_from_its_own_traces_as_well() -> None:
    before, after = traces_of(BUSY), traces_of(replace(BUSY, policy="SSJF"))
    document = replayed(after, policies=["FCFS"])
    # Back to arrival order, relative to the better of the two.
    lost = 1 - mean_e2e_s(before) / mean_e2e_s(after)
    assert gain_of(document) == pytest.approx(lost, abs=0.1)


def test_more_slots_and_true_lengths_can_be_asked_for() -> None:
    requests = traces_of(BUSY)
    document = replayed(
        requests, policies=["FCFS", "SSJF"], predictors=["recorded", "oracle"], slots=2 * SLOTS
    )
    systems = [(run["policy"], run["predictor"], run["slots"]) for run in document["runs"]]
    assert systems == [
        ("FCFS", "recorded", SLOTS),
        *(
            (policy, name, 2 * SLOTS)
            for policy in ("FCFS", "SSJF")
            for name in ("recorded", "oracle")
        ),
    ]
    more = traces_of(replace(BUSY, slots=2 * SLOTS, load=BUSY.load * _stretch(SLOTS, 2 * SLOTS)))
    measured = 1 - mean_e2e_s(more) / mean_e2e_s(requests)
    assert gain_of(document) == pytest.approx(measured, abs=0.1)
    assert any("extrapolated" in limit for limit in document["limits"])


def _stretch(before: int, after: int) -> float:
    """The load at which `after` slots get as many requests a second as `before` did."""

    def seconds(slots: int) -> float:
        return (COSTS.step_s + COSTS.per_decode_s * slots) / slots

    return seconds(after) / seconds(before)


def test_pods_are_replayed_each_on_its_own_and_told_together() -> None:
    pods = [traces_of(replace(BUSY, count=300, seed=seed, pod=f"chat-{seed}")) for seed in (1, 2)]
    alone = [replayed(requests) for requests in pods]
    both = replayed(sorted(pods[0] + pods[1], key=lambda one: one.arrived_s))
    assert [cost["pod"] for cost in both["costs"]] == ["chat-1", "chat-2"]
    assert both["comparisons"][0]["requests"] == 540
    after = [one["comparisons"][0]["changes"][0]["after_s"] for one in alone]
    assert both["comparisons"][0]["changes"][0]["after_s"] == pytest.approx(fmean(after))
    assert both["capacity_rps"] == pytest.approx(sum(one["capacity_rps"] or 0 for one in alone))


def test_no_gain_is_promised_where_the_replay_of_the_recording_is_off() -> None:
    # Every answer held its slot, and the queue, for longer than its tokens explain.
    requests = [_disturbed(one) for one in traces_of(BUSY)]
    document = replayed(requests)
    assert not document["self_check"]["passed"]
    assert document["comparisons"] == []
    assert len(document["runs"]) == 1
    assert document["measured"]["e2e_s"]["mean"] == pytest.approx(mean_e2e_s(requests), rel=0.01)
    forced = replayed(requests, force=True)
    assert not forced["self_check"]["passed"]
    assert len(forced["comparisons"]) == 1


def _disturbed(one: TracedRequest) -> TracedRequest:
    later = {
        name: getattr(one, name) + 30.0
        for name in ("left_queue_s", "called_s", "first_token_s", "engine_ended_s", "ended_s")
    }
    return msgspec.structs.replace(one, queue_wait_s=one.wait_s + 30.0, **later)


def test_sampled_traces_are_noticed_by_the_depths_on_their_spans() -> None:
    document = replayed(traces_of(replace(BUSY, load=1.0))[::2], force=True)
    sampled = document["self_check"]["sampled"]
    assert sampled == pytest.approx(0.5, abs=0.07)
    assert any("sampled" in limit for limit in document["limits"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictors": ["default"]}, "no text of prompts"),
        ({"policies": ["Fastest"]}, "policy 'Fastest' is not known"),
        ({"recorded_policy": "SSJF"}, "800 served by FCFS"),
    ],
)
def test_what_cannot_be_replayed_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replayed(traces_of(BUSY), **options)


def test_predictions_that_are_not_recorded_are_not_made_up() -> None:
    requests = [msgspec.structs.replace(one, predicted_tokens=None) for one in traces_of(BUSY)]
    with pytest.raises(ValueError, match="only 0 of 800 requests have a prediction"):
        replayed(requests)
    assert gain_of(replayed(requests, predictors=["oracle"])) > 0.1
    assert gain_of(replayed(requests, predictors=["none"])) == 0.0


def test_the_same_seed_gives_the_same_document_and_progress_reaches_the_end() -> None:
    requests = traces_of(replace(BUSY, count=200))
    steps: list[RunStep] = []
    plan = ReplayPlan(policies=["SSJF"])
    first = run_replay(reading_of(requests), plan, on_step=steps.append)
    assert first == run_replay(reading_of(requests), plan, on_step=lambda _step: None)
    assert (steps[-1].number, steps[-1].runs, steps[-1].ended) == (2, 2, steps[-1].total)
