"""What a person writes for times and limits, as a selection."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from typing import Final

from llmservice_lab.analysis.readers.assembly import Selection

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def selection_of(
    *, since: str | None, until: str | None, service: str | None, limit: int
) -> Selection:
    """The selection in words. Raises ValueError naming the option."""
    now_s = time.time()
    since_s = -math.inf if since is None else unix_s(since, option="--since", now_s=now_s)
    until_s = math.inf if until is None else unix_s(until, option="--until", now_s=now_s)
    if since_s >= until_s:
        raise ValueError(f"--since {since} is not before --until {until}")
    return Selection(since_s=since_s, until_s=until_s, service=service, limit=limit)


def unix_s(text: str, *, option: str, now_s: float) -> float:
    """Unix seconds of `30m` (ago) or an ISO 8601 time (UTC unless it says). Raises ValueError."""
    if ago := _AGO.fullmatch(text):
        return now_s - float(ago[1]) * _UNITS[ago[2]]
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{option}: {text!r} is neither a time such as 2026-07-01T09:00Z nor one such as 30m, "
            "which means ago (units: s, m, h, d)"
        ) from error
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
