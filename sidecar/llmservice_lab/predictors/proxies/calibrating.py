"""From scores to tokens: the calibration table, and how well a proxy does. NumPy only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from llmservice_sidecar.adapters.predictors.proxies.onnx_proxy import Score
from llmservice_sidecar.adapters.predictors.proxies.proxy_card import Calibration, Figures

from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.predictors.figures import coverage, mae, tau_b

PROMPTS_PER_KNOT: Final = 40
MOST_KNOTS: Final = 24
LINE_SHARE: Final = 0.1
P50: Final = 0.5
P90: Final = 0.9
MIN_ANSWERS: Final = 20  # of a model in a source, for its rank correlation

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """Answers beside their prompts' scores; an entry an answer, prompts weighing the same.

    `log_tokens` has the model's offset taken out.
    """

    score: Vector
    spread: Vector
    log_tokens: Vector
    offset: Vector
    weight: Vector
    group: npt.NDArray[np.str_]
    source: npt.NDArray[np.str_]
    model: npt.NDArray[np.str_]

    def where(self, chosen: npt.NDArray[np.bool_]) -> Scored:
        """The chosen answers."""
        return Scored(*(getattr(self, name)[chosen] for name in self.__slots__))


def scored(
    samples: Sequence[Sample], scores: Mapping[str, Score], offsets: Mapping[str, float]
) -> Scored:
    """Answers to prompts that have a score (by prompt text)."""
    rows = [sample for sample in samples if sample.prompt in scores]
    answers: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        answers[row.source, row.prompt] += 1
    offset = np.array([offsets.get(row.model, 0.0) for row in rows])
    log_tokens = np.log([max(row.output_tokens, 1) for row in rows])
    return Scored(
        score=np.array([scores[row.prompt].value for row in rows]),
        spread=np.array([scores[row.prompt].spread for row in rows]),
        log_tokens=log_tokens - offset,
        offset=offset,
        weight=np.array([1.0 / answers[row.source, row.prompt] for row in rows]),
        group=np.array([row.group for row in rows]),
        source=np.array([row.source for row in rows]),
        model=np.array([row.model for row in rows]),
    )


def fit_calibration(rows: Scored) -> Calibration:
    """A table with a knot for every 40 prompts, at most 24, and one far out on both sides.

    ln tokens rise with the score (pool adjacent violators, a tenth of a straight line mixed in, so
    that pools and ends keep the scores' order); the quantiles are those of (ln tokens - its line) /
    spread among the answers of a knot and its two neighbours.
    """
    bins = _knots_of(rows)
    weights = np.bincount(bins, rows.weight).astype(np.float64)
    places = np.bincount(bins, rows.weight * rows.score) / weights
    slope = _slope(rows)
    line = slope * (places - np.average(rows.score, weights=rows.weight))
    middles = _rising(np.bincount(bins, rows.weight * rows.log_tokens) / weights, line, weights)
    rest = rows.log_tokens - np.interp(rows.score, places, middles)
    ratio, p50, p90 = np.zeros(len(places)), np.zeros(len(places)), np.zeros(len(places))
    for knot in range(len(places)):
        near = np.abs(bins - knot) <= 1
        ratio[knot] = np.log(np.average(np.exp(rest[near]), weights=rows.weight[near]))
        normed = rest[near] / rows.spread[near]
        p50[knot] = weighted_quantile(normed, rows.weight[near], P50)
        p90[knot] = weighted_quantile(normed, rows.weight[near], P90)
    means = _rising(middles + ratio, line, weights)
    far = places[-1] - places[0] if slope > 0 else 0.0
    return Calibration(
        scores=_extended(places, far),
        log_tokens=_extended(middles, slope * far),
        log_mean_ratio=_extended(means - middles, 0.0, also=far > 0),
        p50=_extended(p50, 0.0, also=far > 0),
        p90=_extended(p90, 0.0, also=far > 0),
    )


def _knots_of(rows: Scored) -> npt.NDArray[np.int64]:
    """Per answer its knot; knots are about equally heavy and in order of the score."""
    knots = int(np.clip(rows.weight.sum() / PROMPTS_PER_KNOT, 1, MOST_KNOTS))
    # Equal scores belong to one knot; else its place on the line would be a matter of order.
    _, same = np.unique(rows.score, return_inverse=True)
    mass = np.bincount(same, rows.weight)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    _, bins = np.unique((middle * knots).astype(int)[same], return_inverse=True)
    return bins.astype(np.int64)


def _slope(rows: Scored) -> float:
    """Of the straight line from scores to ln tokens by least squares; 0 for one that descends."""
    apart = rows.score - np.average(rows.score, weights=rows.weight)
    square = float(np.sum(rows.weight * apart**2))
    return (
        max(float(np.sum(rows.weight * apart * rows.log_tokens)) / square, 0.0) if square else 0.0
    )


def _rising(values: npt.NDArray[np.floating], line: Vector, weights: Vector) -> Vector:
    """The nearest values that do not descend, mixed with a line of the same mean."""
    level = float(np.average(values, weights=weights))
    pooled = _ascending(np.asarray(values, dtype=np.float64), weights)
    return (1 - LINE_SHARE) * pooled + LINE_SHARE * (level + line)


def _extended(values: Vector, step: float, *, also: bool = False) -> tuple[float, ...]:
    """The values with one more on both sides, a step away; `also` for a step of 0."""
    if step == 0.0 and not also:
        return tuple(values.tolist())
    return (float(values[0] - step), *values.tolist(), float(values[-1] + step))


def source_figures(rows: Scored, calibration: Calibration) -> dict[str, Figures]:
    """Per source how good the calibrated predictions are."""
    logs = np.array(
        [calibration.log_quantiles(*pair) for pair in zip(rows.score, rows.spread, strict=True)]
    ).reshape(-1, 3)
    said = np.maximum(np.exp(logs + rows.offset[:, None]), 1.0)
    actual = np.exp(rows.log_tokens + rows.offset)
    found: dict[str, Figures] = {}
    for source in sorted(set(rows.source.tolist())):
        here = rows.source == source
        found[source] = Figures(
            prompts=round(float(rows.weight[here].sum())),
            tau_b=_mean_tau(rows.score[here], actual[here], rows.model[here]),
            mae_tokens=mae(said[here, 0], actual[here]),
            coverage_p50=coverage(said[here, 1], actual[here]),
            coverage_p90=coverage(said[here, 2], actual[here]),
        )
    return found


def cross_figures(rows: Scored) -> dict[str, Figures]:
    """As `source_figures`, each half of the groups judged by the other half's table.

    Coverage of the very answers that a table was made of would be right by construction. The mean
    of the two halves.
    """
    groups = {group: index % 2 for index, group in enumerate(sorted(set(rows.group.tolist())))}
    side = np.array([groups[group] for group in rows.group.tolist()])
    halves = [
        source_figures(rows.where(side == here), fit_calibration(rows.where(side != here)))
        for here in (0, 1)
    ]
    whole = source_figures(rows, fit_calibration(rows))
    return {
        source: Figures(
            prompts=figures.prompts,
            tau_b=figures.tau_b,
            mae_tokens=_mean([half[source].mae_tokens for half in halves if source in half]),
            coverage_p50=_mean([half[source].coverage_p50 for half in halves if source in half]),
            coverage_p90=_mean([half[source].coverage_p90 for half in halves if source in half]),
        )
        for source, figures in whole.items()
    }


def weighted_quantile(values: Vector, weights: Vector, share: float) -> float:
    """The smallest value with at least `share` of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    first = int((reached < share * reached[-1]).sum())
    return float(values[order][min(first, len(order) - 1)])


def _mean_tau(score: Vector, actual: Vector, model: npt.NDArray[np.str_]) -> float | None:
    taus = [
        tau_b(score[model == name], actual[model == name])
        for name in sorted(set(model.tolist()))
        if (model == name).sum() >= MIN_ANSWERS
    ]
    return _mean(taus)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _ascending(values: Vector, weights: Vector) -> Vector:
    """The nearest values, by weighted squares, that do not descend (pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, mass, count = pools.pop()
            total = mass + pool[1]
            pool = ((mean * mass + pool[0] * pool[1]) / total, total, count + pool[2])
        pools.append(pool)
    return np.array([mean for mean, _, count in pools for _ in range(count)])
