"""Hypothesis strategies for the core's values."""

from __future__ import annotations

import math

from hypothesis import strategies as st
from llmservice_sidecar.core.policies import POLICIES, make_policy
from llmservice_sidecar.core.policy import OrderingPolicy
from llmservice_sidecar.core.request import Prediction

# Wild ones too: a predictor is somebody else's code.
WILD_TOKENS = (math.nan, math.inf, -math.inf, -3.0, 0.0, 1e308)

token_counts = st.one_of(st.floats(1.0, 2000.0), st.integers(1, 5).map(float))
predictions = token_counts.map(lambda tokens: Prediction(tokens, tokens, "test"))
policies: st.SearchStrategy[OrderingPolicy] = st.builds(
    make_policy,
    st.sampled_from(sorted(POLICIES)),
    tail_weight=st.sampled_from((0.0, 0.3, 1.0, 5.0)),
)
