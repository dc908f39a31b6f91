"""What to change, with the numbers that say so. Pure: figures in, at most one line per action out.

Rules are few and written down in docs/report.md; where none holds the report says that nothing is
to be gained. Of a sample of the load it says nothing where waiting matters: what the rules then
need, it does not show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from llmservice_lab.analysis.breakdown import Quantiles
from llmservice_lab.analysis.calibration import Calibration
from llmservice_lab.analysis.causes import Cause
from llmservice_lab.analysis.pressure import OrderGain, Pressure

ENGINE_QUEUE_S: Final = (
    0.05  # as p90: above it the engine queues, and our order is not the real one
)
WAIT_MATTERS: Final = 0.05  # mean wait as a share of the mean time
_BUSY: Final = 0.8
_MORE_ROOM: Final = 1.3  # full slots may cost so much pace, and more slots still serve more
_GAIN: Final = 0.1  # of the mean wait
_SHARE_OF_SLOW: Final = 0.1
_POOR_TAU: Final = 0.3
_COVERAGE: Final = (0.8, 0.97)  # of p90
_ENOUGH: Final = 200
_ARRIVAL_ORDER: Final = "FCFS"


class Action(StrEnum):
    """A closed set; public in `llmservice report --json`."""

    RAISE_CONCURRENCY = "raise_concurrency"
    LOWER_CONCURRENCY = "lower_concurrency"
    SWITCH_POLICY = "switch_policy"
    RETRAIN = "retrain"
    MORE_REPLICAS = "more_replicas"
    NOTHING_TO_GAIN = "nothing_to_gain"


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """One change: which field, and why."""

    action: Action
    text: str
    numbers: Mapping[str, float | int | str | None]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules look at. `orders`: how many requests were served in each order.

    `whole`: nearly all requests are here; else `gain` is None and `pressure` tells no use of slots.
    """

    total: Quantiles
    wait: Quantiles
    engine_queue: Quantiles
    slow_by_cause: Mapping[Cause, int]
    pressure: Pressure
    gain: OrderGain | None
    calibration: Calibration | None
    orders: Mapping[str, int]
    policies: Mapping[str, int]
    whole: bool = True

    @property
    def wait_share(self) -> float:
        """Of the mean time, spent in our queue."""
        return (self.wait.mean or 0.0) / self.total.mean if self.total.mean else 0.0

    def share_of_slow(self, cause: Cause) -> float:
        """Of the slow requests, those of one cause."""
        slow = sum(self.slow_by_cause.values())
        return self.slow_by_cause.get(cause, 0) / slow if slow else 0.0


def recommendations(evidence: Evidence) -> list[Recommendation]:
    """What is worth doing, the surest first."""
    rules = (_lower_concurrency, _retrain, _switch_policy, _raise_concurrency, _more_replicas)
    found = [one for rule in rules if (one := rule(evidence)) is not None]
    raised = {Action.RAISE_CONCURRENCY, Action.LOWER_CONCURRENCY}
    if len(raised & {one.action for one in found}) == 2:
        found = [one for one in found if one.action is not Action.RAISE_CONCURRENCY]
    if found or (not evidence.whole and evidence.wait_share >= WAIT_MATTERS):
        return found
    return [_nothing(evidence)]


def _lower_concurrency(evidence: Evidence) -> Recommendation | None:
    queue_p90 = evidence.engine_queue.p90
    # Who paused alone is told by its neighbours; of a sample, too few of them are there.
    preempted = evidence.share_of_slow(Cause.ENGINE_PREEMPTED) if evidence.whole else None
    queues = queue_p90 is not None and queue_p90 >= ENGINE_QUEUE_S
    if not queues and (preempted or 0.0) < _SHARE_OF_SLOW:
        return None
    slots = evidence.pressure.slots
    below = "" if slots is None else f" below the {slots} slots seen"
    why = (
        f"the engine itself queues for {queue_p90:.2f} s at p90, where our order no longer counts"
        if queues
        else f"{preempted:.0%} of the slow requests paused while others went on: the KV cache is "
        "too small for what is let in"
    )
    return Recommendation(
        action=Action.LOWER_CONCURRENCY,
        text=f"Lower queue.maxConcurrency{below}: {why}.",
        numbers={
            "engine_queue_p90_s": queue_p90,
            "preempted_share_of_slow": preempted,
            "slots": slots,
        },
    )


