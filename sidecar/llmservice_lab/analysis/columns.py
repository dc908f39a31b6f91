"""Requests as arrays, a row a request in order of arrival: what sums and medians are taken of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from llmservice_lab.analysis.record import TracedRequest

Vector: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Seconds, Unix seconds and tokens; NaN: the trace does not say."""

    arrived_s: Vector
    total_s: Vector
    wait_s: Vector
    predict_s: Vector
    prefill_s: Vector
    decode_s: Vector  # with the time in which the client did not read
    stall_s: Vector
    gap_s: Vector
    called_s: Vector  # the engine
    first_s: Vector
    engine_ended_s: Vector
    engine_queue_s: Vector
    prompt_tokens: Vector
    tokens: Vector  # of one answer
    predicted: Vector
    slots: Vector
    limit_slots: Vector
    pod: npt.NDArray[np.intp]  # numbered
    completed: Mask

    def only(self, rows: Mask) -> Columns:
        """These rows."""
        return Columns(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})

    @property
    def service_s(self) -> Vector:
        """How long each held its slots."""
        return self.engine_ended_s - self.called_s

    @property
    def per_token_s(self) -> Vector:
        """The engine's seconds a token: after the first, or of the whole for one-piece answers."""
        streamed = np.maximum(self.decode_s - np.nan_to_num(self.stall_s), 0.0)
        paces = streamed / np.maximum(self.tokens - 1, 1)
        return np.where(np.isnan(self.first_s), self.service_s / np.maximum(self.tokens, 1), paces)


def columns_of(requests: Sequence[TracedRequest]) -> Columns:
    """The requests' columns."""

    def column(of: Callable[[TracedRequest], float | None]) -> Vector:
        # None becomes NaN
        return np.array([of(one) for one in requests], dtype=np.float64)

    pods = {name: number for number, name in enumerate(sorted({one.pod for one in requests}))}
    return Columns(
        arrived_s=column(lambda one: one.arrived_s),
        total_s=column(lambda one: one.total_s),
        wait_s=column(lambda one: one.wait_s),
        predict_s=column(lambda one: one.predict_s),
        prefill_s=column(lambda one: one.prefill_s),
        decode_s=column(lambda one: one.decode_s),
        stall_s=column(lambda one: one.client_stall_s),
        gap_s=column(lambda one: one.longest_gap_s),
        called_s=column(lambda one: one.called_s),
        first_s=column(lambda one: one.first_token_s),
        engine_ended_s=column(lambda one: one.engine_ended_s),
        engine_queue_s=column(lambda one: one.engine_queue_s),
        prompt_tokens=column(lambda one: one.prompt_tokens),
        tokens=column(lambda one: one.actual_tokens),
        predicted=column(lambda one: one.predicted_tokens),
        slots=column(lambda one: one.slots),
        limit_slots=column(lambda one: one.limit_slots),
        pod=np.array([pods[one.pod] for one in requests], dtype=np.intp),
        completed=np.array([one.completed for one in requests], dtype=np.bool_),
    )


def known(values: Vector) -> Vector:
    """Without NaN."""
    return values[~np.isnan(values)]


def quantile(values: Vector, share: float) -> float | None:
    """Of what is known; None: nothing is."""
    there = known(values)
    return float(np.quantile(there, share)) if len(there) else None
