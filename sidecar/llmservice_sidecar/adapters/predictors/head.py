"""What one served model (or adapter) adds to the shipped model: learned from its own requests.

Two regressions of log length, one on the description's dense vector (which starts as the shipped
model's guess) and one on word n-grams (which starts ignorant and soon knows the service's
templates), and a third that learns how far to trust each. All slowly forget, and at once when the
world has changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from llmservice_sidecar.adapters.predictors.base import DENSE, Description
from llmservice_sidecar.adapters.predictors.calibration import Calibration
from llmservice_sidecar.adapters.predictors.features import HASHED, Vector
from llmservice_sidecar.adapters.predictors.regression import (
    DenseRegression,
    Evidence,
    HashedRegression,
)

TYPICAL: Final = 5.0  # log tokens: about 150
INPUTS: Final = DENSE + 2  # the description, the shipped guess, a constant
DENSE_PRIOR: Final = 0.002  # variance of a weight before any evidence
GUESS_PRIOR: Final = 0.25
BIAS_PRIOR: Final = 1.0
HASHED_PRIOR: Final = 0.25
MIX: Final = (0.5, 0.5, 0.0, 0.0)  # dense, hashed, shipped guess, constant
MIX_PRIOR: Final = (0.05, 0.05, 0.05, 0.2)
TRUST_AFTER: Final = 20.0  # outcomes after which the mixture counts as much as the start
FORGET_EVERY: Final = 1024  # outcomes
FORGET: Final = 0.96  # of the evidence stays: half after 17,000 outcomes
DEVIATIONS: Final = (0.1, 2.0)  # bounds of the predicted spread
LOG_ABS_NORMAL: Final = -0.635  # mean of ln|z| for normal z
SPREAD_PACE: Final = 0.1  # one error tells little of the spread; in haste it spoils the ranks
LONGEST_LOG: Final = 14.0  # e^14: over a million tokens
LARGEST_Z2: Final = 9.0
FAST: Final = 1.0 / 48.0
SLOW: Final = 1.0 / 512.0
SURPRISE_BOUND: Final = 1.8  # recent squared errors over usual ones: the world has changed
SETTLED: Final = 64  # outcomes before surprise means anything
TOLD_NOTHING: Final = 0.75  # a cut answer that was that likely to go on teaches nothing
LEAST_SURVIVAL: Final = 1e-6
GOLDEN: Final = 0.6180339887498949  # multiples modulo 1 fill (0, 1) evenly, in any process
INHERITED: Final = ""  # in place of a peer's name: an earlier process

_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A distribution of ln(output tokens): mean and standard deviation."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Lesson:
    """All that a head learned from its requests, for other replicas and for restarts."""

    samples: int
    dense: Evidence
    hashed: Evidence
    mix: Evidence
    errors: Vector  # recent, standardised
    totals: Vector  # tokens predicted in the mean, tokens that came

    def parts(self) -> tuple[Evidence, Evidence, Evidence]:
        """Evidence in the order of `Head.regressions`."""
        return self.dense, self.hashed, self.mix

    def plus(self, other: Lesson) -> Lesson:
        """Both together."""
        dense, hashed, mix = (
            mine.plus(its) for mine, its in zip(self.parts(), other.parts(), strict=True)
        )
        errors = np.concatenate((other.errors, self.errors))
        totals = self.totals + other.totals
        return Lesson(self.samples + other.samples, dense, hashed, mix, errors, totals)

    def times(self, factor: float) -> Lesson:
        """As if told by that share (0..1) of the samples."""
        dense, hashed, mix = (part.times(factor) for part in self.parts())
        samples = round(self.samples * factor)
        return Lesson(samples, dense, hashed, mix, self.errors, self.totals * factor)


@dataclass(frozen=True, slots=True)
class _Views:
    """One description as the regressions see it, and what each says."""

    x: Vector
    mix: Vector
    dense: float
    hashed: float
    estimate: Estimate


class Head:
    """Learns log lengths of one served model. Deterministic, not thread-safe."""

    def __init__(self) -> None:
        dense = np.zeros((INPUTS, 2))  # targets: log tokens, log of the spread's correction
        dense[-2, 0] = 1.0
        dense[-1, 0] = TYPICAL
        variance = np.full(INPUTS, DENSE_PRIOR)
        variance[-2:] = GUESS_PRIOR, BIAS_PRIOR
        self.dense = DenseRegression(dense, variance)
        hashed, prior = np.zeros(HASHED + 1), np.full(HASHED + 1, HASHED_PRIOR)
        hashed[-1], prior[-1] = TYPICAL, BIAS_PRIOR
        self.hashed = HashedRegression(hashed, prior)
        self.mix = DenseRegression(np.array(MIX)[:, None], np.array(MIX_PRIOR))
        self.calibration = Calibration()
        self.samples = 0  # own outcomes
        self.since_restart = 0
        self.believed = 0.0  # outcomes, before the restart or of another model, that the prior has
        self.surprise = (1.0, 1.0)  # squared standardised errors: recent mean, usual mean
        self._peers: dict[str, Lesson] = {}

    @property
    def regressions(self) -> tuple[DenseRegression, HashedRegression, DenseRegression]:
        """What learns, in the order of `Lesson.parts`."""
        return self.dense, self.hashed, self.mix

    def estimate(self, description: Description) -> Estimate:
        """The distribution of the answer's log length."""
        return self._views(description).estimate

    def learn(self, description: Description, *, log_tokens: float, censored: bool) -> None:
        """One outcome; `censored`: the answer was cut at that length."""
        views = self._views(description)
        before = views.estimate
        target: float | None = min(log_tokens, LONGEST_LOG)
        error = target
        if censored:
            target = expected_beyond(before, log_tokens)
            if target is None:
                return
            # Expectations alone would make the tail of the errors too thin: draw from it.
            error = drawn_beyond(before, log_tokens, level=(self.samples * GOLDEN) % 1.0)
        z = (error - before.mean) / before.deviation
        self._adjust(views, description, target=target, error=error)
        self.calibration.learn(z, log_tokens=before.mean, deviation=before.deviation)
        self.samples += 1
        self.since_restart += 1
        if self._surprised(z):
            self.restart()
        elif self.since_restart % FORGET_EVERY == 0:
            self._forget()

    def restart(self) -> None:
        """A new world: what is believed stays until told otherwise, but nothing is sure any more.

        Other replicas' evidence goes too: it is about the old world until they say so again.
        """
        self.believed = self._known()
        self._peers.clear()
        for regression in self.regressions:
            regression.restart(regression.weights)
        self.calibration.restart()
        usual = self.surprise[1]  # kept: where errors are wild, wild errors are no news
        self.surprise = (usual, usual)
        self.since_restart = 0

    def start_like(self, other: Head) -> None:
        """Believe what a head of another model believes, as unsure as a new one."""
        for mine, theirs in zip(self.regressions, other.regressions, strict=True):
            mine.restart(theirs.weights)
        self.believed = other._known()

    def lesson(self) -> Lesson:
        """What its own requests taught it: all that it knows less what peers told it."""
        dense, hashed, mix = (regression.evidence() for regression in self.regressions)
        for told in self._peers.values():
            dense, hashed, mix = (
                mine.minus(its)
                for mine, its in zip((dense, hashed, mix), told.parts(), strict=True)
            )
        errors, totals = self.calibration.recent(), self.calibration.totals
        return Lesson(self.since_restart, dense, hashed, mix, errors, totals)

    def absorb(self, peer: str, lesson: Lesson | None) -> None:
        """Another replica's lesson in place of its last one; None: forget that replica.

        Raises ValueError, with nothing changed, if the sum cannot be believed.
        """
        sums = [regression.evidence() for regression in self.regressions]
        last = self._peers.get(peer)
        if last is not None:
            sums = [mine.minus(its) for mine, its in zip(sums, last.parts(), strict=True)]
        if lesson is not None:
            sums = [mine.plus(its) for mine, its in zip(sums, lesson.parts(), strict=True)]
        self._believe(sums)
        self._peers.pop(peer, None)
        if lesson is not None:
            self._peers[peer] = lesson
        errors = np.zeros(0) if lesson is None else lesson.errors
        self.calibration.absorb(peer, errors, np.zeros(2) if lesson is None else lesson.totals)

    def restore(self, lesson: Lesson) -> None:
        """Believe a lesson as its own, as after a restart of the process. Raises ValueError."""
        self._believe(lesson.parts())
        self.samples = self.since_restart = lesson.samples
        self.calibration.restore(lesson.errors, lesson.totals)

    def told_by(self, peer: str) -> Lesson | None:
        """What a replica told, as far as it is not forgotten."""
        return self._peers.get(peer)

    def check(self, parts: Sequence[Evidence]) -> None:
        """Raises ValueError if evidence, in the order of `regressions`, cannot be believed."""
        for regression, evidence in zip(self.regressions, parts, strict=True):
            regression.check(evidence)

    def _believe(self, parts: Sequence[Evidence]) -> None:
        self.check(parts)  # all or none
        for regression, evidence in zip(self.regressions, parts, strict=True):
            regression.believe(evidence)

    def _views(self, description: Description) -> _Views:
        x = np.concatenate((description.dense, (description.log_tokens - TYPICAL, 1.0)))
        dense, correction = map(float, self.dense.predict(x))
        hashed = self.hashed.predict(description.bins, description.values)
        guess = description.log_tokens
        mix = np.array((dense - TYPICAL, hashed - TYPICAL, guess - TYPICAL, 1.0))
        known = self._known()
        trust = known / (known + TRUST_AFTER)
        mean = (1.0 - trust) * dense + trust * (TYPICAL + float(self.mix.predict(mix)[0]))
        low, high = DEVIATIONS
        deviation = max(low, min(description.log_deviation * math.exp(min(correction, 3.0)), high))
        estimate = Estimate(max(-1.0, min(mean, LONGEST_LOG)), deviation)
        return _Views(x, mix, dense, hashed, estimate)

    def _known(self) -> float:
        """Outcomes that its beliefs rest on, whoever saw them."""
        told = sum(lesson.samples for lesson in self._peers.values())
        return self.believed + self.since_restart + told

    def _adjust(
        self, views: _Views, description: Description, *, target: float, error: float
    ) -> None:
        """Each part learns from what it had said itself."""
        off = abs(error - views.estimate.mean) + 0.02
        correction = SPREAD_PACE * (math.log(off / views.estimate.deviation) - LOG_ABS_NORMAL)
        self.mix.learn(views.mix, np.array([target - TYPICAL - self.mix.predict(views.mix)[0]]))
        self.hashed.learn(description.bins, description.values, target - views.hashed)
        self.dense.learn(views.x, np.array((target - views.dense, correction)))

    def _surprised(self, z: float) -> bool:
        square = min(z * z, LARGEST_Z2)
        recent, usual = self.surprise
        recent += FAST * (square - recent)
        usual += SLOW * (square - usual)
        self.surprise = (recent, usual)
        return self.since_restart >= SETTLED and recent > SURPRISE_BOUND * max(usual, 0.5)

    def _forget(self) -> None:
        for regression in self.regressions:
            regression.believe(regression.evidence().times(FORGET))
        self._peers = {name: told.times(FORGET) for name, told in self._peers.items()}


def expected_beyond(before: Estimate, log_cut: float) -> float | None:
    """The log length to learn from an answer that was cut: its expectation given that it went on.

    None when the cut tells nothing: so early that nearly any answer would have gone on.
    """
    z = (log_cut - before.mean) / before.deviation
    going_on = 1.0 - _NORMAL.cdf(z)
    if going_on > TOLD_NOTHING:
        return None
    if going_on < LEAST_SURVIVAL:
        return min(log_cut, LONGEST_LOG)
    return min(before.mean + before.deviation * _NORMAL.pdf(z) / going_on, LONGEST_LOG)


def drawn_beyond(before: Estimate, log_cut: float, *, level: float) -> float:
    """The quantile `level` (0..1) of the log length of an answer that was cut but went on."""
    going_on = 1.0 - _NORMAL.cdf((log_cut - before.mean) / before.deviation)
    if going_on < LEAST_SURVIVAL:
        return min(log_cut, LONGEST_LOG)
    share = max(LEAST_SURVIVAL / 2.0, (1.0 - level) * going_on)
    return min(before.mean + before.deviation * _NORMAL.inv_cdf(1.0 - share), LONGEST_LOG)
