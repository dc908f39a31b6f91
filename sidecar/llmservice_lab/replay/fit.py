"""The engine's step costs out of the times of its answers. Knows no policy and no gate.

An answer of n tokens takes n - 1 steps after its first token. A step costs a fixed time, a time
for each answer in it, and a time for each prompt token computed beside them; so every answer gives
two equations, one to its first token and one after it. They are solved by least squares without
negative costs, with Huber's weights on relative errors (P. J. Huber, "Robust Estimation of a
Location Parameter", Annals of Mathematical Statistics 35, 1964), so that a pause of the machine
bends nothing; then scaled so that all time together is right, because a queue feels the mean.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from llmservice_lab.analysis.record import TracedRequest
from llmservice_lab.cost_model import CostModel
from llmservice_lab.replay.recording import tokens_of

Floats: TypeAlias = npt.NDArray[np.float64]

MIN_ANSWERS: Final = 30
_FIRST: Final = 1  # the equations of first tokens among all
_STEPS_TO_FIRST: Final = 1.5  # half a step that is under way, and its own
_HUBER: Final = 1.345  # 95 % as good as least squares where errors are normal
_ROUNDS: Final = 15
_REFINED: Final = 3
_OUTLIER: Final = 6.0  # typical errors; not part of the final scale
_TO_SIGMA: Final = 1.4826  # a median absolute error of a normal distribution to its sigma


class Fit(TypedDict):
    """A cost model as fitted, and how well it tells the times that it was fitted to.

    Errors are median absolute ones relative to the measured time; null where there is nothing.
    """

    pod: str
    step_s: float
    per_decode_s: float
    per_prefill_token_s: float
    answers: int
    decode_error: float | None
    first_token_error: float | None
    mean_in_flight: float
    max_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Equations:
    """`factors` times the three costs is `times_s`."""

    factors: Floats
    times_s: Floats

    @property
    def count(self) -> int:
        return len(self.times_s)


def costs_of(fit: Fit) -> CostModel:
    """What an engine on virtual time is given."""
    return CostModel(
        step_s=fit["step_s"],
        per_decode_s=fit["per_decode_s"],
        per_prefill_token_s=fit["per_prefill_token_s"],
    )


def fit_costs(pod: str, requests: Iterable[TracedRequest]) -> Fit:
    """The costs of one pod's engine. Raises ValueError when too few answers tell their times."""
    served = [
        one for one in requests if one.called_s is not None and one.engine_ended_s is not None
    ]
    told = [one for one in served if one.completed and (tokens_of(one) or 0) > 1]
    if len(told) < MIN_ANSWERS:
        raise ValueError(
            f"pod {pod!r}: {len(told)} complete answers of two tokens or more say how long they "
            f"took; the costs of the engine need {MIN_ANSWERS}"
        )
    load = _Load(served)
    parts = _equations(load, told)
    costs = _solve(parts)
    for _ in range(_REFINED):
        load.know(costs)
        parts = _equations(load, told)
        costs = _solve(parts)
    decode, first, both = parts
    spans_s = sum((one.service_s or 0.0) * one.slots for one in served)
    lasted_s = load.until_s - load.from_s
    return Fit(
        pod=pod,
        step_s=costs[0],
        per_decode_s=costs[1],
        per_prefill_token_s=costs[2],
        answers=len(told),
        decode_error=_typical_error(_joined(decode, both), costs),
        first_token_error=_typical_error(first, costs),
        mean_in_flight=spans_s / lasted_s if lasted_s > 0 else 0.0,
        max_in_flight=load.most,
    )


def _equations(load: _Load, told: Sequence[TracedRequest]) -> list[_Equations]:
    """Of the tokens after the first, of the time to the first, of answers in one piece."""
    streamed = [one for one in told if one.first_token_s is not None]
    whole = [one for one in told if one.first_token_s is None]
    return [
        load.equations(
            [(one.first_token_s or 0.0, one.engine_ended_s or 0.0) for one in streamed],
            [float((tokens_of(one) or 0) - 1) for one in streamed],
        ),
        load.equations(
            [(one.called_s or 0.0, one.first_token_s or 0.0) for one in streamed],
            [_STEPS_TO_FIRST] * len(streamed),
        ),
        # Both in one, its own prompt among what is computed meanwhile.
        load.equations(
            [(one.called_s or 0.0, one.engine_ended_s or 0.0) for one in whole],
            [(tokens_of(one) or 0) - 1 + _STEPS_TO_FIRST for one in whole],
        ),
    ]


