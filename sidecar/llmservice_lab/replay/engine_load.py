"""What an engine did at any time, by the times of its answers; and the equations that follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from llmservice_lab.analysis.record import TracedRequest

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Equations:
    """`factors` times the three costs is `times_s`."""

    factors: Floats
    times_s: Floats
    began_s: Floats

    @property
    def count(self) -> int:
        return len(self.times_s)


class EngineLoad:
    """What the engine did at any time: answers under way, prompt tokens computed so far."""

    def __init__(self, served: list[TracedRequest]) -> None:
        began = np.array([one.first_token_s or one.called_s or 0.0 for one in served])
        ended = np.array([one.engine_ended_s or 0.0 for one in served])
        slots = np.array([float(one.slots) for one in served])
        times_s = np.concatenate([began, ended])
        order = np.argsort(times_s, kind="stable")
        self._times_s: Floats = times_s[order]
        level = np.cumsum(np.concatenate([slots, -slots])[order])
        self._gaps_s: Floats = np.diff(self._times_s)
        self._level: Floats = level[:-1]
        self._pace(np.ones(len(self._level)))
        # Where nothing streams a prompt is computed when the engine is called.
        prompts = np.argsort(began, kind="stable")
        self._prompt_at_s: Floats = began[prompts]
        tokens = np.array([float(one.prompt_tokens or 0) for one in served])[prompts]
        self._prompts: Floats = np.concatenate([[0.0], np.cumsum(tokens)])
        self.from_s = float(self._times_s[0])
        self.until_s = float(self._times_s[-1])
        self.most = int(level.max())

    def know(self, costs: tuple[float, float, float]) -> None:
        """Steps are quicker while fewer answers are in them: what is in a step is told by steps."""
        self._pace(1.0 / np.maximum(costs[0] + costs[1] * np.maximum(self._level, 1.0), 1e-9))

    def _pace(self, steps_per_s: Floats) -> None:
        steps = steps_per_s * self._gaps_s
        self._steps: Floats = np.concatenate([[0.0], np.cumsum(steps)])
        self._answers: Floats = np.concatenate([[0.0], np.cumsum(self._level * steps)])

    def equations(self, spans: list[tuple[float, float]], steps: list[float]) -> Equations:
        """One of each span that took so many steps; those without any length say nothing."""
        kept = [(span, n) for span, n in zip(spans, steps, strict=True) if span[1] > span[0]]
        if not kept:
            return Equations(factors=np.empty((0, 3)), times_s=np.empty(0), began_s=np.empty(0))
        from_s = np.array([span[0] for span, _ in kept])
        until_s = np.array([span[1] for span, _ in kept])
        count = np.array([n for _, n in kept])
        passed = self._between(from_s, until_s, self._steps)
        answers = self._between(from_s, until_s, self._answers) / np.maximum(passed, 1e-12)
        prompts = self._until(until_s) - self._until(from_s)
        factors = np.column_stack([count, count * answers, prompts])
        return Equations(factors=factors, times_s=until_s - from_s, began_s=from_s)

    def _between(self, from_s: Floats, until_s: Floats, summed: Floats) -> Floats:
        at_end, at_start = (np.interp(at_s, self._times_s, summed) for at_s in (until_s, from_s))
        return at_end - at_start

    def _until(self, at_s: Floats) -> Floats:
        return self._prompts[np.searchsorted(self._prompt_at_s, at_s, side="right")]


def joined(*parts: Equations) -> Equations:
    """All of them as one."""
    return Equations(
        factors=np.concatenate([part.factors for part in parts]),
        times_s=np.concatenate([part.times_s for part in parts]),
        began_s=np.concatenate([part.began_s for part in parts]),
    )
