"""Admit while what runs will fit into the engine's KV cache, by what is known of its lengths.

Beyond it the engine preempts and computes again what it had. The rule knows tokens, never slots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from llmservice_sidecar.core.remaining import LEFT_PER_GENERATED, SHARP, length_of
from llmservice_sidecar.core.request import Request
from llmservice_sidecar.core.rules import Running

DEVIATIONS: Final = 0.5
MOMENTS: Final = 4
DECAY_PER_COMPLETION: Final = 1 / 256
MIN_COMPLETIONS: Final = 8


class KvForecast:
    """Admits while the tokens held are expected to stay within the capacity at every later moment.

    A request holds prompt + generated + t tokens after t more steps if it still runs then, and
    nothing once it has ended. P_i(t) is the probability that it still runs, by its predicted mean
    and p90 and given how far it has come. The tokens held have the mean M(t) = sum_i P_i (used_i +
    t) and the variance V(t) = sum_i P_i (1 - P_i) (used_i + t)^2: admits while M + `deviations` x
    sqrt(V) <= capacity x (1 - `margin`) for all t. With certain lengths the largest M is the peak
    of `core.admission.memory`.

    Half a deviation by default: an idle cache costs more than a preemption now and then. SSJF on
    four workloads, 32 slots, cache for 60 % and 80 % of them, load 0.9, tau 0.6, against no rule:
    mean end-to-end 0.82 to 1.03 times, p99 of the time per token 0.5 to 1.0, preemptions 0.54 to
    0.84 where there are more than a handful. With 1.28 the mean was 1.5 times as long (chat), and
    with that peak of mean remainders and the joint spread of all p90 on top seven times.

    Predictions are scaled by what finished requests have really produced, so a predictor's constant
    bias cancels. A request that finds nothing running is always admitted: if it does not fit alone,
    only the engine can say so.
    """

    def __init__(
        self,
        *,
        capacity_tokens: int | None = None,
        margin: float = 0.0,
        deviations: float = DEVIATIONS,
    ) -> None:
        if not 0 <= margin < 1:
            raise ValueError(f"margin is {margin}, must be in [0, 1)")
        if not 0 <= deviations < math.inf:
            raise ValueError(f"deviations is {deviations}, must be 0 or more")
        self._margin = margin
        self._deviations = deviations
        self.capacity_tokens = capacity_tokens  # None: not known, admits everything
        self._blocked = False
        self._completions = 0
        self._actual_tokens = 0.0
        self._predicted_tokens = 0.0

    @property
    def blocked(self) -> bool:
        """The last request asked for was refused."""
        return self._blocked

    @property
    def bias(self) -> float:
        """Actual over predicted tokens of finished requests; 1 before enough have finished."""
        if self._completions < MIN_COMPLETIONS or self._predicted_tokens <= 0:
            return 1.0
        return self._actual_tokens / self._predicted_tokens

    def observe(self, request: Request, *, output_tokens: int) -> None:
        """A request is complete with so many tokens over all its answers."""
        keep = 1 - DECAY_PER_COMPLETION
        self._actual_tokens = self._actual_tokens * keep + output_tokens
        self._predicted_tokens = self._predicted_tokens * keep + request.predicted_tokens
        self._completions += 1

    def admits(self, request: Request, running: Sequence[Running]) -> bool:
        """Would all of them still fit, whenever they need the most? O(n)."""
        if self.capacity_tokens is None or not running:
            self._blocked = False
            return True
        budget = self.capacity_tokens * (1 - self._margin)
        bias = self.bias
        if _most(request, running, bias=bias) * (1 + self._deviations) <= budget:
            self._blocked = False
            return True
        shares = [_share(request, 0, bias=bias)]
        shares += [_share(item.request, item.generated, bias=bias) for item in running]
        self._blocked = any(
            _held(shares, steps, deviations=self._deviations) > budget for steps in _moments(shares)
        )
        return not self._blocked


def _most(request: Request, running: Sequence[Running], *, bias: float) -> float:
    """Above every M(t) and sqrt(V(t)): t P(t) is at most the mean of what is left, two means."""
    held = request.prompt_tokens + request.generated_tokens
    predicted = request.predicted_tokens
    for item in running:
        of = item.request
        held += of.prompt_tokens + of.generated_tokens
        held += (1 + LEFT_PER_GENERATED) * item.generated
        predicted += of.predicted_tokens
    return held + 2 * bias * predicted


@dataclass(frozen=True, slots=True)
class _Share:
    """What a request holds, and how its remainder is distributed: Weibull, cut at `bound`."""

    used: int
    sequences: int
    done: float  # of each sequence
    left: float  # about the mean of what is to come
    scale: float
    shape: float
    bound: float

    def runs_after(self, steps: float) -> float:
        """The probability that it still runs after so many more steps."""
        if steps > self.bound:
            return 0.0
        if self.shape >= SHARP:
            return 1.0 if steps <= self.left else 0.0
        past = (self.done / self.scale) ** self.shape
        return math.exp(past - ((self.done + steps) / self.scale) ** self.shape)


def _share(request: Request, generated: int, *, bias: float) -> _Share:
    done = generated / request.slots
    mean = request.predicted_tokens / request.slots * bias  # finite, whatever was predicted
    length = length_of(mean=mean, p90=request.prediction.p90_tokens * bias)
    shape, scale = length.shape, length.scale
    left = mean - done if length.is_sharp else max(mean - done, mean / shape / 2)
    if done > length.upper:
        left = scale = LEFT_PER_GENERATED * done
        shape = 1.0
    bound = math.inf if request.max_tokens is None else max(request.max_tokens - done, 0.0)
    return _Share(
        used=request.prompt_tokens + request.generated_tokens + generated,
        sequences=request.slots,
        done=done,
        left=min(left, bound),
        scale=scale,
        shape=shape,
        bound=bound,
    )


def _moments(shares: Sequence[_Share]) -> list[float]:
    """When to look: now, when some of them are expected to end, and half way there."""
    ends = sorted(share.left for share in shares)
    last = len(ends) - 1
    picked = {ends[last - last * i // MOMENTS] for i in range(MOMENTS + 1)}
    return [0.0, *picked, *(end / 2 for end in picked)]


def _held(shares: Sequence[_Share], steps: float, *, deviations: float) -> float:
    mean = variance = 0.0
    for share in shares:
        p = share.runs_after(steps)
        held = share.used + steps * share.sequences
        mean += p * held
        variance += p * (1 - p) * held * held
    return mean + deviations * math.sqrt(variance)
