"""How far a replay can be believed: against what was measured, and against what the traces lack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypedDict

from llmservice_lab.analysis.sampling import depths
from llmservice_lab.replay.recording import Stretch
from llmservice_lab.results import WARM_UP_SHARE, RunSummary

BOUND: Final = 0.15


class SelfCheck(TypedDict):
    """The recorded policy replayed beside what was measured of the same requests.

    Errors are replayed minus measured, relative to the measured mean end-to-end time. `passed`:
    both means are within `bound`. `sampled`: the share of queued requests that the traces hold, by
    the depths on their spans; null where nobody queued behind another.
    """

    measured_e2e_mean_s: float | None
    replayed_e2e_mean_s: float | None
    e2e_error: float | None
    measured_wait_mean_s: float | None
    replayed_wait_mean_s: float | None
    wait_error: float | None
    measured_e2e_p99_s: float | None
    replayed_e2e_p99_s: float | None
    bound: float
    passed: bool
    sampled: float | None


def self_check(
    measured: RunSummary, replayed: RunSummary, stretches: Sequence[Stretch]
) -> SelfCheck:
    """Pure; nothing is raised for a bad one."""
    base_s = measured["e2e_s"]["mean"]
    e2e_error = _error(measured["e2e_s"]["mean"], replayed["e2e_s"]["mean"], base_s)
    wait_error = _error(measured["queue_wait_s"]["mean"], replayed["queue_wait_s"]["mean"], base_s)
    errors = (e2e_error, wait_error)
    return SelfCheck(
        measured_e2e_mean_s=base_s,
        replayed_e2e_mean_s=replayed["e2e_s"]["mean"],
        e2e_error=e2e_error,
        measured_wait_mean_s=measured["queue_wait_s"]["mean"],
        replayed_wait_mean_s=replayed["queue_wait_s"]["mean"],
        wait_error=wait_error,
        measured_e2e_p99_s=measured["e2e_s"]["p99"],
        replayed_e2e_p99_s=replayed["e2e_s"]["p99"],
        bound=BOUND,
        passed=all(error is not None and abs(error) <= BOUND for error in errors),
        sampled=sampled_share(stretches),
    )


def sampled_share(stretches: Iterable[Stretch]) -> float | None:
    """Requests seen in the queue over those that the spans say stood there; after the warm-up."""
    seen = said = 0
    for stretch in stretches:
        requests = [one.traced for one in stretch.taken]
        later = requests[int(len(requests) * WARM_UP_SHARE) :]
        seen_here, said_here = depths(requests, later)
        seen += seen_here
        said += said_here
    return min(seen / said, 1.0) if said else None


def _error(measured: float | None, replayed: float | None, base_s: float | None) -> float | None:
    if measured is None or replayed is None or not base_s:
        return None
    return (replayed - measured) / base_s
