"""A queue as lines of text for a terminal of any width. Pure: asks nobody, reads no clock."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from llmservice_api.queue_view import PredictedLength, QueueView, RunningRow, WaitingRow

from llmservice_local.queue_reasons import limited_by, why
from llmservice_local.queue_sources import Replica

WIDE: Final = 130  # columns from which more is told of each request
_GAP: Final = 2
_LEAST_LAST: Final = 16  # of the last column
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Column(Generic[_T]):
    """One column: its cells are cut to `most` characters."""

    title: str
    cell: Callable[[_T], str]
    most: int = 1000
    right: bool = False


@dataclass(frozen=True, slots=True)
class _Of(Generic[_T]):
    """A row and the replica that told it."""

    pod: str
    replica: Replica
    row: _T


def queue_lines(title: str, replicas: Sequence[Replica], *, width: int, rows: int) -> list[str]:
    """The whole view: replicas, those in flight, those who wait; at most `rows` of each kind.

    Everything that clients named is printed with `?` for what is not printable.
    """
    wide = width >= WIDE
    # The longest running first; of those who wait the first of each replica, with its own order.
    running = _rows(replicas, lambda view: view.in_flight)
    running.sort(key=lambda of: -of.row.running_s)
    waiting = _rows(replicas, lambda view: view.waiting)
    waiting.sort(key=lambda of: of.row.position)
    totals = [replica.view for replica in replicas if replica.view is not None]
    in_flight = sum(view.in_flight_requests for view in totals)
    queued = sum(view.queue.queued_requests for view in totals)
    silent = len(replicas) - len(totals)
    head = f"{title}: {in_flight} in flight, {queued} waiting"
    head += f"; {silent} of {len(replicas)} did not answer" if silent else ""
    lines = [_cut(head, width), "", *_replica_lines(replicas, width=width)]
    several = len(replicas) > 1
    if running:
        columns = _running_columns(wide=wide, several=several)
        lines += ["", _heading("In flight", len(running[:rows]), in_flight)]
        lines += _table(columns, running[:rows], width)
    if waiting:
        columns = _waiting_columns(wide=wide, several=several)
        lines += ["", _heading("Waiting", len(waiting[:rows]), queued)]
        lines += _table(columns, waiting[:rows], width)
    return lines


def seconds(value: float | None) -> str:
    """3.2s, 42s, 2m05s, 1h02m; a dash for what is not known."""
    if value is None:
        return "-"
    if value < 9.95:
        return f"{max(value, 0.0):.1f}s"
    whole = round(value)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def printable(text: str) -> str:
    """What a client called itself, without what a terminal would act on."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _replica_lines(replicas: Sequence[Replica], *, width: int) -> list[str]:
    columns: list[_Column[Replica]] = [
        _Column("POD", lambda one: one.name, 30 if width < WIDE else 63),
        _Column("SLOTS", _slots, right=True),
        _Column("WAIT", _queued, right=True),
        _Column("BACKLOG", _backlog, right=True),
        _Column("ORDER", _order),
        _Column("LIMIT, GUARD", _state),
    ]
    return _table(columns, replicas, width)


def _queued(replica: Replica) -> str:
    return _figure(replica, lambda view: str(view.queue.queued_requests))


def _backlog(replica: Replica) -> str:
    # 0 while requests are here: what they cost is not known yet.
    return _figure(
        replica,
        lambda view: seconds(
            None if view.in_flight_requests and not view.queue.backlog_s else view.queue.backlog_s
        ),
    )


def _order(replica: Replica) -> str:
    return _figure(replica, lambda view: view.queue.order)


def _slots(replica: Replica) -> str:
    return _figure(replica, lambda v: f"{v.queue.in_flight_slots}/{v.queue.limit_slots}")


def _state(replica: Replica) -> str:
    view = replica.view
    if view is None:
        return f"NO ANSWER: {replica.error}"
    guard = view.guard
    trust = "trusted" if guard.trusted else "NOT TRUSTED: arrival order"
    if guard.mode != "Enforce":
        trust = f"mode {guard.mode}: arrival order"
    tau = "" if guard.tau is None else f", tau {guard.tau:.2f}"
    draining = "DRAINING; " if view.draining else ""
    return f"{draining}{limited_by(view.queue.limit_reason)}; {trust}{tau}"


def _running_columns(*, wide: bool, several: bool) -> list[_Column[_Of[RunningRow]]]:
    columns: list[_Column[_Of[RunningRow]]] = [
        *([_Column[_Of[RunningRow]]("POD", _pod, 12)] if several else []),
        _Column("ID", lambda of: printable(of.row.id), 36 if wide else 14),
        _Column("TENANT", lambda of: printable(of.row.tenant or "-"), 24 if wide else 10),
        _Column("RUNS", lambda of: seconds(of.row.running_s), right=True),
        _Column("TOKENS", lambda of: str(of.row.tokens), right=True),
        _Column("OF P50/P90", lambda of: _length(of.row.predicted), right=True),
        _Column("ENDS IN", lambda of: seconds(of.row.ends_in_s), right=True),
    ]
    details: list[_Column[_Of[RunningRow]]] = [
        _Column("PREDICTED BY", lambda of: of.row.predicted.source, 20),
        _Column("PROMPT", lambda of: str(of.row.prompt_tokens), right=True),
        _Column("SLOTS", lambda of: str(of.row.slots), right=True),
        _Column("PRIO", lambda of: str(of.row.priority), right=True),
        _Column("WAITED", lambda of: seconds(of.row.waited_s), right=True),
        _Column("REMARK", lambda of: "promoted: waited too long" if of.row.promoted else ""),
    ]
    return [*columns, *details] if wide else columns


