"""What an evaluation says of a predictor: a row per source and model, and means over models. Pure.

Answers to one prompt are not independent, and all models of a source share its prompts: errors are
by bootstrap over groups of near-duplicate prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.predictors.figures import Vector, coverage, mae, pairwise_accuracy, tau_b

PAIR_RATIOS: Final = (1.2, 2.0)
DRAWS: Final = 50

Places: TypeAlias = npt.NDArray[np.intp]


class Latency(TypedDict):
    """Of one prediction at a time, on one core, in milliseconds; None: nothing was timed."""

    p50: float | None
    p99: float | None


class EvalRow(TypedDict):
    """One predictor on the answers of one model to the prompts of one source."""

    predictor: str
    source: str
    model: str
    n: int
    tau_b: float | None
    pairwise_1_2x: float | None
    pairwise_2x: float | None
    mae_tokens: float | None
    coverage_p50: float | None
    coverage_p90: float | None
    latency_ms: Latency


class SourceMean(TypedDict):
    """Means over the models of a source; `tau_b_error` is one standard error over prompt groups."""

    predictor: str
    source: str
    models: int
    n: int
    tau_b: float | None
    tau_b_error: float | None
    pairwise_1_2x: float | None
    pairwise_2x: float | None
    mae_tokens: float | None
    coverage_p50: float | None
    coverage_p90: float | None
    latency_ms: Latency


@dataclass(frozen=True, slots=True)
class Said:
    """What a predictor said of each of some answers, in tokens; `seconds` are of the asking.

    Quantiles are NaN where none was told, `seconds` where nothing was asked.
    """

    mean: Vector
    p50: Vector
    p90: Vector
    seconds: Vector

    def of(self, index: Places) -> Said:
        """The part of some answers."""
        return Said(self.mean[index], self.p50[index], self.p90[index], self.seconds[index])

    @property
    def median(self) -> Vector:
        """The median, or the mean where none was told: what an absolute error is measured from."""
        return np.where(np.isnan(self.p50), self.mean, self.p50)


def by_source_and_model(samples: Sequence[Sample]) -> dict[tuple[str, str], Places]:
    """Places of the answers of each model to the prompts of each source, sorted by name."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, sample in enumerate(samples):
        places.setdefault((sample.source, sample.model), []).append(place)
    return {key: np.array(places[key], dtype=np.intp) for key in sorted(places)}


def rows_of(predictor: str, samples: Sequence[Sample], said: Said) -> list[EvalRow]:
    """A row for every source and model."""
    actual = np.array([float(sample.output_tokens) for sample in samples])
    return [
        _row(predictor, key, said.of(index), actual[index])
        for key, index in by_source_and_model(samples).items()
    ]


def means_of(
    predictor: str, samples: Sequence[Sample], said: Said, rows: Sequence[EvalRow]
) -> list[SourceMean]:
    """A row for every source: plain means over its models, so that each counts alike."""
    errors = tau_errors(samples, said.mean)
    milliseconds = said.seconds * 1e3
    where = np.array([sample.source for sample in samples])
    return [
        _source_mean(
            predictor,
            [row for row in rows if row["source"] == source],
            error=errors[source],
            latency=latency_of(milliseconds[where == source]),
        )
        for source in sorted({row["source"] for row in rows})
    ]


def tau_errors(samples: Sequence[Sample], predicted: Vector) -> dict[str, float | None]:
    """Standard error of each source's mean tau over its models; None where tau is not defined.

    From 50 bootstrap draws of the source's prompt groups (seed 0), the same for all its models.
    """
    actual = np.array([float(sample.output_tokens) for sample in samples])
    groups = np.unique([sample.group for sample in samples], return_inverse=True)[1]
    places = by_source_and_model(samples)
    errors: dict[str, float | None] = {}
    for source in sorted({source for source, _ in places}):
        models = [index for (of, _), index in places.items() if of == source]
        taus = [_drawn_tau(predicted, actual, drawn) for drawn in _draws(models, groups)]
        known = [tau for tau in taus if tau is not None]
        errors[source] = float(np.std(known)) if len(known) > 1 else None
    return errors


def mean_known(values: Iterable[float | None]) -> float | None:
    """Mean of what is defined; None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def latency_of(milliseconds: Vector) -> Latency:
    """Median and 99 % quantile of what was timed."""
    timed = milliseconds[~np.isnan(milliseconds)]
    if not len(timed):
        return Latency(p50=None, p99=None)
    p50, p99 = np.percentile(timed, [50, 99]).tolist()
    return Latency(p50=p50, p99=p99)


def _draws(models: Sequence[Places], groups: Places) -> Iterator[list[Places]]:
    """Answers of each model, as often as their prompt group was drawn."""
    there = np.unique(groups[np.concatenate(models)])
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        drawn = rng.choice(there, size=len(there))
        times = np.bincount(drawn, minlength=int(groups.max()) + 1)
        yield [np.repeat(index, times[groups[index]]) for index in models]


def _drawn_tau(predicted: Vector, actual: Vector, models: Sequence[Places]) -> float | None:
    return mean_known(tau_b(predicted[index], actual[index]) for index in models)


def _row(predictor: str, key: tuple[str, str], said: Said, actual: Vector) -> EvalRow:
    source, model = key
    close, far = PAIR_RATIOS
    return EvalRow(
        predictor=predictor,
        source=source,
        model=model,
        n=len(actual),
        tau_b=tau_b(said.mean, actual),
        pairwise_1_2x=pairwise_accuracy(said.mean, actual, ratio=close),
        pairwise_2x=pairwise_accuracy(said.mean, actual, ratio=far),
        mae_tokens=mae(said.median, actual),
        coverage_p50=coverage(_told(said.p50), actual),
        coverage_p90=coverage(_told(said.p90), actual),
        latency_ms=latency_of(said.seconds * 1e3),
    )


def _told(quantiles: Vector) -> Vector | None:
    return None if np.isnan(quantiles).any() else quantiles


def _source_mean(
    predictor: str, rows: Sequence[EvalRow], *, error: float | None, latency: Latency
) -> SourceMean:
    return SourceMean(
        predictor=predictor,
        source=rows[0]["source"],
        models=len(rows),
        n=sum(row["n"] for row in rows),
        tau_b=mean_known(row["tau_b"] for row in rows),
        tau_b_error=error,
        pairwise_1_2x=mean_known(row["pairwise_1_2x"] for row in rows),
        pairwise_2x=mean_known(row["pairwise_2x"] for row in rows),
        mae_tokens=mean_known(row["mae_tokens"] for row in rows),
        coverage_p50=mean_known(row["coverage_p50"] for row in rows),
        coverage_p90=mean_known(row["coverage_p90"] for row in rows),
        latency_ms=latency,
    )
