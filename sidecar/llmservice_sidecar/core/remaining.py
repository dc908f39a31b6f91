"""How much is to come of an answer that has so many tokens already?

A length is taken as Weibull with the predicted mean and p90, so the remainder follows from having
come so far. Standard library only; nothing here knows slots or requests.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from llmservice_sidecar.core.request import Prediction

# A Weibull length has p90 / mean - 1 close to this over its shape (within 10 % from 0.7 to 20):
# shape 1 is exponential, where what is left never changes; a large one is a sharp end.
SHAPE_PER_SPREAD: Final = 1.3
LEAST_SHAPE: Final = 0.6
SHARP: Final = 20.0  # from here on a length is taken as certain
# Who outlives its p90 is of a heavier tail than was predicted: the remainder grows with the age.
LEFT_PER_GENERATED: Final = 0.25
LEAST_LEFT: Final = 1.0  # token: who still runs has one to come
OLDEST: Final = 1e6  # scales: beyond it powers overflow, and a quarter of the age is more anyway
TERMS: Final = 60


class Length(NamedTuple):
    """Output tokens of an answer: P(length > x) = exp(-(x / scale)^shape), with its mean and p90.

    The p90 is the predicted one: that of the Weibull is near it for shapes from 0.7 to 20.
    """

    mean: float
    upper: float
    shape: float
    scale: float

    @property
    def is_sharp(self) -> bool:
        """So little spread that it is taken as certain."""
        return self.shape >= SHARP

    def mean_left(self, generated: float) -> float:
        """Mean of length - generated over the lengths beyond it: a mean residual life.

        (scale / shape) e^x Gamma(1 / shape, x) with x = (generated / scale)^shape, from the
        integral of the survival function; its own mean for generated = 0.
        """
        x = self._past(generated)
        return self.scale / self.shape * _scaled_gamma(1 / self.shape, x)

    def quantile_left(self, share: float, generated: float) -> float:
        """The `share` quantile (in [0, 1)) of length - generated over the lengths beyond it."""
        past = self._past(generated)
        length = self.scale * (past - math.log1p(-share)) ** (1 / self.shape)
        return max(length - generated, 0.0)

    def _past(self, generated: float) -> float:
        return min(generated / self.scale, OLDEST) ** self.shape


def length_of(*, mean: float, p90: float) -> Length:
    """The Weibull of a mean above 0 and a p90; whatever is no bound above the mean is no spread."""
    upper = max(p90, mean) if math.isfinite(p90) else mean
    spread = upper / mean - 1
    shape = min(max(SHAPE_PER_SPREAD / spread, LEAST_SHAPE), SHARP) if spread > 0 else SHARP
    return Length(mean, upper, shape, scale=mean / math.gamma(1 + 1 / shape))


def remaining(prediction: Prediction, generated_tokens: float) -> Prediction:
    """The prediction of the tokens still to come, of an answer that has `generated_tokens`.

    Of the mean and p90 alone; the median of the remainder comes with it. A certain length (p90 at
    the mean) goes down to its end. Beyond the p90 the remainder is at least exponential with a
    quarter of the age as its mean. At least one token is to come. Before the first token, and where
    the predicted mean is no positive number, the prediction stays as it is.

    Raises ValueError for `generated_tokens` below 0 or not finite.
    """
    if not 0 <= generated_tokens < math.inf:
        raise ValueError(f"generated_tokens is {generated_tokens}, must be finite and 0 or more")
    mean = prediction.output_tokens
    if not generated_tokens or not 0 < mean < math.inf:
        return prediction
    length = length_of(mean=mean, p90=prediction.p90_tokens)
    if generated_tokens > length.upper:
        left = _outlived(length, generated_tokens)
    elif length.is_sharp:
        left = (mean - generated_tokens,) * 3
    else:
        left = _left(length, generated_tokens)
    average, median, upper = (max(tokens, LEAST_LEFT) for tokens in left)
    return Prediction(average, upper, prediction.source, p50_tokens=median)


def _left(length: Length, generated: float) -> tuple[float, float, float]:
    """Mean, median and p90 of what is left."""
    return (
        length.mean_left(generated),
        length.quantile_left(0.5, generated),
        length.quantile_left(0.9, generated),
    )


def _outlived(length: Length, generated: float) -> tuple[float, float, float]:
    """The same beyond the p90: never less than a quarter of the age makes it."""
    mean = LEFT_PER_GENERATED * generated
    exponential = (mean, mean * math.log(2), mean * math.log(10))
    average, median, upper = map(max, exponential, _left(length, generated))
    return average, median, upper


def _scaled_gamma(s: float, x: float) -> float:
    """e^x Gamma(s, x), the upper incomplete gamma function, for s in (0, 2) and x >= 0.

    By the series of the lower one for small x, else by Legendre's continued fraction from its tail
    (Abramowitz and Stegun 6.5.29 and 6.5.31), with terms enough for all digits.
    """
    if x < s + 1:
        term = total = 1 / s
        for n in range(1, TERMS):
            term *= x / (s + n)
            total += term
        return math.exp(x) * math.gamma(s) - x**s * total
    fraction = 0.0
    for n in range(TERMS, 0, -1):
        fraction = n * (n - s) / (x + 2 * n + 1 - s - fraction)
    return x**s / (x + 1 - s - fraction)
