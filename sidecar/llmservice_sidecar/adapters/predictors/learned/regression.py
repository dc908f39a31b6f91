"""Linear regressions that learn from one sample at a time, and whose evidence can be added up.

Both are Gaussian beliefs about weights (recursive least squares, the Kalman filter of a constant):
a prior and evidence. The evidence of two replicas that saw different requests is the sum of theirs,
in information form: precision (sum of x x' / noise) and shift (sum of x y / noise).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from llmservice_sidecar.adapters.predictors.shipped.features import Indices, Vector

NOISE: Final = 0.5  # variance of log tokens that no weight explains; one value, so evidence adds up
OUTLIER: Final = 3.0  # standard deviations: one absurd answer moves the weights no further
LEAST_VARIANCE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Evidence:
    """What samples told: precision and shift. Full (n x n, n x targets) or diagonal (n, n)."""

    precision: Vector
    shift: Vector

    def times(self, factor: float) -> Evidence:
        """The same evidence, more (above 1) or less believed."""
        return Evidence(self.precision * factor, self.shift * factor)

    def plus(self, other: Evidence) -> Evidence:
        """Both together."""
        return Evidence(self.precision + other.precision, self.shift + other.shift)

    def minus(self, other: Evidence) -> Evidence:
        """Without `other`, which must be part of it."""
        return Evidence(self.precision - other.precision, self.shift - other.shift)


class DenseRegression:
    """A few hundred related inputs: full covariance, one or more targets of the same inputs."""

    def __init__(self, mean: Vector, variance: Vector) -> None:
        """The prior: weights of shape (inputs, targets) and a variance per input."""
        self.variance = variance
        self.restart(mean)

    def restart(self, mean: Vector) -> None:
        """Forget how sure it was, with `mean` as what to believe until told otherwise."""
        self.mean = mean.copy()
        self.weights = mean.copy()
        self.covariance: Vector = np.diag(self.variance)

    def predict(self, x: Vector) -> Vector:
        """The targets for one input vector."""
        return x @ self.weights

    def learn(self, x: Vector, errors: Vector) -> None:
        """Targets minus what `predict` said of the same input."""
        gain: Vector = self.covariance @ x
        total = NOISE + float(x @ gain)
        reach = OUTLIER * float(np.sqrt(total))
        self.weights += np.outer(gain, np.clip(errors, -reach, reach) / total)
        self.covariance -= np.outer(gain, gain / total)

    def evidence(self) -> Evidence:
        """What it has learned, without the prior."""
        precision = np.linalg.inv(self.covariance)
        shift = precision @ self.weights - self.mean / self.variance[:, None]
        precision = (precision + precision.T) / 2.0
        precision[np.diag_indices_from(precision)] -= 1.0 / self.variance
        return Evidence(precision, shift)

    def believe(self, evidence: Evidence) -> None:
        """The prior and this evidence, nothing else. Raises ValueError if it is impossible."""
        covariance = np.linalg.inv(self._precision(evidence))
        self.covariance = (covariance + covariance.T) / 2.0
        self.weights = self.covariance @ (evidence.shift + self.mean / self.variance[:, None])

    def check(self, evidence: Evidence) -> None:
        """Raises ValueError if `believe` would."""
        self._precision(evidence)

    def _precision(self, evidence: Evidence) -> Vector:
        """That of the prior and this evidence. Raises ValueError if it is not positive."""
        precision = evidence.precision + np.diag(1.0 / self.variance)
        try:
            np.linalg.cholesky(precision)
        except np.linalg.LinAlgError as error:
            raise ValueError("evidence with a precision that is not positive") from error
        return precision


class HashedRegression:
    """Thousands of nearly unrelated inputs, few of them not zero: diagonal covariance, a bias."""

    def __init__(self, mean: Vector, variance: Vector) -> None:
        """The prior: a weight and a variance per bin; the last one is the bias."""
        self.prior = variance
        self.restart(mean)

    def restart(self, mean: Vector) -> None:
        """Forget how sure it was, with `mean` as what to believe until told otherwise."""
        self.mean = mean.copy()
        self.weights = mean.copy()
        self.variance = self.prior.copy()

    def predict(self, bins: Indices, values: Vector) -> float:
        """The target for the inputs `values` in distinct `bins`."""
        return float(values @ self.weights[bins] + self.weights[-1])

    def learn(self, bins: Indices, values: Vector, error: float) -> None:
        """The target minus what `predict` said of the same inputs."""
        gain = self.variance[bins] * values
        bias_gain = float(self.variance[-1])
        total = NOISE + float(gain @ values) + bias_gain
        reach = OUTLIER * total**0.5
        step = max(-reach, min(reach, error)) / total
        self.weights[bins] += gain * step
        self.weights[-1] += bias_gain * step
        self.variance[bins] -= gain**2 / total
        self.variance[-1] -= bias_gain**2 / total

    def evidence(self) -> Evidence:
        """What it has learned, without the prior."""
        precision = 1.0 / np.maximum(self.variance, LEAST_VARIANCE)
        shift = precision * self.weights - self.mean / self.prior
        return Evidence(precision - 1.0 / self.prior, shift)

    def believe(self, evidence: Evidence) -> None:
        """The prior and this evidence, nothing else. Raises ValueError if it is impossible."""
        self.check(evidence)
        self.variance = 1.0 / (evidence.precision + 1.0 / self.prior)
        self.weights = (evidence.shift + self.mean / self.prior) * self.variance

    def check(self, evidence: Evidence) -> None:
        """Raises ValueError if `believe` would."""
        if not (evidence.precision + 1.0 / self.prior > 0.0).all():
            raise ValueError("evidence with a precision that is not positive")
