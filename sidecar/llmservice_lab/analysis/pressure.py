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
    """Of the busiest pod's view, seconds; None: too few requests to say, or only a sample of them.

    `slots`: what most spans say, else the most seen. `busy_share`: of the time between the first
    call and the last end, in which all of them were in use. `per_token_half_s` and
    `per_token_full_s`: the engine's pace with about half and with all slots in use.
    """

    pods: int
    slots: int | None
    mean_in_use: float | None
    busy_share: float | None
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


def pressure_of(columns: Columns, *, whole: bool = True) -> Pressure:
    """Slots in use on the pod with most requests; of a sample of the load, only how many exist."""
    ran = ~np.isnan(columns.called_s) & ~np.isnan(columns.engine_ended_s)
    pods, counts = np.unique(columns.pod[ran], return_counts=True)
    if not len(pods):
        return _untold(pods=0, slots=None) if not whole else Pressure(
            pods=0, slots=0, mean_in_use=0.0, busy_share=0.0,
            per_token_half_s=None, per_token_full_s=None,
        )  # fmt: skip
    rows = np.flatnonzero(ran & (columns.pod == pods[np.argmax(counts)]))
    said = _said(columns.limit_slots[rows])
    if not whole:
        return _untold(pods=len(pods), slots=said)
    called, ended, slots = columns.called_s[rows], columns.engine_ended_s[rows], columns.slots[rows]
    times = np.concatenate((called, ended))
    change = np.concatenate((slots, -slots))
    # At one instant an end comes before a start.
    order = np.lexsort((change, times))
    times, in_use = times[order], np.cumsum(change[order])
    span = np.diff(times)
    span_s = float(span.sum()) or 1.0
    most = _level(in_use[:-1], span) if said is None else said
    at_call = in_use[np.searchsorted(times, called, side="right") - 1]
    pace = columns.per_token_s[rows]
    return Pressure(
        pods=len(pods),
        slots=most,
        mean_in_use=float((in_use[:-1] * span).sum()) / span_s,
        busy_share=float(span[in_use[:-1] >= most].sum()) / span_s,
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
    now = -float("inf")
    free = [now] * slots  # when each slot is free
    waiting: list[tuple[float, int]] = []
    total, following, count = 0.0, 0, len(arrived)
    for _ in range(count):
        # A slot may have been free for long when two come at one instant: time does not go back.
        now = max(now, heapq.heappop(free))
        if not waiting:
            now = max(now, arrived[following])
        while following < count and arrived[following] <= now:
            heapq.heappush(waiting, (keys[following], following))
            following += 1
        _, chosen = heapq.heappop(waiting)
        total += now - arrived[chosen]
        heapq.heappush(free, now + served[chosen])
    return total / count


def _untold(*, pods: int, slots: int | None) -> Pressure:
    return Pressure(
        pods=pods,
        slots=slots,
        mean_in_use=None,
        busy_share=None,
        per_token_half_s=None,
        per_token_full_s=None,
    )


def _said(limits: Vector) -> int | None:
    """The limit that most spans tell; None: none tells one."""
    values, counts = np.unique(known(limits), return_counts=True)
    return max(int(values[np.argmax(counts)]), 1) if len(values) else None


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