def _retrain(evidence: Evidence) -> Recommendation | None:
    judged = evidence.calibration
    if judged is None or judged.n < _ENOUGH:
        return None
    low, high = _COVERAGE
    poor = judged.tau is not None and judged.tau < _POOR_TAU
    covered = judged.coverage_p90
    off = covered is not None and not low <= covered <= high
    if not poor and not off:
        return None
    ranks = "" if judged.tau is None else f"it ranks with tau {judged.tau:.2f}"
    covers = "" if covered is None else f"{covered:.0%} of the answers are within its p90"
    return Recommendation(
        action=Action.RETRAIN,
        text="Retrain the predictor (`llmservice train`) or let it learn "
        "(predictor.onlineLearning): "
        f"{'; '.join(filter(None, (ranks, covers)))}.",
        numbers={"tau": judged.tau, "coverage_p90": covered, "answers": judged.n},
    )


def _switch_policy(evidence: Evidence) -> Recommendation | None:
    gain = evidence.gain
    in_arrival_order = evidence.orders.get(_ARRIVAL_ORDER, 0)
    if gain is None or 2 * in_arrival_order < sum(evidence.orders.values()):
        return None
    before_s, after_s = gain.arrival_order_s, gain.predicted_order_s
    if evidence.wait_share < WAIT_MATTERS or after_s >= (1 - _GAIN) * before_s:
        return None
    configured = max(evidence.policies, key=lambda name: evidence.policies[name], default="")
    held_back = configured not in ("", _ARRIVAL_ORDER)
    how = (
        f"{configured} is configured but arrival order was served: look why the guard is open"
        if held_back
        else "Set queue.policy: SSJF"
    )
    return Recommendation(
        action=Action.SWITCH_POLICY,
        text=f"{how}. Serving the predicted shortest first, these requests would have waited "
        f"{after_s:.2f} s instead of {before_s:.2f} s on average; `llmservice replay` tells more.",
        numbers={
            "mean_wait_arrival_order_s": before_s,
            "mean_wait_predicted_order_s": after_s,
            "mean_wait_true_order_s": gain.true_order_s,
            "configured": configured,
        },
    )


def _raise_concurrency(evidence: Evidence) -> Recommendation | None:
    seen = evidence.pressure
    half_s, full_s = seen.per_token_half_s, seen.per_token_full_s
    if evidence.wait_share < WAIT_MATTERS or not half_s or not full_s:
        return None
    if full_s / half_s > _MORE_ROOM:
        return None
    return Recommendation(
        action=Action.RAISE_CONCURRENCY,
        text=f"Raise queue.maxConcurrency above {seen.slots}: {evidence.wait_share:.0%} of "
        f"the time is spent waiting, and a token takes {full_s * 1000:.1f} ms with all slots in "
        f"use against {half_s * 1000:.1f} ms with half of them.",
        numbers={
            "wait_share": evidence.wait_share,
            "slots": seen.slots,
            "per_token_half_s": half_s,
            "per_token_full_s": full_s,
        },
    )


def _more_replicas(evidence: Evidence) -> Recommendation | None:
    seen = evidence.pressure
    if evidence.wait_share < WAIT_MATTERS or (seen.busy_share or 0.0) < _BUSY:
        return None
    return Recommendation(
        action=Action.MORE_REPLICAS,
        text=f"Add replicas (or autoscaling): all {seen.slots} slots were in use for "
        f"{seen.busy_share:.0%} of the time. Order changes who waits, not how much is served.",
        numbers={
            "busy_share": seen.busy_share,
            "slots": seen.slots,
            "pods": seen.pods,
            "mean_wait_s": evidence.wait.mean,
        },
    )


def _nothing(evidence: Evidence) -> Recommendation:
    return Recommendation(
        action=Action.NOTHING_TO_GAIN,
        text="Nothing to gain from the queue's settings at this load: "
        f"{evidence.wait_share:.1%} of the time is spent there. The rest is the engine's, the "
        "client's, or length.",
        numbers={"wait_share": evidence.wait_share, "mean_wait_s": evidence.wait.mean},
    )


def leading(counts: Sequence[str]) -> dict[str, int]:
    """How often each word was told; none is left out."""
    found: dict[str, int] = {}
    for word in counts:
        if word:
            found[word] = found.get(word, 0) + 1
    return found
