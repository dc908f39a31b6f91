"""May predictions order the queue? Only while they rank better than chance, judged by outcomes.

The guard knows no clock and no gate: it is told predictions and what became of them.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Final, Generic, TypeVar

from llmservice_sidecar.core.rank_correlation import (
    RankCorrelation,
    finish,
    gradual_rank_correlation,
    rank_correlation,
)

FALL_BACK_BELOW: Final = 0.10  # upper bound of tau: surely no better than this, so arrival order
RETURN_ABOVE: Final = 0.15  # lower bound of tau: surely better than this, so predictions again
EVALUATIONS_PER_WINDOW: Final = 40  # each costs milliseconds, in small steps
EARLY_SAMPLES: Final = 32  # enough to see that predictions are wrong, not that they are right
APART: Final = 16  # samples unlike the most common one: fewer pairs that can be ranked tell nothing
AT_ONCE: Final = 256  # samples that are judged in one go; more are spread over the samples to come

_T = TypeVar("_T")


class Guard:
    """A window of (predicted, actual) tokens and the judgement of its rank correlation.

    `closed` means that predictions may order the queue. A guard that starts trusted is closed until
    the evidence is against it; one that does not is open until the evidence is for it. Below
    `min_samples` only the worst is judged: who is surely no better than chance has to go at once.
    Equal outcomes rank nothing: where nearly all are equal the guard stays as it is.
    Give samples in arrival order (`ArrivalOrder` does): requests taken as they finish are biased to
    short ones.
    """

    def __init__(self, *, min_samples: int, window: int, starts_trusted: bool) -> None:
        if not 2 <= min_samples <= window:
            raise ValueError(
                f"min_samples is {min_samples} and window {window}; "
                "allowed: 2 <= min_samples <= window"
            )
        self._min_samples = min_samples
        self._pairs: deque[tuple[float, float]] = deque(maxlen=window)
        self._every = max(1, window // EVALUATIONS_PER_WINDOW)
        self._since = 0
        self._closed = starts_trusted
        self._judged: RankCorrelation | None = None
        self._judging: Generator[None, None, RankCorrelation] | None = None

    @property
    def closed(self) -> bool:
        """True: predictions may order the queue. False: arrival order."""
        return self._closed

    @property
    def samples(self) -> int:
        """Pairs in the window now."""
        return len(self._pairs)

    @property
    def calibrated(self) -> bool | None:
        """Whether predictions are trusted on evidence; None below the minimum of samples."""
        return None if self._judged is None else self._closed

    @property
    def tau(self) -> float | None:
        """Kendall's tau-b at the last judgement; None below the minimum of samples."""
        return None if self._judged is None else self._judged.tau

    @property
    def tau_lower(self) -> float | None:
        """Lower 95 % bound of tau."""
        return None if self._judged is None else self._judged.lower

    @property
    def tau_upper(self) -> float | None:
        """Upper 95 % bound of tau."""
        return None if self._judged is None else self._judged.upper

    def observe(self, predicted: float, actual: float) -> None:
        """One more outcome, in tokens. A prediction that is not finite counts as the largest."""
        self._pairs.append((_ranked(predicted), actual))
        self._since += 1
        if len(self._pairs) < self._min_samples:
            self._judge_early()
        elif self._judging is not None:
            self._judge_on()
        elif self._judged is None or self._since >= self._every:
            self._judge()

    def restate(self, pairs: Iterable[tuple[float, float]]) -> None:
        """Replace the window: what orders the queue is not what it was, nor was the past by it.

        The judgement stands until the next one, which is due at once.
        """
        self._pairs = deque(
            ((_ranked(predicted), actual) for predicted, actual in pairs), maxlen=self._pairs.maxlen
        )
        self._judging = None
        self._since = self._every

    def _judge_early(self) -> None:
        if not self._closed or len(self._pairs) % EARLY_SAMPLES:
            return
        predicted, actual = zip(*self._pairs, strict=True)
        if _varied(predicted) and _varied(actual):
            self._closed = rank_correlation(predicted, actual).upper >= FALL_BACK_BELOW

    def _judge(self) -> None:
        self._since = 0
        predicted, actual = zip(*self._pairs, strict=True)
        self._judging = gradual_rank_correlation(predicted, actual)
        if len(self._pairs) <= AT_ONCE:
            self._conclude(finish(self._judging))

    def _judge_on(self) -> None:
        # Two steps a sample: over long before the next judgement is due.
        assert self._judging is not None
        try:
            next(self._judging)
            next(self._judging)
        except StopIteration as end:
            self._conclude(end.value)

    def _conclude(self, judged: RankCorrelation) -> None:
        self._judging = None
        self._judged = judged
        if not _varied([actual for _, actual in self._pairs]):
            return  # one request over and over: no word against the predictor, nor for it
        if judged.upper < FALL_BACK_BELOW:
            self._closed = False
        elif judged.lower > RETURN_ABOVE:
            self._closed = True


def _varied(values: Sequence[float]) -> bool:
    """Whether enough of them differ from the most common one to say how well they are ranked."""
    ((_, most),) = Counter(values).most_common(1)
    return len(values) - most >= min(APART, len(values) // 2)


def _ranked(predicted: float) -> float:
    return predicted if math.isfinite(predicted) else math.inf


class ArrivalOrder(Generic[_T]):
    """Hands outcomes on in the order in which their requests arrived.

    An outcome waits until all earlier requests have one or are older than `max_age_s` (give it the
    queue timeout). A request that finishes later than that, or not at all, is no sample.
    """

    def __init__(self, take: Callable[[_T], None], *, max_age_s: float) -> None:
        self._take = take
        self._max_age_s = max_age_s
        self._waiting: dict[str, _Pending[_T]] = {}  # insertion order is arrival order

    def arrived(self, request_id: str, *, now: float) -> None:
        """A request was offered; its outcome is awaited from here on."""
        self._waiting[request_id] = _Pending(now)
        self._release(now)

    def finished(self, request_id: str, outcome: _T, *, now: float) -> None:
        """The answer is complete: what had been predicted for it, and what came true."""
        pending = self._waiting.get(request_id)
        if pending is not None:
            pending.outcome = outcome
        self._release(now)

    def left(self, request_id: str, *, now: float) -> None:
        """The request ended without a complete answer: it says nothing about the prediction."""
        self._waiting.pop(request_id, None)
        self._release(now)

    def _release(self, now: float) -> None:
        while self._waiting:
            first = next(iter(self._waiting))
            pending = self._waiting[first]
            if pending.outcome is None and now - pending.arrived_at <= self._max_age_s:
                return
            del self._waiting[first]
            if pending.outcome is not None:
                self._take(pending.outcome)


class _Pending(Generic[_T]):
    __slots__ = ("arrived_at", "outcome")

    def __init__(self, arrived_at: float) -> None:
        self.arrived_at = arrived_at
        self.outcome: _T | None = None