class _Load:
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

    def equations(self, spans: list[tuple[float, float]], steps: list[float]) -> _Equations:
        """One of each span that took so many steps; those without any length say nothing."""
        kept = [(span, n) for span, n in zip(spans, steps, strict=True) if span[1] > span[0]]
        if not kept:
            return _Equations(factors=np.empty((0, 3)), times_s=np.empty(0))
        from_s = np.array([span[0] for span, _ in kept])
        until_s = np.array([span[1] for span, _ in kept])
        count = np.array([n for _, n in kept])
        steps = self._between(from_s, until_s, self._steps)
        answers = self._between(from_s, until_s, self._answers) / np.maximum(steps, 1e-12)
        prompts = self._until(until_s) - self._until(from_s)
        factors = np.column_stack([count, count * answers, prompts])
        return _Equations(factors=factors, times_s=until_s - from_s)

    def _between(self, from_s: Floats, until_s: Floats, summed: Floats) -> Floats:
        at_end, at_start = (np.interp(at_s, self._times_s, summed) for at_s in (until_s, from_s))
        return at_end - at_start

    def _until(self, at_s: Floats) -> Floats:
        return self._prompts[np.searchsorted(self._prompt_at_s, at_s, side="right")]


def _joined(*parts: _Equations) -> _Equations:
    return _Equations(
        factors=np.concatenate([part.factors for part in parts]),
        times_s=np.concatenate([part.times_s for part in parts]),
    )


def _solve(parts: Sequence[_Equations]) -> tuple[float, float, float]:
    """The three costs. Beside them each part but the first has an unknown of its own.

    That is what lies between engine and sidecar, of either sign; each part counts by how exact it
    turns out to be. Neither may bend what the decode times say.
    """
    nnls: Any = importlib.import_module("scipy.optimize").nnls  # ships no types
    part_of = np.repeat(np.arange(len(parts)), [part.count for part in parts])
    times_s = np.concatenate([part.times_s for part in parts])
    own = np.array([part_of == number for number in range(1, len(parts))], dtype=np.float64).T
    factors = np.concatenate([part.factors for part in parts])
    scale_s = np.maximum(times_s, 0.1 * float(np.median(times_s)))[:, None]
    system = np.concatenate([factors, own, -own], axis=1) / scale_s
    times = times_s / scale_s[:, 0]
    # Seconds per step and per prompt token differ by orders of magnitude.
    unit = np.maximum(np.abs(system).max(axis=0), 1e-12)
    weights = np.ones(len(times))
    found, relative = np.zeros(system.shape[1]), np.zeros(len(times))
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        found = nnls(system / unit * root[:, None], times * root)[0] / unit
        errors = np.abs(times - system @ found)
        typical = np.array(
            [
                max(_TO_SIGMA * float(np.median(errors[part_of == number])), 1e-6)
                if part.count
                else 1.0
                for number, part in enumerate(parts)
            ]
        )[part_of]
        relative = errors / typical
        weights = np.minimum(1.0, _HUBER / np.maximum(relative, 1e-12)) / typical**2
    # How many steps pass before the first token is a guess; those of answers are known.
    known = (part_of != _FIRST) & (relative <= _OUTLIER)
    return _scaled(found[:3], factors, times_s, known)


def _scaled(
    costs: Floats, factors: Floats, times_s: Floats, known: npt.NDArray[np.bool_]
) -> tuple[float, float, float]:
    """So that the `known` times are right together. Raises ValueError where nothing costs."""
    foreseen_s = float((factors @ costs)[known].sum())
    ratio = float(times_s[known].sum()) / foreseen_s if foreseen_s > 0 else 1.0
    step_s, per_decode_s, per_prefill_token_s = (float(cost) * ratio for cost in costs)
    if step_s + per_decode_s <= 0:
        raise ValueError("the times of the answers do not depend on their tokens: no cost fits")
    return step_s, per_decode_s, per_prefill_token_s


def _typical_error(equations: _Equations, costs: tuple[float, float, float]) -> float | None:
    if not equations.count:
        return None
    foreseen_s = equations.factors @ np.array(costs)
    return float(np.median(np.abs(foreseen_s - equations.times_s) / equations.times_s))
