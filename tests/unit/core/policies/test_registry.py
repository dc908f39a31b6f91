"""The registry: every name, and what stands behind it."""

from __future__ import annotations

import pytest
from llmservice_sidecar.core.policies import DEPLOYABLE, POLICIES, make_policy
from llmservice_sidecar.core.policy import SlicingPolicy

# What users type: stable from the first version on.
NAMES = (
    *("FCFS", "SSJF", "HRRN", "PromptCost", "Random", "LongestFirst", "OracleSJF", "OracleSRPT"),
    *("Gittins", "LTR", "ALISE", "PARS", "EWSJF", "ELIS", "TIE", "LAMPS", "FastServe", "Gimbal"),
    *("PastFuture", "LAPSSD", "AMax", "AMin", "QLLM", "SCLS", "ResponseLengthPerception"),
    *("SortedF", "TimelyLLM", "ASRHRRN"),
)


def test_registry_has_every_name_and_no_other() -> None:
    assert sorted(POLICIES) == sorted(NAMES)
    assert set(POLICIES) > DEPLOYABLE


@pytest.mark.parametrize("name", NAMES)
def test_policy_is_called_what_it_is_registered_as(name: str) -> None:
    policy = make_policy(name, tail_weight=2.5)
    assert (policy.name, policy.tail_weight) == (name, 2.5)
    assert policy.keys_last_s > 0


def test_deployable_policies_run_whole_answers() -> None:
    assert DEPLOYABLE
    for name in DEPLOYABLE:
        assert not isinstance(make_policy(name), SlicingPolicy), name


def test_slices_are_those_of_the_sliced_systems() -> None:
    sliced = {name for name in POLICIES if isinstance(make_policy(name), SlicingPolicy)}
    assert sliced == {"OracleSRPT", "ELIS", "FastServe", "LAPSSD", "SCLS", "TimelyLLM"}


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'LIFO' is not known; known: FCFS, SSJF, HRRN"):
        make_policy("LIFO")
