"""Every system of the comparison by name: its order, its memory rule, its kind of prediction.

A system takes whatever predictor a run is given, unless the truth or nothing at all is its idea.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from llmservice_sidecar.core.admission.a_max import AMaxRule
from llmservice_sidecar.core.admission.a_min import AMinRule
from llmservice_sidecar.core.admission.past_future import LengthHistory, PastFutureRule
from llmservice_sidecar.core.admission.sorted_f import SortedFRule
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.rules import AdmissionRule

from llmservice_lab.heads import Around, Remaining, Remembering, Spread, ltr_rank, margin_ties
from llmservice_lab.retrieval import Retrieval
from llmservice_lab.sim_predictors import Constant, Fixed, SimPredictor


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemOptions:
    """What a run tells a system. `kv_tokens` is the engine's KV memory; None: there is no bound."""

    tail_weight: float = 1.0
    kv_tokens: int | None = None
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A system ready for one run; nothing of it may be used for a second one."""

    policy: OrderingPolicy
    rules: Sequence[AdmissionRule]
    predictor: SimPredictor


_Parts: TypeAlias = tuple[Sequence[AdmissionRule], SimPredictor]
_Fit: TypeAlias = Callable[[SimPredictor, float], _Parts]


def _plain(inner: SimPredictor, _capacity_tokens: float) -> _Parts:
    return (), inner


def _head(make: Callable[[SimPredictor], SimPredictor]) -> _Fit:
    return lambda inner, _capacity_tokens: ((), make(inner))


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What a name stands for besides its ordering policy.

    `predictor`: the lab predictor it always runs with; None: the run's. `predicts` False: its order
    does not look at predictions, so no guard can switch it off. `fit` makes rules and predictor
    from the run's predictor and the tokens of KV memory.
    """

    predictor: str | None = None
    predicts: bool = True
    fit: _Fit = _plain


def _retrieval(inner: SimPredictor) -> SimPredictor:
    # A made-up predictor stands for whatever a system would predict: it is not improved upon.
    return inner if isinstance(inner, Fixed | Constant) else Retrieval(inner)


def _past_future(inner: SimPredictor, capacity_tokens: float) -> _Parts:
    history = LengthHistory()
    rule = PastFutureRule(capacity_tokens=capacity_tokens, history=history)
    return (rule,), Remembering(inner, history)


SYSTEMS: Final[Mapping[str, System]] = {
    "FCFS": System(predicts=False),
    "SSJF": System(),
    "HRRN": System(),
    "PromptCost": System(predicts=False),
    "Random": System(predicts=False),
    "LongestFirst": System(),
    "OracleSJF": System(predictor="oracle"),
    "OracleSRPT": System(predictor="oracle"),
    "Gittins": System(fit=_head(Spread)),
    "LTR": System(fit=_head(lambda inner: Around(inner, ltr_rank))),
    "ALISE": System(fit=_head(_retrieval)),
    "PARS": System(fit=_head(lambda inner: Around(inner, margin_ties))),
    "EWSJF": System(predicts=False),
    "ELIS": System(fit=_head(Remaining)),
    "TIE": System(fit=_head(Spread)),
    "LAMPS": System(),
    "FastServe": System(predicts=False),
    "Gimbal": System(predicts=False),
    "PastFuture": System(predicts=False, fit=_past_future),
    "LAPSSD": System(fit=_head(Remaining)),
    "AMax": System(fit=lambda inner, tokens: ((AMaxRule(capacity_tokens=tokens),), Spread(inner))),
    "AMin": System(fit=lambda inner, tokens: ((AMinRule(capacity_tokens=tokens),), Spread(inner))),
    "QLLM": System(),
    "SCLS": System(predicts=False),
    "ResponseLengthPerception": System(),
    "SortedF": System(fit=lambda inner, tokens: ((SortedFRule(capacity_tokens=tokens),), inner)),
    "TimelyLLM": System(fit=_head(Remaining)),
    "ASRHRRN": System(predicts=False),
}


def system_of(name: str) -> System:
    """The system of this name. Raises ValueError naming those that are known."""
    if name not in SYSTEMS:
        raise ValueError(f"policy {name!r} is not known; known: {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


def assemble(name: str, inner: SimPredictor, *, options: SystemOptions) -> Assembled:
    """The system `name` around the predictor `inner`, fresh for one run.

    Raises ValueError naming the known systems, or what is wrong with a parameter.
    """
    capacity_tokens = math.inf if options.kv_tokens is None else float(options.kv_tokens)
    rules, predictor = system_of(name).fit(inner, capacity_tokens)
    policy = make_policy(name, tail_weight=options.tail_weight, parameters=options.parameters)
    bounded = rules if math.isfinite(capacity_tokens) else ()
    return Assembled(policy=policy, rules=bounded, predictor=predictor)
