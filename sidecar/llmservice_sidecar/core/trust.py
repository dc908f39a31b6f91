"""Whose predictions order the queue: judged for all requests together and for each model alone.

The whole queue falls back to arrival order when predictions rank no better than chance (`Guard`).
Where several models and adapters are served, one of them can be the culprit: its requests then
stand in the order by their running mean, and all others keep their predictions.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from llmservice_sidecar.core.guard import Guard
from llmservice_sidecar.core.request import Prediction

MAX_MODELS: Final = 64  # the one unheard of for the longest time is forgotten


@dataclass(frozen=True, slots=True)
class Sample:
    """One complete answer: `said` of the predictor, `fallback_tokens` of the running mean then."""

    model: str
    said: Prediction
    fallback_tokens: float
    actual_tokens: float
    max_tokens: int | None = None


class Coverage:
    """The share of answers not longer than a predicted quantile, over a window.

    A quantile cut by `max_tokens` says nothing: no answer can be longer. It is not counted.
    Fewer than `min_samples` say nothing either: one long answer would look like drift.
    """

    def __init__(self, *, min_samples: int, window: int) -> None:
        self._min_samples = min_samples
        self._within: deque[bool] = deque(maxlen=window)
        self._count = 0

    @property
    def share(self) -> float | None:
        """From 0 to 1; None below the minimum of samples."""
        samples = len(self._within)
        return self._count / samples if samples >= self._min_samples else None

    def observe(self, quantile: float | None, sample: Sample) -> None:
        """One more answer, whose quantile was predicted so; None: it was not."""
        limit = sample.max_tokens
        if quantile is None or (limit is not None and quantile >= limit):
            return
        if len(self._within) == self._within.maxlen:
            self._count -= self._within[0]
        within = sample.actual_tokens <= quantile
        self._within.append(within)
        self._count += within


class ModelTrust:
    """The judgement of one model's predictions: its guard and the coverage of p50 and p90."""

    def __init__(self, *, min_samples: int, window: int) -> None:
        # Innocent at first: whether anything is ordered at the start is decided for all together.
        self.guard: Final = Guard(min_samples=min_samples, window=window, starts_trusted=True)
        self.p50: Final = Coverage(min_samples=min_samples, window=window)
        self.p90: Final = Coverage(min_samples=min_samples, window=window)

    def observe(self, sample: Sample) -> None:
        """One more answer of this model."""
        self.guard.observe(sample.said.output_tokens, sample.actual_tokens)
        self.p50.observe(sample.said.p50_tokens, sample)
        self.p90.observe(sample.said.p90_tokens, sample)


class Trust:
    """Takes samples in arrival order and tells whose predictions may order the queue."""

    def __init__(self, *, min_samples: int, window: int, starts_trusted: bool) -> None:
        self.guard: Final = Guard(
            min_samples=min_samples, window=window, starts_trusted=starts_trusted
        )
        self._min_samples = min_samples
        self._window = window
        self._samples: deque[Sample] = deque(maxlen=window)
        self._models: OrderedDict[str, ModelTrust] = OrderedDict()

    def models(self) -> Iterator[tuple[str, ModelTrust]]:
        """Each model that has been heard of, by name."""
        return iter(sorted(self._models.items()))

    def in_model(self, model: str) -> bool:
        """Whether this model's predictions stand in the order, and not its running mean."""
        # Alone it needs no rescue: its running mean would be arrival order, which is the guard's.
        known = self._models.get(model)
        return known is None or len(self._models) == 1 or known.guard.closed

    def observe(self, sample: Sample) -> None:
        """One more complete answer."""
        before = self._excluded()
        self._model(sample.model).observe(sample)
        self._samples.append(sample)
        if self._excluded() == before:
            self.guard.observe(self._used_tokens(sample), sample.actual_tokens)
        else:
            # The guard judges what orders the queue: from now on that is something else.
            self.guard.restate((self._used_tokens(s), s.actual_tokens) for s in self._samples)

    def _used_tokens(self, sample: Sample) -> float:
        trusted = self.in_model(sample.model)
        return sample.said.output_tokens if trusted else sample.fallback_tokens

    def _excluded(self) -> frozenset[str]:
        return frozenset(name for name in self._models if not self.in_model(name))

    def _model(self, name: str) -> ModelTrust:
        if name not in self._models:
            if len(self._models) >= MAX_MODELS:
                self._models.popitem(last=False)
            self._models[name] = ModelTrust(min_samples=self._min_samples, window=self._window)
        self._models.move_to_end(name)
        return self._models[name]
