"""What every policy of the registry must keep, whoever wrote it down first."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmservice_sidecar.core.costs import ServiceCosts
from llmservice_sidecar.core.policies import POLICIES, make_policy
from llmservice_sidecar.core.policy import LearningPolicy, QueueView, SlicingPolicy
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from strategies import WILD_TOKENS

tokens = st.one_of(st.sampled_from(WILD_TOKENS), st.floats(0, 1e6), st.integers(1, 9000).map(float))
moments = st.floats(-1e9, 1e9)
rates = st.floats(1e-9, 1e3)

requests = st.builds(
    Request,
    id=st.sampled_from("abcd").map(RequestId),
    arrived_at=moments,
    prompt_tokens=st.integers(0, 10**7),
    prediction=st.builds(Prediction, tokens, tokens, st.just("test")),
    max_tokens=st.none() | st.integers(1, 10**6),
    slots=st.integers(1, 8),
    priority=st.integers(-(2**31), 2**31 - 1),
    deadline_at=st.none() | moments | st.sampled_from((math.nan, math.inf, -math.inf)),
    cached_tokens=st.integers(0, 10**7),
    generated_tokens=st.integers(0, 10**6),
)
views = st.builds(
    QueueView,
    now=moments,
    depth=st.integers(0, 10**6),
    in_flight=st.integers(0, 1000),
    limit_slots=st.integers(0, 10**4),
    gamma_per_s=st.floats(1e-9, 1e9),
    costs=st.none() | st.builds(ServiceCosts, rates, rates, rates),
)


def test_registry_is_not_empty() -> None:
    assert POLICIES


@pytest.mark.parametrize("name", sorted(POLICIES))
@given(offers=st.lists(requests, min_size=1, max_size=4), view=views)
def test_every_key_is_a_row_of_finite_numbers(
    name: str, offers: list[Request], view: QueueView
) -> None:
    policy = make_policy(name)
    for offer in offers:
        if isinstance(policy, LearningPolicy):
            policy.offered(offer)
        key = policy.key(offer, view)
        assert key
        assert all(math.isfinite(part) for part in key)
        assert key == policy.key(offer, view), "the same question, another answer"


@pytest.mark.parametrize("name", sorted(POLICIES))
@given(offer=requests, view=views)
def test_every_slice_makes_progress(name: str, offer: Request, view: QueueView) -> None:
    policy = make_policy(name)
    if isinstance(policy, SlicingPolicy):
        assert (policy.slice_tokens(offer, view) or 1) >= 1
