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
from typing import Any, Final, TypedDict

import numpy as np
import numpy.typing as npt

from llmservice_lab.analysis.record import TracedRequest
from llmservice_lab.cost_model import CostModel
from llmservice_lab.replay.engine_load import EngineLoad, Equations, Floats, joined
from llmservice_lab.replay.recording import tokens_of

MIN_ANSWERS: Final = 30
_FIRST: Final = 1  # the equations of first tokens among all
_STEPS_TO_FIRST: Final = 1.5  # half a step that is under way, and its own
_HUBER: Final = 1.345  # 95 % as good as least squares where errors are normal
_ROUNDS: Final = 15
_PARTS: Final = 20
_REFINED: Final = 3
_BEYOND: Final = 2.0  # so many times as foreseen, or foreseen: not part of the final scale
_TO_SIGMA: Final = 1.4826  # a median absolute error of a normal distribution to its sigma


class Fit(TypedDict):
    """A cost model as fitted, and how well it tells the times that it was fitted to.

    `late_s`: so much later than a ready engine would it begins with an admitted request; `full_s`:
    a step as it was on average. `fastest` and `slowest` are of twenty parts of the recording, 1 is
    as foreseen. Errors are median absolute ones relative to the measured time; null
    where there is nothing.
    """

    pod: str
    step_s: float
    per_decode_s: float
    per_prefill_token_s: float
    late_s: float
    full_s: float
    fastest: float
    slowest: float
    answers: int
    decode_error: float | None
    first_token_error: float | None
    mean_in_flight: float
    max_in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solution:
    """The three costs, and what each part but the first has beside them: seconds a request."""

    costs: tuple[float, float, float]
    own_s: Floats


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
    load = EngineLoad(served)
    (decode, first, both), found = _refined(load, told)
    costs = found.costs
    fastest, slowest = _paces(joined(decode, both), costs)
    full_s = _full_step_s(joined(decode, both), costs)
    beside_s = float(found.own_s[0] if first.count else found.own_s[1])
    spans_s = sum((one.service_s or 0.0) * one.slots for one in served)
    lasted_s = load.until_s - load.from_s
    return Fit(
        pod=pod,
        step_s=costs[0],
        per_decode_s=costs[1],
        per_prefill_token_s=costs[2],
        # A ready engine takes one step to the first token of who takes a free slot.
        late_s=max((_STEPS_TO_FIRST - 1) * full_s + beside_s, 0.0),
        full_s=full_s,
        fastest=fastest,
        slowest=slowest,
        answers=len(told),
        decode_error=_typical_error(joined(decode, both), costs),
        first_token_error=_typical_error(first, costs),
        mean_in_flight=spans_s / lasted_s if lasted_s > 0 else 0.0,
        max_in_flight=load.most,
    )


def _refined(load: EngineLoad, told: Sequence[TracedRequest]) -> tuple[list[Equations], _Solution]:
    """The equations and what solves them, which changes them a little."""
    parts = _equations(load, told)
    found = _solve(parts)
    for _ in range(_REFINED):
        load.know(found.costs)
        parts = _equations(load, told)
        found = _solve(parts)
    return parts, found


def _equations(load: EngineLoad, told: Sequence[TracedRequest]) -> list[Equations]:
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


def _solve(parts: Sequence[Equations]) -> _Solution:
    """The three costs. Beside them each part but the first has an unknown of its own.

    That is what lies between engine and sidecar, of either sign; each part counts by how exact it
    turns out to be. Neither may bend what the decode times say.
    """
    part_of = np.repeat(np.arange(len(parts)), [part.count for part in parts])
    times_s = np.concatenate([part.times_s for part in parts])
    own = np.array([part_of == number for number in range(1, len(parts))], dtype=np.float64).T
    factors = np.concatenate([part.factors for part in parts])
    scale_s = np.maximum(times_s, 0.1 * float(np.median(times_s)))[:, None]
    system: Floats = np.concatenate([factors, own, -own], axis=1) / scale_s
    times: Floats = times_s / scale_s[:, 0]
    found = _least_squares(system, times, np.ones(len(times)))
    for _ in range(_ROUNDS):
        found = _least_squares(system, times, _weights(times - system @ found, part_of))
    # How many steps pass before the first token is a guess; those of answers are known. What is
    # beyond any proportion is no engine's work; all the rest is time that slots were held.
    foreseen: Floats = system @ found
    known = (part_of != _FIRST) & (times < _BEYOND * foreseen) & (foreseen < _BEYOND * times)
    beside: Floats = found[3 : 3 + own.shape[1]] - found[3 + own.shape[1] :]
    return _Solution(costs=_scaled(found[:3], factors, times_s, known), own_s=beside)


def _weights(errors: Floats, part_of: npt.NDArray[np.int64]) -> Floats:
    """Less for outliers, and for parts that are less exact."""
    sizes: Floats = np.abs(errors)
    typical = np.empty(len(sizes))
    for number in np.unique(part_of):
        of_part = part_of == number
        typical[of_part] = max(_TO_SIGMA * float(np.median(sizes[of_part])), 1e-6)
    weights: Floats = np.minimum(1.0, _HUBER * typical / np.maximum(sizes, 1e-12)) / typical**2
    return weights


def _least_squares(system: Floats, times: Floats, weights: Floats) -> Floats:
    """Without negative unknowns."""
    optimize: Any = importlib.import_module("scipy.optimize")  # ships no types
    # Seconds per step and per prompt token differ by orders of magnitude.
    unit: Floats = np.maximum(np.abs(system).max(axis=0), 1e-12)
    root = np.sqrt(weights)
    found: Floats = optimize.nnls(system / unit * root[:, None], times * root)[0]
    return found / unit


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


def _full_step_s(equations: Equations, costs: tuple[float, float, float]) -> float:
    """A step as it was on average."""
    return float((equations.factors @ np.array(costs)).sum() / equations.factors[:, 0].sum())


def _paces(equations: Equations, costs: tuple[float, float, float]) -> tuple[float, float]:
    """The least and the most that answers took, of what was foreseen, over twenty parts of time."""
    foreseen_s = equations.factors @ np.array(costs)
    order = np.argsort(equations.began_s, kind="stable")
    paces = [
        float(equations.times_s[part].sum() / max(foreseen_s[part].sum(), 1e-9))
        for part in np.array_split(order, min(_PARTS, equations.count))
    ]
    return min(paces), max(paces)


def _typical_error(equations: Equations, costs: tuple[float, float, float]) -> float | None:
    if not equations.count:
        return None
    foreseen_s = equations.factors @ np.array(costs)
    return float(np.median(np.abs(foreseen_s - equations.times_s) / equations.times_s))
