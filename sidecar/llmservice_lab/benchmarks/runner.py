"""Runs what is not in the store yet, on two processes; never twice the same."""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from llmservice_lab.benchmarks.cases import Case, CaseRun, Contender, run_case
from llmservice_lab.benchmarks.store import Store

PROCESSES: Final = 2
BATCH: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """These contenders on this case, with these seeds."""

    case: Case
    contenders: tuple[Contender, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    """What one process does in one go."""

    case: Case
    contenders: tuple[Contender, ...]
    seed: int


Results: TypeAlias = Mapping[tuple[Case, Contender], Sequence[CaseRun]]


def collect(
    wanted: Iterable[Wanted], *, store: Store, on_done: Callable[[int, int], None]
) -> dict[tuple[Case, Contender], list[CaseRun]]:
    """The runs of each case and contender, in the order of the seeds.

    `on_done` hears how many of how many missing runs are done.
    """
    asked = list(wanted)
    missing = _jobs(asked, store)
    total, done = sum(len(job.contenders) for job in missing), 0
    # Fresh processes: a fork would inherit whatever threads a test or a plot has started.
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for job, runs in pool.imap_unordered(_run, missing):
            for contender, run in zip(job.contenders, runs, strict=True):
                store.put(job.case, contender, seed=job.seed, run=run)
            done += len(runs)
            on_done(done, total)
    return {
        (each.case, contender): [_kept(store, each.case, contender, seed) for seed in each.seeds]
        for each in asked
        for contender in each.contenders
    }


def _jobs(wanted: Sequence[Wanted], store: Store) -> list[_Job]:
    runs: defaultdict[tuple[Case, int], dict[Contender, None]] = defaultdict(dict)
    for each in wanted:
        for seed in each.seeds:
            for contender in each.contenders:
                if store.get(each.case, contender, seed=seed) is None:
                    runs[each.case, seed][contender] = None
    jobs = [
        _Job(case, tuple(some), seed)
        for (case, seed), contenders in runs.items()
        for some in _batches(list(contenders))
    ]
    # Neighbours share rows and capacity, which every process keeps for the next job.
    return sorted(jobs, key=lambda job: (str(job.case.path), job.case.slots, job.seed))


def _batches(contenders: Sequence[Contender]) -> Iterator[Sequence[Contender]]:
    """Few at a time: what is done is kept when the rest is interrupted, and no process idles."""
    for start in range(0, len(contenders), BATCH):
        yield contenders[start : start + BATCH]


def _run(job: _Job) -> tuple[_Job, list[CaseRun]]:
    return job, [run_case(job.case, each, seed=job.seed) for each in job.contenders]


def _kept(store: Store, case: Case, contender: Contender, seed: int) -> CaseRun:
    run = store.get(case, contender, seed=seed)
    if run is None:
        raise RuntimeError(f"no result of {contender} on {case} with seed {seed}")
    return run
