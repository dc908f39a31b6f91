"""Past-Future: the future of an answer is drawn from the past's lengths, no predictor needed."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from llmservice_sidecar.core.admission.budget import fits
from llmservice_sidecar.core.draw import uniform
from llmservice_sidecar.core.request import Request
from llmservice_sidecar.core.rules import Running
from llmservice_sidecar.core.window import SortedWindow

WINDOW_ANSWERS: Final = 1000


class LengthHistory:
    """Output tokens of the last 1,000 complete answers."""

    def __init__(self) -> None:
        self._recent = SortedWindow(size=WINDOW_ANSWERS)

    def observe(self, output_tokens: int) -> None:
        """An answer is complete."""
        self._recent.add(output_tokens)

    def quantile(self, share: float, *, above: float = 0.0) -> float | None:
        """The `share` quantile (below 1) of the lengths beyond `above`; None if there is none."""
        lengths = self._recent.ascending
        first = bisect_right(lengths, above)
        if first == len(lengths):
            return None
        return float(lengths[first + int(share * (len(lengths) - first))])


class PastFutureRule:
    """Admits while max_i(left_i x i + sum_{j<=i} used_j) <= capacity (arXiv 2507.10150).

    The length of an answer that has g tokens is drawn from the past lengths above g, so the
    forecast is corrected with every token. What is drawn for a request is its quantile, once and
    for all, where they draw anew at each step. Before the past says anything, the prediction does.
    """

    def __init__(self, *, capacity_tokens: float = math.inf, history: LengthHistory) -> None:
        self._capacity_tokens = capacity_tokens
        self._history = history

    def admits(self, request: Request, running: Sequence[Running]) -> bool:
        return fits(request, running, left=self._left, capacity_tokens=self._capacity_tokens)

    def _left(self, request: Request, generated: float) -> float:
        done = request.generated_tokens + generated
        length = self._history.quantile(uniform(request.id), above=done)
        if length is None:
            return request.predicted_tokens / request.slots - generated
        bound = math.inf if request.max_tokens is None else float(request.max_tokens)
        return min(length - done, bound)
