"""The work of the benchmarks: mixed workloads, and how one seed arranges one of them. No runs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final

from llmservice_lab.arrivals import repeat
from llmservice_lab.workload import WorkloadRequest, load_workload

FOLDER: Final = Path("examples/workloads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A workload as a service would see it. `path` is its file, `about` says it in a sentence."""

    name: str
    path: Path
    about: str


def mix_of(path: Path) -> Mix:
    """A workload file of one's own."""
    return Mix(name=path.stem, path=path, about=f"your file {path.name}")


@lru_cache(maxsize=16)
def rows_of(path: Path) -> tuple[WorkloadRequest, ...]:
    """All requests of the file. Raises WorkloadError."""
    return tuple(load_workload(path))


def arrange(
    rows: Sequence[WorkloadRequest], *, count: int, seed: int, keep_order: bool
) -> list[WorkloadRequest]:
    """`count` requests for one seed, at recorded times.

    Shuffled anew in every pass over the file, so that seeds differ in the work, too. `keep_order`
    is for recorded arrivals, whose sizes belong to their times: seeds begin at different places.
    """
    rng = random.Random(f"{seed}/arrange")  # noqa: S311 - a reproducible choice, not a secret
    times = repeat([row.arrival_s for row in rows], 2 * len(rows) + count)
    if keep_order:
        start = rng.randrange(len(rows))
        return [
            replace(rows[at % len(rows)], arrival_s=times[at] - times[start])
            for at in range(start, start + count)
        ]
    picked: list[WorkloadRequest] = []
    while len(picked) < count:
        picked.extend(rng.sample(rows, len(rows)))
    return [
        replace(row, arrival_s=time_s)
        for row, time_s in zip(islice(picked, count), times, strict=False)
    ]
