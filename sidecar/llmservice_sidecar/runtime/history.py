"""What finished answers teach about the next one: running means, nothing of their content."""

from __future__ import annotations

from typing import Final

from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

_KEEP: Final = 63 / 64  # weight of the past when one more answer has ended
_FIRST_GUESS_TOKENS: Final = 256.0  # mean answer before the first one has ended
_P90_OF_MEAN: Final = 2.3  # of an exponential; only until a predictor has spoken


class History:
    """Tokens per stream event and per answer, each a mean over about the last 64 answers."""

    def __init__(self) -> None:
        self._tokens = 1.0
        self._events = 1.0
        self._answer_tokens = _FIRST_GUESS_TOKENS

    @property
    def tokens_per_event(self) -> float:
        """How many tokens one event of a stream carries."""
        return self._tokens / self._events

    def prior(self, query: PredictionQuery) -> Prediction:
        """The prediction at hand before any predictor has looked: the mean, cut by max_tokens."""
        mean = self._answer_tokens
        p90 = _P90_OF_MEAN * mean
        if query.max_tokens is not None:
            mean = min(mean, float(query.max_tokens))
            p90 = min(p90, float(query.max_tokens))
        return Prediction(mean, max(p90, mean), "prior")

    def ended(self, *, output_tokens: int, answers: int, events: int) -> None:
        """A request ended with so many tokens over all its answers; `events` 0: not streamed."""
        self._answer_tokens *= _KEEP
        self._answer_tokens += (1 - _KEEP) * output_tokens / max(answers, 1)
        if events:
            self._tokens = self._tokens * _KEEP + output_tokens
            self._events = self._events * _KEEP + events
