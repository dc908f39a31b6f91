"""All ordering policies by name: registry key = CRD enum = command line = metric label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llmservice_sidecar.core.policies.fcfs import Fcfs
from llmservice_sidecar.core.policies.ssjf import Ssjf
from llmservice_sidecar.core.policy import OrderingPolicy

DEFAULT_POLICY: Final = "SSJF"

POLICIES: Final[Mapping[str, type[Fcfs] | type[Ssjf]]] = {"FCFS": Fcfs, "SSJF": Ssjf}


def make_policy(name: str, *, tail_weight: float = 1.0) -> OrderingPolicy:
    """The policy registered under `name`. Raises ValueError naming the known ones."""
    if name not in POLICIES:
        raise ValueError(f"policy {name!r} is not known; known: {', '.join(POLICIES)}")
    return POLICIES[name](tail_weight=tail_weight)
