"""All ordering policies by name: registry key = CRD enum = command line = metric label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from llmservice_sidecar.core.policies.a_max import AMax
from llmservice_sidecar.core.policies.a_min import AMin
from llmservice_sidecar.core.policies.alise import Alise
from llmservice_sidecar.core.policies.asr_hrrn import AsrHrrn
from llmservice_sidecar.core.policies.elis import Elis
from llmservice_sidecar.core.policies.ewsjf import Ewsjf
from llmservice_sidecar.core.policies.fast_serve import FastServe
from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policies.gimbal import Gimbal
from llmservice_sidecar.core.policies.gittins import Gittins
from llmservice_sidecar.core.policies.hrrn import Hrrn
from llmservice_sidecar.core.policies.lamps import Lamps
from llmservice_sidecar.core.policies.laps_sd import LapsSd
from llmservice_sidecar.core.policies.longest_first import LongestFirst
from llmservice_sidecar.core.policies.ltr import Ltr
from llmservice_sidecar.core.policies.oracle_sjf import OracleSjf
from llmservice_sidecar.core.policies.oracle_srpt import OracleSrpt
from llmservice_sidecar.core.policies.parameters import Bounds, known_parameters, parse_parameters
from llmservice_sidecar.core.policies.pars import Pars
from llmservice_sidecar.core.policies.past_future import PastFuture
from llmservice_sidecar.core.policies.prompt_cost import PromptCost
from llmservice_sidecar.core.policies.qllm import Qllm
from llmservice_sidecar.core.policies.random_order import RandomOrder
from llmservice_sidecar.core.policies.response_length_perception import ResponseLengthPerception
from llmservice_sidecar.core.policies.scls import Scls
from llmservice_sidecar.core.policies.sorted_f import SortedF
from llmservice_sidecar.core.policies.ssjf import Ssjf
from llmservice_sidecar.core.policies.tie import Tie
from llmservice_sidecar.core.policies.timely_llm import TimelyLlm
from llmservice_sidecar.core.policy import OrderingPolicy

DEFAULT_POLICY: Final = "SSJF"

_DEPLOYABLE: Final[Mapping[str, Callable[..., OrderingPolicy]]] = {
    "FCFS": Fcfs,
    "SSJF": Ssjf,
    "HRRN": Hrrn,
    "PromptCost": PromptCost,
    "Random": RandomOrder,
    "LongestFirst": LongestFirst,
    "Gittins": Gittins,
    "LTR": Ltr,
    "ALISE": Alise,
    "PARS": Pars,
    "EWSJF": Ewsjf,
    "TIE": Tie,
    "LAMPS": Lamps,
    "Gimbal": Gimbal,
    "QLLM": Qllm,
    "ASRHRRN": AsrHrrn,
}

# They want the truth, slices, a question to the model, or the capacity of the KV cache.
_LAB_ONLY: Final[Mapping[str, Callable[..., OrderingPolicy]]] = {
    "OracleSJF": OracleSjf,
    "OracleSRPT": OracleSrpt,
    "ELIS": Elis,
    "FastServe": FastServe,
    "PastFuture": PastFuture,
    "LAPSSD": LapsSd,
    "AMax": AMax,
    "AMin": AMin,
    "SCLS": Scls,
    "ResponseLengthPerception": ResponseLengthPerception,
    "SortedF": SortedF,
    "TimelyLLM": TimelyLlm,
}

POLICIES: Final[Mapping[str, Callable[..., OrderingPolicy]]] = {**_DEPLOYABLE, **_LAB_ONLY}
DEPLOYABLE: Final = frozenset(_DEPLOYABLE)


def make_policy(
    name: str, *, tail_weight: float = 1.0, parameters: Mapping[str, str] | None = None
) -> OrderingPolicy:
    """The policy registered under `name`, with `policyParameters` as the resource has them.

    Raises ValueError naming the known policies, or the parameter, its value and what is allowed.
    """
    if name not in POLICIES:
        raise ValueError(f"policy {name!r} is not known; known: {', '.join(POLICIES)}")
    policy = _class_of(name)
    try:
        arguments = parse_parameters(policy, parameters or {})
    except ValueError as error:
        raise ValueError(f"policy {name}: {error}") from error
    return policy(tail_weight=tail_weight, **arguments)


def make_deployed_policy(
    name: str, *, tail_weight: float, parameters: Mapping[str, str]
) -> OrderingPolicy:
    """The same for a sidecar. Raises ValueError for policies that act in the lab only, too."""
    if name not in DEPLOYABLE:
        allowed = ", ".join(_DEPLOYABLE)
        raise ValueError(f"policy {name!r} cannot be deployed; allowed: {allowed}")
    return make_policy(name, tail_weight=tail_weight, parameters=parameters)


def policy_parameters(name: str) -> Mapping[str, Bounds]:
    """What `policyParameters` may hold for this policy. Raises KeyError for an unknown one."""
    return known_parameters(_class_of(name))


def _class_of(name: str) -> Callable[..., OrderingPolicy]:
    return POLICIES[name]
