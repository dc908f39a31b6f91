"""What the online predictor learns from a mixed service's own requests, and how soon.

python -m llmservice_lab.predictors.online_eval --lengths FILE [--shuffles 20] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final

from llmservice_sidecar.adapters.predictors.learned import snapshot
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.learned.sharing import Describes
from llmservice_sidecar.adapters.predictors.shipped.base import BaseModel, default_base
from rich.console import Console
from rich.progress import track
from rich.table import Table

from llmservice_lab.predictors.dataset import SPLITS, Sample, read_lengths
from llmservice_lab.predictors.online_trials import (
    Described,
    Score,
    cost_us,
    merged_replicas,
    offline_taus,
    predict,
    score,
    teach,
)
from llmservice_lab.predictors.services import Services

BEFORE: Final = ("chat", "adversarial")
AFTER: Final = ("exam", "legal", "reasoning")

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many requests each trial takes."""

    moments: tuple[int, ...] = (200, 1000, 5000)  # learned when asked
    unseen: int = 1000  # asked then, not learned yet
    settled: int = 3000  # before and after a change
    back_after: int = 500  # after the change, and as many are asked then
    shuffles: int = 20


def learning(
    base: Described, rows: Sequence[Sample], *, plan: Plan, seed: int
) -> Iterator[tuple[str, Figures]]:
    """At each moment: what it knows by then of requests to come, beside offline models."""
    predictor, start = OnlinePredictor(base), OnlinePredictor(base)
    learned = 0
    for moment in (0, *plan.moments):
        unseen = rows[moment : moment + plan.unseen]
        if len(unseen) < plan.unseen:
            return
        teach(predictor, rows[learned:moment])
        learned = moment
        figures = _figures(score(predict(predictor, unseen), unseen))
        figures["start"] = score(predict(start, unseen), unseen).tau
        if moment:
            figures |= offline_taus(base, rows[:moment], unseen, seed=seed)
        if moment == plan.moments[-1]:
            merged = merged_replicas(base, rows[:moment])
            figures["merged"] = score(predict(merged, unseen), unseen).tau
            restarted = snapshot.load(snapshot.save(predictor), base=base)
            figures["restarted"] = score(predict(restarted, unseen), unseen).tau
            figures["snapshot kB"] = len(snapshot.save(predictor)) / 1000
            figures["shared kB"] = len(predictor.own_statistics()) / 1000
        yield f"after {moment}", figures


def change(
    base: Described, before: Sequence[Sample], after: Sequence[Sample], *, plan: Plan
) -> Figures:
    """An abrupt change from the requests `before` to those `after`.

    `tau`: with learning, on the requests that follow the first `back_after` of the new kind;
    `reach`: on the same, of a predictor that has learned all others of the new kind and no old one.
    """
    predictor, settled = OnlinePredictor(base), OnlinePredictor(base)
    was = score(teach(predictor, before)[-plan.unseen :], before[-plan.unseen :]).tau
    first, judged, rest = _parts(after, plan.back_after)
    during = score(teach(predictor, first), first).tau
    found = _figures(score(teach(predictor, judged), judged))
    teach(settled, [*first, *rest])
    reach = score(predict(settled, judged), judged).tau
    return {**found, "before": was, "during": during, "reach": reach, "back": found["tau"] / reach}


def _parts(rows: Sequence[Sample], size: int) -> tuple[Sequence[Sample], ...]:
    return rows[:size], rows[size : 2 * size], rows[2 * size :]


def evaluate(samples: Sequence[Sample], base: Describes, *, plan: Plan) -> dict[str, Figures]:
    """Mean figures over shuffles, by what was tried."""
    described, services = Described(base), Services(samples)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in track(range(plan.shuffles), console=Console(stderr=True)):
        rows = services.stream(seed, length=plan.moments[-1] + plan.unseen)
        for name, figures in learning(described, rows, plan=plan, seed=seed):
            _add(found[name], figures)
        for name, before, after in _changes(services, plan, seed=seed):
            if min(len(before), len(after)) > 2 * plan.back_after:
                _add(found[name], change(described, before, after, plan=plan))
    rows = services.stream(0, length=2000)
    _add(found["CPU of an update"], cost_us(described, rows))
    return {
        name: {column: fmean(values) for column, values in columns.items()}
        for name, columns in found.items()
    }


def _changes(
    services: Services, plan: Plan, *, seed: int
) -> Iterator[tuple[str, Sequence[Sample], Sequence[Sample]]]:
    """What is served before and after: another model; another mix for the same model."""
    one = services.stream(seed, length=plan.settled)
    other = services.stream(seed + plan.shuffles, length=plan.settled)
    yield "model changes", one, other
    mixes = [services.stream(seed, length=plan.settled, kinds=kinds) for kinds in (BEFORE, AFTER)]
    yield "mix changes", mixes[0], mixes[1]


def _add(columns: dict[str, list[float]], figures: Figures) -> None:
    for name, value in figures.items():
        columns[name].append(value)


def _figures(found: Score) -> Figures:
    return {"tau": found.tau, "p50": found.p50, "p90": found.p90, "mean ratio": found.mean_ratio}


def show(found: dict[str, Figures], console: Console) -> None:
    """One column per trial, one row per figure."""
    table = Table("", *found, box=None)
    names = dict.fromkeys(name for figures in found.values() for name in figures)
    for name in names:
        row = (figures.get(name) for figures in found.values())
        table.add_row(name, *("" if value is None else f"{value:.4g}" for value in row))
    console.print(table)


def main() -> None:
    """Read a table of lengths, try, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=Path, required=True, help="table of answer lengths")
    parser.add_argument("--shuffles", type=int, default=20)
    parser.add_argument("--splits", default=",".join(SPLITS), help="of the table, by comma")
    parser.add_argument("--base", type=Path, help="a base model instead of the shipped one")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    samples = read_lengths(options.lengths, splits=options.splits.split(","))
    base = default_base() if options.base is None else BaseModel.load(options.base)
    found = evaluate(samples, base, plan=Plan(shuffles=options.shuffles))
    show(found, Console(width=120))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
