"""Where the time goes: queue, prediction, prefill, decode; by percentile, length and tenant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from llmservice_lab.analysis.columns import Columns, Mask, Vector, known
from llmservice_lab.analysis.record import TracedRequest

_PERCENTILES: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
_BAND: Final = 0.25  # of what is left above a percentile, on either side: who counts to it
_MOST_TENANTS: Final = 20
_MOMENTS: Final = 60
OTHERS: Final = "(others)"
NO_TENANT: Final = "(none)"


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Of `n` requests that have this figure; seconds."""

    n: int
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None
    max: float | None


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Mean seconds of a group of completed requests: the parts add up to the whole.

    `predict_s` is beside the others: the predictor runs while the request waits. `engine_s` is of
    answers in one piece, whose first token nobody saw. `decode_s` is without `client_s`.
    """

    label: str
    n: int
    total_s: float
    queue_s: float
    prefill_s: float
    decode_s: float
    engine_s: float
    client_s: float
    other_s: float  # reading the request, closing the answer
    predict_s: float | None
    total_p99_s: float


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A sixtieth of the time, by arrival; None: nobody arrived then who completed."""

    since: str
    after_s: float
    n: int
    queue_mean_s: float | None
    total_p50_s: float | None
    total_p99_s: float | None


def quantiles(values: Vector) -> Quantiles:
    """The figures of a column; None where nothing is known."""
    there = known(values)
    if not len(there):
        return Quantiles(n=0, mean=None, p50=None, p90=None, p99=None, p999=None, max=None)
    p50, p90, p99, p999 = (float(value) for value in np.quantile(there, (0.5, 0.9, 0.99, 0.999)))
    return Quantiles(
        n=len(there),
        mean=float(there.mean()),
        p50=p50,
        p90=p90,
        p99=p99,
        p999=p999,
        max=float(there.max()),
    )


def by_percentile(columns: Columns) -> list[Parts]:
    """Where those at a percentile of the whole time spent it."""
    done = columns.completed
    count = int(done.sum())
    rank = np.full(len(done), np.nan)
    rank[np.flatnonzero(done)[np.argsort(columns.total_s[done], kind="stable")]] = (
        100 * (np.arange(count) + 0.5) / max(count, 1)
    )
    found: list[Parts] = []
    for percentile in _PERCENTILES:
        away = np.abs(rank - percentile)
        # The nearest at least: of a thousand requests, none is at the 99.9th itself.
        band = away <= max(_BAND * (100 - percentile), np.nanmin(away, initial=100.0))
        if band.any():
            found.append(_parts(columns, band, label=f"p{percentile:g}"))
    return found


def by_length_decile(columns: Columns) -> list[Parts]:
    """Tenths of the completed requests by answer length; the label is the longest of each."""
    rows = np.flatnonzero(columns.completed & ~np.isnan(columns.tokens))
    ordered = rows[np.argsort(columns.tokens[rows], kind="stable")]
    found: list[Parts] = []
    for tenth in np.array_split(ordered, min(10, len(ordered)) or 1):
        if len(tenth):
            mask = np.zeros(len(columns.tokens), dtype=np.bool_)
            mask[tenth] = True
            found.append(_parts(columns, mask, label=f"{columns.tokens[tenth[-1]]:.0f}"))
    return found


def by_tenant(requests: Sequence[TracedRequest], columns: Columns) -> list[Parts]:
    """The tenants with most requests, then all others together."""
    names = np.array([one.tenant or NO_TENANT for one in requests], dtype=np.str_)
    done = columns.completed
    found, counts = np.unique(names[done], return_counts=True)
    most = [str(name) for name in found[np.argsort(-counts, kind="stable")]]
    groups = [(name, done & (names == name)) for name in most[:_MOST_TENANTS]]
    if rest := most[_MOST_TENANTS:]:
        groups.append((OTHERS, done & np.isin(names, rest)))
    return [_parts(columns, mask, label=name) for name, mask in groups]


def over_time(columns: Columns, iso: Callable[[float], str]) -> list[Moment]:
    """The whole time in sixtieths. `iso` writes a point in time."""
    start_s, end_s = float(columns.arrived_s.min()), float(columns.arrived_s.max())
    width_s = (end_s - start_s) / _MOMENTS
    if width_s <= 0:
        return []
    place = np.minimum((columns.arrived_s - start_s) // width_s, _MOMENTS - 1)
    found: list[Moment] = []
    for number in range(_MOMENTS):
        rows = columns.completed & (place == number)
        there = quantiles(columns.total_s[rows])
        found.append(
            Moment(
                since=iso(start_s + number * width_s),
                after_s=number * width_s,
                n=int((place == number).sum()),
                queue_mean_s=quantiles(columns.wait_s[rows]).mean,
                total_p50_s=there.p50,
                total_p99_s=there.p99,
            )
        )
    return found


def distribution(columns: Columns) -> list[tuple[float, float]]:
    """Of the whole time of the completed: a hundred and one points of its distribution."""
    there = columns.total_s[columns.completed]
    if not len(there):
        return []
    shares = np.linspace(0.0, 1.0, 101)
    return [
        (float(at), float(share))
        for at, share in zip(np.quantile(there, shares), shares, strict=True)
    ]


def _parts(columns: Columns, rows: Mask, *, label: str) -> Parts:
    def mean(values: Vector) -> float:
        return float(np.nan_to_num(values[rows]).mean())

    total_s, queue_s = mean(columns.total_s), mean(columns.wait_s)
    prefill_s, with_client_s = mean(columns.prefill_s), mean(columns.decode_s)
    whole = np.where(np.isnan(columns.first_s), columns.service_s, 0.0)
    engine_s = mean(whole)
    stall_s = np.fmin(np.nan_to_num(columns.stall_s), np.nan_to_num(columns.decode_s))
    client_s = mean(stall_s)
    asked = known(columns.predict_s[rows])
    return Parts(
        label=label,
        n=int(rows.sum()),
        total_s=total_s,
        queue_s=queue_s,
        prefill_s=prefill_s,
        decode_s=with_client_s - client_s,
        engine_s=engine_s,
        client_s=client_s,
        other_s=max(total_s - queue_s - prefill_s - with_client_s - engine_s, 0.0),
        predict_s=float(asked.mean()) if len(asked) else None,
        total_p99_s=float(np.quantile(columns.total_s[rows], 0.99)),
    )
