"""How full the engine was: slots in use over time, and what one more of them costs. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from llmservice_lab.analysis.columns import Columns, Vector, known

_MOST_REPLAYED: Final = 20_000  # requests; the latest so many
_FEWEST: Final = 20
_NEARLY_ALL: Final = 0.999  # of the time


class Pressure(msgspec.Struct, frozen=True, kw_only=True):
    """Of the busiest pod's view, seconds; None: too few requests to say.

    `busy_share`: of the time between the first call and the last end, in which all slots were in
    use (`slots`: the most seen). `per_token_half_s` and `per_token_full_s`: the engine's pace
    with about half and with all slots in use.
    """

    pods: int
    slots: int
    mean_in_use: float
    busy_share: float
    per_token_half_s: float | None
    per_token_full_s: float | None


class OrderGain(msgspec.Struct, frozen=True, kw_only=True):
    """Mean waits of the same requests on the same slots under three orders, seconds; a sketch.

    Every request takes as long at the engine as it did; `llmservice replay` is the exact way.
    """

    requests: int
    slots: int
    arrival_order_s: float
    predicted_order_s: float
    true_order_s: float


def pressure_of(columns: Columns) -> Pressure:
    """Slots in use on the pod with most requests."""
    ran = ~np.isnan(columns.called_s) & ~np.isnan(columns.engine_ended_s)
    pods, counts = np.unique(columns.pod[ran], return_counts=True)
    if not len(pods):
        return Pressure(
            pods=0, slots=0, mean_in_use=0.0, busy_share=0.0,
            per_token_half_s=None, per_token_full_s=None,
        )  # fmt: skip
    rows = np.flatnonzero(ran & (columns.pod == pods[np.argmax(counts)]))
    called, ended, slots = columns.called_s[rows], columns.engine_ended_s[rows], columns.slots[rows]
    times = np.concatenate((called, ended))
    change = np.concatenate((slots, -slots))
    # At one instant an end comes before a start.
    order = np.lexsort((change, times))
    times, in_use = times[order], np.cumsum(change[order])
    span = np.diff(times)
    whole = float(span.sum()) or 1.0
    most = _level(in_use[:-1], span)
    at_call = in_use[np.searchsorted(times, called, side="right") - 1]
    pace = columns.per_token_s[rows]
    return Pressure(
        pods=len(pods),
        slots=most,
        mean_in_use=float((in_use[:-1] * span).sum()) / whole,
        busy_share=float(span[in_use[:-1] >= most].sum()) / whole,
        per_token_half_s=_pace(pace[(at_call <= 0.6 * most) & (at_call >= 0.4 * most)]),
        per_token_full_s=_pace(pace[at_call >= most]),
    )


def order_gain(columns: Columns, slots: int) -> OrderGain | None:
    """Waits on `slots` under arrival order, predicted and true length. None: nothing to serve."""
    pods, counts = np.unique(columns.pod, return_counts=True)
    fit = (
        columns.completed
        & (columns.pod == pods[np.argmax(counts)])
        & ~np.isnan(columns.predicted + columns.tokens + columns.service_s)
    )
    rows = np.flatnonzero(fit)[-_MOST_REPLAYED:]
    if len(rows) < _FEWEST or slots < 1:
        return None
    arrived, served = columns.arrived_s[rows], columns.service_s[rows]
    predicted = np.minimum(columns.predicted[rows], 1e7)

    def mean_wait(keys: Vector) -> float:
        return _mean_wait(arrived.tolist(), served.tolist(), keys.tolist(), slots)

    return OrderGain(
        requests=len(rows),
        slots=slots,
        arrival_order_s=mean_wait(arrived),
        predicted_order_s=mean_wait(predicted),
        true_order_s=mean_wait(columns.tokens[rows]),
    )


def _mean_wait(
    arrived: Sequence[float], served: Sequence[float], keys: Sequence[float], slots: int
) -> float:
    """The mean wait when the smallest key is served first on so many slots."""
    free = [-float("inf")] * slots  # when each slot is free
    waiting: list[tuple[float, int]] = []
    total, following, count = 0.0, 0, len(arrived)
    for _ in range(count):
        free_at = heapq.heappop(free)
        if not waiting:
            free_at = max(free_at, arrived[following])
        while following < count and arrived[following] <= free_at:
            heapq.heappush(waiting, (keys[following], following))
            following += 1
        _, chosen = heapq.heappop(waiting)
        total += free_at - arrived[chosen]
        heapq.heappush(free, free_at + served[chosen])
    return total / count


def _level(in_use: Vector, span: Vector) -> int:
    """The fewest slots that were enough but for a thousandth of the time.

    At a change of hands the next request begins before the last span of the one before has ended.
    """
    order = np.argsort(in_use, kind="stable")
    share = np.cumsum(span[order]) / (float(span.sum()) or 1.0)
    place = min(int(np.searchsorted(share, _NEARLY_ALL)), len(order) - 1)
    return max(round(float(in_use[order[place]])), 1)


def _pace(values: Vector) -> float | None:
    there = known(values)
    return float(np.median(there)) if len(there) >= _FEWEST else None
