"""Parameters come as strings; an error tells key, value and what is allowed."""

from __future__ import annotations

import pytest
from llmservice_sidecar.core.policies import make_policy, policy_parameters
from llmservice_sidecar.core.policies.fast_serve import FastServe
from llmservice_sidecar.core.policies.gimbal import Gimbal
from llmservice_sidecar.core.policies.ltr import Ltr


def test_whole_parameter_is_taken_over_as_an_int() -> None:
    policy = make_policy("LTR", parameters={"starvationIterations": "50"})
    assert policy == Ltr(starvation_iterations=50)


def test_seconds_are_spelled_out_in_the_key() -> None:
    assert make_policy("Gimbal", parameters={"agingSeconds": "2.5"}) == Gimbal(aging_s=2.5)


@pytest.mark.parametrize(
    ("name", "key", "value", "told"),
    [
        pytest.param(
            "SSJF", "seed", "1", "policy SSJF: policyParameters.seed is not known; allowed: none",
            id="a policy without parameters",
        ),
        pytest.param(
            "Gimbal", "ageing", "1", "policyParameters.ageing is not known; allowed: agingSeconds",
            id="a typing error",
        ),
        pytest.param(
            "LTR", "starvationIterations", "0",
            "policyParameters.starvationIterations is '0'; allowed: a whole number of at least 1",
            id="below the least",
        ),
        pytest.param(
            "LTR", "starvationIterations", "1.5", "is '1.5'; allowed: a whole number",
            id="a half",
        ),
        pytest.param("Gimbal", "agingSeconds", "soon", "is 'soon'; allowed: a number", id="a word"),
        pytest.param("Gimbal", "agingSeconds", "nan", "is 'nan'; allowed: a number", id="NaN"),
        pytest.param(
            "FastServe", "levels", "33", "is '33'; allowed: a whole number from 1 to 32",
            id="above the most",
        ),
    ],
)  # fmt: skip
def test_bad_parameter_is_refused(name: str, key: str, value: str, told: str) -> None:
    with pytest.raises(ValueError, match=r"policyParameters\.") as refused:
        make_policy(name, parameters={key: value})
    assert told in str(refused.value)


def test_constructor_keeps_the_same_bounds() -> None:
    with pytest.raises(ValueError, match="levels is 0, must be a whole number from 1 to 32"):
        FastServe(levels=0)


def test_known_parameters_are_told_by_the_names_that_users_type() -> None:
    assert {key: str(bounds) for key, bounds in policy_parameters("EWSJF").items()} == {
        "baseWeight": "a number from 0 to 1e+09",
        "urgencyWeight": "a number from 0 to 1e+09",
        "fairnessWeight": "a number from 0 to 1e+09",
    }
