"""What the online predictor learns from a mixed service's own requests, and how soon.

python -m llmservice_lab.predictors.online_eval --lengths FILE [--shuffles 20] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

from llmservice_sidecar.adapters.predictors import snapshot
from llmservice_sidecar.adapters.predictors.base import BaseModel, default_base
from llmservice_sidecar.adapters.predictors.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.sharing import Describes
from rich.console import Console
from rich.progress import track
from rich.table import Table

from llmservice_lab.predictors.dataset import SPLITS, Sample, read_lengths
from llmservice_lab.predictors.online_trials import (
    UNSEEN,
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

MOMENTS: Final = (200, 1000, 5000)  # requests learned
SETTLED: Final = 3000  # requests before and after a change
BACK_AFTER: Final = 500
BEFORE: Final = ("chat", "adversarial")
AFTER: Final = ("exam", "legal", "reasoning")

Figures = dict[str, float]


def learning(
    base: Described, rows: Sequence[Sample], *, seed: int
) -> Iterator[tuple[str, Figures]]:
    """At each moment: what it knows by then of requests to come, beside offline models."""
    predictor, start = OnlinePredictor(base), OnlinePredictor(base)
    learned = 0
    for moment in (0, *MOMENTS):
        unseen = rows[moment : moment + UNSEEN]
        if len(unseen) < UNSEEN:
            return
        teach(predictor, rows[learned:moment])
        learned = moment
        figures = _figures(score(predict(predictor, unseen), unseen))
        figures["start"] = score(predict(start, unseen), unseen).tau
        if moment:
            figures |= offline_taus(base, rows[:moment], unseen, seed=seed)
        if moment == MOMENTS[-1]:
            merged = merged_replicas(base, rows[:moment])
            figures["merged"] = score(predict(merged, unseen), unseen).tau
            restarted = snapshot.load(snapshot.save(predictor), base=base)
            figures["restarted"] = score(predict(restarted, unseen), unseen).tau
            figures["snapshot kB"] = len(snapshot.save(predictor)) / 1000
            figures["shared kB"] = len(predictor.own_statistics()) / 1000
        yield f"after {moment}", figures


def change(base: Described, before: Sequence[Sample], after: Sequence[Sample]) -> Figures:
    """An abrupt change from the requests `before` to those `after`.

    `tau`: with learning, on the 500 requests that follow the first 500 of the new kind; `reach`:
    on the same, of a predictor that has learned all other requests of the new kind and no old one.
    """
    predictor, settled = OnlinePredictor(base), OnlinePredictor(base)
    was = score(teach(predictor, before)[-UNSEEN:], before[-UNSEEN:]).tau
    first, judged = after[:BACK_AFTER], after[BACK_AFTER : 2 * BACK_AFTER]
    during = score(teach(predictor, first), first).tau
    found = _figures(score(teach(predictor, judged), judged))
    teach(settled, [*first, *after[2 * BACK_AFTER :]])
    reach = score(predict(settled, judged), judged).tau
    return {**found, "before": was, "during": during, "reach": reach, "back": found["tau"] / reach}


def evaluate(samples: Sequence[Sample], base: Describes, *, shuffles: int) -> dict[str, Figures]:
    """Mean figures over shuffles, by what was tried."""
    described, services = Described(base), Services(samples)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in track(range(shuffles), description="shuffles", console=Console(stderr=True)):
        rows = services.stream(seed, length=MOMENTS[-1] + UNSEEN)
        for name, figures in learning(described, rows, seed=seed):
            _add(found[name], figures)
        other = services.stream(seed + shuffles, length=SETTLED)
        _add(found["model changes"], change(described, rows[:SETTLED], other))
        mixes = [services.stream(seed, length=SETTLED, kinds=kinds) for kinds in (BEFORE, AFTER)]
        if min(map(len, mixes)) > 2 * BACK_AFTER:
            _add(found["mix changes"], change(described, *mixes))
    rows = services.stream(0, length=2000)
    _add(found["CPU of an update"], cost_us(described, rows))
    return {
        name: {column: fmean(values) for column, values in columns.items()}
        for name, columns in found.items()
    }


def _add(columns: dict[str, list[float]], figures: Figures) -> None:
    for name, value in figures.items():
        columns[name].append(value)


def _figures(found: Score) -> Figures:
    return {"tau": found.tau, "p50": found.p50, "p90": found.p90, "mean ratio": found.mean_ratio}


def show(found: dict[str, Figures], console: Console) -> None:
    """One column per trial, one row per figure."""
    table = Table("", *found)
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
    found = evaluate(samples, base, shuffles=options.shuffles)
    show(found, Console())
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
