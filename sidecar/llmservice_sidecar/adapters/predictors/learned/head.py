"""What one served model (or adapter) adds to the shipped model: learned from its own requests.

Two regressions of log length, one on the description's dense vector (which starts as the shipped
model's guess) and one on word n-grams (which starts ignorant and soon knows the service's
templates), and a third that learns how far to trust each. All slowly forget, and at once when the
world has changed.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from llmservice_sidecar.adapters.predictors.learned.calibration import COLUMNS, Calibration, Kind
from llmservice_sidecar.adapters.predictors.learned.drift import Drift
from llmservice_sidecar.adapters.predictors.learned.estimate import (
    LONGEST_LOG,
    Estimate,
    drawn_beyond,
    expected_beyond,
)
from llmservice_sidecar.adapters.predictors.learned.lesson import (
    DENSE_START,
    FORGET,
    FORGET_EVERY,
    HASHED_START,
    MIX_START,
    TYPICAL,
    Lesson,
)
from llmservice_sidecar.adapters.predictors.learned.packing import Packed, pack
from llmservice_sidecar.adapters.predictors.learned.regression import (
    DenseRegression,
    Evidence,
    HashedRegression,
)
from llmservice_sidecar.adapters.predictors.learned.told import Told
from llmservice_sidecar.adapters.predictors.learned.turns import finish
from llmservice_sidecar.adapters.predictors.shipped.base import Description
from llmservice_sidecar.adapters.predictors.shipped.features import Vector

TRUST_AFTER: Final = 20.0  # outcomes after which the mixture counts as much as the start
DEVIATIONS: Final = (0.1, 2.0)  # bounds of the predicted spread
WITHIN: Final = 0.8  # of the shipped spread is one model's own; the rest is how models differ
LEVEL_AFTER: Final = 2.0  # outcomes after which half of that rest, as variance, is gone
LOG_ABS_NORMAL: Final = -0.635  # mean of ln|z| for normal z
SPREAD_PACE: Final = 0.1  # one error tells little of the spread; in haste it spoils the ranks
GOLDEN: Final = 0.6180339887498949  # multiples modulo 1 fill (0, 1) evenly, in any process


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
        self.dense = DenseRegression(DENSE_START.mean, DENSE_START.variance)
        self.hashed = HashedRegression(HASHED_START.mean, HASHED_START.variance)
        self.mix = DenseRegression(MIX_START.mean, MIX_START.variance)
        self.calibration = Calibration()
        self.samples = 0  # own outcomes
        self.outlived = 0  # inherited outcomes of an earlier world
        self.since_restart = 0
        self.believed = 0.0  # outcomes, before the restart or of another model, that the prior has
        self.drift = Drift()
        self.epoch = 0  # restarts
        self.told = Told()
        self._packed: tuple[tuple[int, int], Packed] | None = None

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
        self.calibration.learn(
            z, log_tokens=before.mean, deviation=before.deviation, kind=Kind.of(description)
        )
        self.samples += 1
        self.since_restart += 1
        if self.drift.noticed(z, outcomes=self.since_restart):
            self.restart()
        elif self.since_restart % FORGET_EVERY == 0:
            self._forget()

    def restart(self) -> None:
        """A new world: what is believed stays until told otherwise, but nothing is sure any more.

        Other replicas' evidence goes too: it is about the old world.
        """
        self.believed = self._known()
        self.outlived = self.experience - self.samples
        self.epoch += 1
        self.told.restart(outcomes=self.samples)
        for regression in self.regressions:
            regression.restart(regression.weights)
        self.calibration.restart()
        self.drift.restart()
        self.since_restart = 0

    def start_like(self, other: Head) -> None:
        """Believe what a head of another model believes, as unsure as a new one."""
        for mine, theirs in zip(self.regressions, other.regressions, strict=True):
            mine.restart(theirs.weights)
        self.calibration.assume(other.calibration.typical())
        self.believed = other._known()

    def lesson(self) -> Lesson:
        """What its own requests taught it: all that it knows less what peers told it."""
        dense, hashed, mix = self._own()
        found = self.calibration
        return Lesson(
            samples=self.since_restart,
            epoch=self.epoch,
            dense=dense,
            hashed=hashed,
            mix=mix,
            errors=found.recent(),
            offsets=found.offsets,
            totals=found.totals,
        )

    def packed(self) -> Packed:
        """Its lesson in few bytes; the same as long as nothing was learned."""
        state = self.samples, self.epoch
        if self._packed is None or self._packed[0] != state:
            self._packed = state, pack(self.lesson())
        return self._packed[1]

    def absorb(self, told: Mapping[str, Packed | None]) -> None:
        """Lessons of other replicas in place of their last ones; None: forget that replica.

        Raises ValueError, with nothing changed, if the sum cannot be believed.
        """
        finish(self.absorbing(told))

    def absorbing(self, told: Mapping[str, Packed | None]) -> Generator[None]:
        """`absorb` in steps of some milliseconds, between which anything else may happen."""
        merged = yield from self.told.merging(told)
        if merged is None:
            return
        parts = self._own()
        if merged.sums is not None:
            parts = [mine.plus(its) for mine, its in zip(parts, merged.sums, strict=True)]
        self._believe(parts)
        self.told.replace(merged, outcomes=self.samples)
        said = {teller: merged.lessons.get(teller) for teller in merged.news}
        nothing = np.zeros((0, COLUMNS)), np.zeros(2)
        self.calibration.absorb(
            {
                teller: nothing if lesson is None else (lesson.errors, lesson.totals)
                for teller, lesson in said.items()
            }
        )

    def restore(self, lesson: Lesson) -> None:
        """Believe a lesson as its own, as after a restart of the process. Raises ValueError."""
        self._believe(lesson.parts)
        self.samples = self.since_restart = lesson.samples
        self.epoch = lesson.epoch
        self.calibration.restore(lesson.errors, totals=lesson.totals, offsets=lesson.offsets)

    @property
    def experience(self) -> int:
        """Outcomes that went into what a successor would inherit."""
        inherited = sum(packed.samples for packed in self.told.inherited.values())
        return self.samples + self.outlived + inherited

    def _own(self) -> list[Evidence]:
        parts = [regression.evidence() for regression in self.regressions]
        if self.told.sums is None:
            return parts
        return [mine.minus(its) for mine, its in zip(parts, self.told.sums, strict=True)]

    def _believe(self, parts: Sequence[Evidence]) -> None:
        for regression, evidence in zip(self.regressions, parts, strict=True):
            regression.check(evidence)  # all or none
        for regression, evidence in zip(self.regressions, parts, strict=True):
            regression.believe(evidence)

    def _views(self, description: Description) -> _Views:
        rest = (description.log_tokens - TYPICAL, 1.0)
        x = np.concatenate((description.dense, description.cues, rest))
        dense, correction = map(float, self.dense.predict(x))
        hashed = self.hashed.predict(description.bins, description.values)
        guess = description.log_tokens
        mix = np.array((dense - TYPICAL, hashed - TYPICAL, guess - TYPICAL, 1.0))
        known = self._known()
        trust = known / (known + TRUST_AFTER)
        mean = (1.0 - trust) * dense + trust * (TYPICAL + float(self.mix.predict(mix)[0]))
        low, high = DEVIATIONS
        spread = description.log_deviation * self._narrowed() * math.exp(min(correction, 3.0))
        deviation = max(low, min(spread, high))
        estimate = Estimate(max(-1.0, min(mean, LONGEST_LOG)), deviation)
        return _Views(x, mix, dense, hashed, estimate)

    def _known(self) -> float:
        """Outcomes that its beliefs rest on, whoever saw them."""
        return self.believed + self._heard()

    def _heard(self) -> float:
        """Outcomes of this model in this world, whoever saw them."""
        return self.since_restart + self.told.outcomes

    def _narrowed(self) -> float:
        """Share of the shipped spread that is left when so much is known of the model's level."""
        level = LEVEL_AFTER / (LEVEL_AFTER + self._heard())
        return math.sqrt(WITHIN**2 + (1.0 - WITHIN**2) * level)

    def _adjust(
        self, views: _Views, description: Description, *, target: float, error: float
    ) -> None:
        """Each part learns from what it had said itself."""
        off = abs(error - views.estimate.mean) + 0.02
        correction = SPREAD_PACE * (math.log(off / views.estimate.deviation) - LOG_ABS_NORMAL)
        self.mix.learn(views.mix, np.array([target - TYPICAL - self.mix.predict(views.mix)[0]]))
        self.hashed.learn(description.bins, description.values, target - views.hashed)
        self.dense.learn(views.x, np.array((target - views.dense, correction)))

    def _forget(self) -> None:
        for regression in self.regressions:
            regression.believe(regression.evidence().times(FORGET))
        self.told.fade()
