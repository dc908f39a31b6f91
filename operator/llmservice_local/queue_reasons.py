"""Why a request does not run now, in words. Pure."""

from __future__ import annotations

from typing import Final

from llmservice_api.queue_view import WaitingRow
from llmservice_api.status_report import QueueReport

_LIMITS: Final = {
    "slots": "slots",
    "max_concurrency": "maxConcurrency",
    "time_per_output_token": "time per output token",
    "kv_cache": "KV cache",
}


def limited_by(reason: str) -> str:
    """What sets the limit."""
    return f"limit: {_LIMITS.get(reason, reason)}"


def why(row: WaitingRow, queue: QueueReport) -> str:
    """The reason of its own, then those who stand before it."""
    parts = [_held(row, queue)] if row.held_by else []
    if behind := _behind(row, queue.order):
        parts.append(f"behind {behind}")
    return "; ".join(parts)


def _held(row: WaitingRow, queue: QueueReport) -> str:
    wants = "" if row.slots == 1 else f", wants {row.slots}"
    in_use = f"{queue.in_flight_slots} of {queue.limit_slots} in use{wants}"
    of_its_own = {
        "kv_cache": f"{_LIMITS['kv_cache']}: no room beside what runs",
        "priority_cap": f"priority {row.priority} has all its slots{wants}",
        "too_wide": f"wants {row.slots} slots, the limit is {queue.limit_slots}",
    }
    if row.held_by in of_its_own:
        return of_its_own[row.held_by]
    return f"{_LIMITS[row.held_by]}: {in_use}" if row.held_by in _LIMITS else row.held_by


def _behind(row: WaitingRow, order: str) -> str:
    ahead = row.ahead
    smaller = "shorter" if order == "SSJF" else f"by {order}'s key"
    counts = (
        (ahead.higher_priority, "higher priority"),
        (ahead.smaller_key, smaller),
        (ahead.arrived_earlier, "earlier"),
        (ahead.fair_share, "fair share"),
        (ahead.promoted, "promoted"),
        (ahead.unheld, "lower priority"),
    )
    return ", ".join(f"{count} {name}" for count, name in counts if count)
