"""What predictions are worth in a comparison: the share of the oracle's gain that is kept. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypedDict

from llmservice_lab.results import RunSummary

BASELINE: Final = "FCFS"
ORACLE: Final = "oracle"


class GainShare(TypedDict):
    """One policy with one predictor, beside the same policy with the oracle.

    `share_of_oracle_gain` is (FCFS - this) / (FCFS - oracle) of the mean end-to-end times; null
    where FCFS or the oracle was not run, or the oracle gained nothing.
    """

    policy: str
    predictor: str
    e2e_mean_s: float | None
    share_of_oracle_gain: float | None


def gain_shares(runs: Sequence[RunSummary]) -> list[GainShare]:
    """An entry for each run but those in arrival order, in their order."""
    means_s = {(run["policy"], run["predictor"]): run["e2e_s"]["mean"] for run in runs}
    baselines_s = [run["e2e_s"]["mean"] for run in runs if run["policy"] == BASELINE]
    baseline_s = baselines_s[0] if baselines_s else None  # no predictor changes arrival order
    return [
        GainShare(
            policy=policy,
            predictor=predictor,
            e2e_mean_s=mean_s,
            share_of_oracle_gain=_share(mean_s, baseline_s, means_s.get((policy, ORACLE))),
        )
        for (policy, predictor), mean_s in means_s.items()
        if policy != BASELINE
    ]


def short_name(predictor: str) -> str:
    """A predictor's name for people: of a path its last part."""
    return predictor.rstrip("/").rpartition("/")[2]


def told(share: GainShare) -> str:
    """One line for people."""
    name = short_name(share["predictor"])
    mean_s, kept = share["e2e_mean_s"], share["share_of_oracle_gain"]
    return (
        f"{share['policy']} with predictor {name}: mean end-to-end "
        f"{'unknown' if mean_s is None else f'{mean_s:.3g} s'}, share of the oracle's gain kept: "
        f"{'unknown' if kept is None else f'{kept:.0%}'}"
    )


def _share(mean_s: float | None, baseline_s: float | None, oracle_s: float | None) -> float | None:
    if mean_s is None or baseline_s is None or oracle_s is None or oracle_s >= baseline_s:
        return None
    return (baseline_s - mean_s) / (baseline_s - oracle_s)
