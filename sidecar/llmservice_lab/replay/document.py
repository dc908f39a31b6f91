"""The result of a replay as it stands in JSON: that of a simulation, and what it can be held to."""

from __future__ import annotations

from typing import TypedDict

from llmservice_lab.gains import GainShare
from llmservice_lab.replay.fidelity import SelfCheck
from llmservice_lab.replay.fit import Fit
from llmservice_lab.replay.intervals import Change
from llmservice_lab.results import RunSummary


class Comparison(TypedDict):
    """One replay beside the replayed recording, of the `requests` that completed in both.

    `block_requests`: so many neighbours were drawn together for the intervals.
    """

    policy: str
    predictor: str
    slots: int
    tail_weight: float
    requests: int
    block_requests: int
    changes: list[Change]


class ReplayDocument(TypedDict):
    """`runs` begins with the replayed recording; `measured` is the recording itself.

    Without a passed self-check there are no other runs and no comparisons, unless forced.
    `requests_by_outcome` is of the traces; `limits` says in words what the figures do not hold.
    """

    commit: str
    seed: int
    hardware: str
    workload: str
    engine: str
    capacity_rps: float | None
    offered_load: float | None
    runs: list[RunSummary]
    shares: list[GainShare]
    measured: RunSummary
    self_check: SelfCheck
    comparisons: list[Comparison]
    costs: list[Fit]
    requests_by_outcome: dict[str, int]
    limits: list[str]
