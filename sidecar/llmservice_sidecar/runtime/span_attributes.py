"""Values of ours as span attributes. No text of a prompt or an answer is among them."""

from __future__ import annotations

import math

from llmservice_sidecar.core.decision import Standing
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime import telemetry_names as names
from llmservice_sidecar.runtime.limits import Limits

Attributes = dict[str, str | int | float | tuple[str, ...]]


def prediction_attributes(prediction: Prediction) -> Attributes:
    """A prediction."""
    attributes: Attributes = {
        names.ATTR_PREDICTED: prediction.output_tokens,
        names.ATTR_PREDICTED_P90: prediction.p90_tokens,
        names.ATTR_PREDICTION_SOURCE: prediction.source,
    }
    if prediction.p50_tokens is not None:
        attributes[names.ATTR_PREDICTED_P50] = prediction.p50_tokens
    return attributes


def place_attributes(standing: Standing) -> Attributes:
    """A place in the queue at some moment."""
    return {
        names.ATTR_KEY: standing.key[0],
        names.ATTR_GAMMA: standing.gamma_per_s,
        names.ATTR_QUEUE_POSITION: standing.position,
        names.ATTR_QUEUE_DEPTH: standing.depth,
    }


def wait_attributes(last: Standing) -> Attributes:
    """What a wait was like, from where the request stood at its end."""
    attributes: Attributes = {
        names.ATTR_KEY: last.key[0],
        names.ATTR_GAMMA: last.gamma_per_s,
        names.ATTR_OVERTOOK: last.overtook,
        names.ATTR_OVERTAKEN_BY: last.overtaken_by,
    }
    if last.overtaken_by_ids:
        attributes[names.ATTR_OVERTAKEN_BY_IDS] = last.overtaken_by_ids
    return attributes


def arrival_attributes(first: Standing) -> Attributes:
    """Where a request stood when it came: its rank, and how long others may overtake it."""
    attributes: Attributes = {
        names.ATTR_QUEUE_POSITION: first.position,
        names.ATTR_QUEUE_DEPTH: first.depth,
    }
    bound_s = first.overtaking_bound_s
    if bound_s is not None and math.isfinite(bound_s):  # else nothing is promised
        attributes[names.ATTR_OVERTAKING_BOUND_S] = bound_s
    return attributes


def limit_attributes(limits: Limits) -> Attributes:
    """How many may be in flight now and why, and how many are."""
    limit = limits.limit
    return {
        names.ATTR_LIMIT_SLOTS: limit.slots,
        names.ATTR_LIMIT_REASON: limit.reason,
        names.ATTR_IN_FLIGHT: limits.admitted_slots,
    }