def _waiting_columns(*, wide: bool, several: bool) -> list[_Column[_Of[WaitingRow]]]:
    columns: list[_Column[_Of[WaitingRow]]] = [
        _Column("#", lambda of: str(of.row.position + 1), right=True),
        *([_Column[_Of[WaitingRow]]("POD", _pod, 12)] if several else []),
        _Column("ID", lambda of: printable(of.row.id), 36 if wide else 14),
        _Column("TENANT", lambda of: printable(of.row.tenant or "-"), 24 if wide else 10),
        _Column("WAITED", lambda of: seconds(of.row.waited_s), right=True),
        _Column("P50/P90", lambda of: _length(of.row.predicted), right=True),
        _Column("STARTS", lambda of: seconds(of.row.starts_in_s), right=True),
    ]
    details: list[_Column[_Of[WaitingRow]]] = [
        _Column("PREDICTED BY", lambda of: of.row.predicted.source, 20),
        _Column("PRIO", lambda of: str(of.row.priority), right=True),
        _Column("KEY", lambda of: _key(of.row.key), 16, right=True),
        _Column("OVERTAKEN", lambda of: f"{of.row.overtaken_by}x", right=True),
        _Column("OVERTAKABLE", lambda of: _overtakable(of.row.overtakable_s), right=True),
        _Column("DEADLINE", lambda of: seconds(of.row.deadline_in_s), right=True),
    ]
    return [*columns, *(details if wide else []), _Column("WHY NOT NOW", _why)]


def _pod(of: _Of[RunningRow] | _Of[WaitingRow]) -> str:
    return of.pod


def _why(of: _Of[WaitingRow]) -> str:
    assert of.replica.view is not None
    return why(of.row, of.replica.view.queue)


def _rows(
    replicas: Sequence[Replica], rows_of: Callable[[QueueView], Sequence[_T]]
) -> list[_Of[_T]]:
    return [
        _Of(name, replica, row)
        for name, replica in zip(_short_names(replicas), replicas, strict=True)
        if replica.view is not None
        for row in rows_of(replica.view)
    ]


def _short_names(replicas: Sequence[Replica]) -> list[str]:
    """What tells pods of one service apart: the end of their names."""
    ends = [replica.name.rpartition("-")[2] for replica in replicas]
    return ends if len(set(ends)) == len(ends) else [replica.name for replica in replicas]


def _length(predicted: PredictedLength) -> str:
    middle = predicted.p50
    first = f"~{_whole(predicted.mean)}" if middle is None else _whole(middle)
    return f"{first}/{_whole(predicted.p90)}"


def _whole(tokens: float | None) -> str:
    return "?" if tokens is None else f"{tokens:.0f}"


def _key(key: Sequence[float | None]) -> str:
    return " ".join("inf" if part is None else f"{part:.2f}" for part in key)


def _overtakable(left_s: float | None) -> str:
    if left_s is None:
        return "-"
    return seconds(left_s) if left_s > 0 else "no more"


def _figure(replica: Replica, figure: Callable[[QueueView], str]) -> str:
    return "-" if replica.view is None else figure(replica.view)


def _heading(what: str, shown: int, total: int) -> str:
    return f"{what} ({total})" if shown >= total else f"{what} (first {shown} of {total})"


def _table(columns: Sequence[_Column[_T]], rows: Sequence[_T], width: int) -> list[str]:
    """Header and rows; what does not fit into the last column goes on below it."""
    *firsts, last = columns
    cells = [[_cut(column.cell(row), column.most) for column in firsts] for row in rows]
    widths = [
        max(len(column.title), *(len(line[at]) for line in cells))
        for at, column in enumerate(firsts)
    ]
    left = sum(space + _GAP for space in widths)
    lines: list[str] = []
    titles = [column.title for column in firsts]
    for line, text in zip([titles, *cells], [last.title, *map(last.cell, rows)], strict=True):
        begin = "".join(
            (cell.rjust(space) if column.right else cell.ljust(space)) + " " * _GAP
            for cell, column, space in zip(line, firsts, widths, strict=True)
        )
        first, *rest = textwrap.wrap(text, max(width - left, _LEAST_LAST)) or [""]
        lines += [f"{begin}{first}", *(f"{' ' * left}{more}" for more in rest)]
    return [_cut(line.rstrip(), width) for line in lines]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: max(most - 1, 0)]}…"
