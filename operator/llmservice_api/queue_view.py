"""What a sidecar tells of its queue, one by one: the versioned JSON of `GET 127.0.0.1:9091/queue`.

Sizes, names and times only: there is no text of a request in it.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from llmservice_api.status_report import QueueReport

QUEUE_VIEW_VERSION = 1
DEFAULT_ROWS: Final = 20
MOST_ROWS: Final = 256  # of each kind in one answer: what an answer costs the sidecar is bounded

_Count = Annotated[int, msgspec.Meta(ge=0)]


class PredictedLength(msgspec.Struct, frozen=True, kw_only=True):
    """Predicted output tokens of one answer, and who said so: model, history, prior, ..."""

    mean: float | None = None  # None: no number was said
    p50: float | None = None
    p90: float | None = None
    source: str


class AheadCounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who stands before a request, each counted for one reason; the sum is its position."""

    higher_priority: _Count = 0
    arrived_earlier: _Count = 0
    smaller_key: _Count = 0  # arrived later; under SSJF: a shorter prediction
    fair_share: _Count = 0  # of tenants that have been served less
    promoted: _Count = 0  # have waited beyond the promotion age
    unheld: _Count = 0  # of lower priorities, while the cap of its own holds it


class WaitingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A request that waits. Times are seconds; `tenant` is None where none is named."""

    id: str
    tenant: str | None
    priority: int
    slots: int
    prompt_tokens: int
    waited_s: float
    predicted: PredictedLength
    key: list[float | None]
    position: _Count  # how many would run before it; 0 is next
    starts_in_s: float | None  # None: nothing is known yet, or it is too wide to start
    # Why it does not run, whoever waits: slots | max_concurrency | time_per_output_token |
    # kv_cache | priority_cap | too_wide; empty: it waits for those before it.
    held_by: str = ""
    ahead: AheadCounts
    overtaken_by: int  # later arrivals that were admitted meanwhile
    overtakable_s: float | None  # for so much longer can new arrivals overtake; None: no promise
    deadline_in_s: float | None


class RunningRow(msgspec.Struct, frozen=True, kw_only=True):
    """A request in flight. `tokens` are of its last news: a few times an answer, not each token."""

    id: str
    tenant: str | None
    priority: int
    slots: int
    prompt_tokens: int
    waited_s: float  # before it was admitted
    running_s: float  # since then
    tokens: _Count
    predicted: PredictedLength
    ends_in_s: float | None  # None: nothing is known yet
    promoted: bool = False


class GuardView(msgspec.Struct, frozen=True, kw_only=True):
    """May predictions order the queue? `trusted` False: arrival order, whatever the policy."""

    mode: str
    trusted: bool
    samples: int = 0
    tau: float | None = None


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """One replica's queue. Both lists are cut; the counts are of all."""

    version: int = QUEUE_VIEW_VERSION
    queue: QueueReport
    guard: GuardView
    draining: bool
    in_flight_requests: _Count
    in_flight: list[RunningRow]  # the earliest admitted first
    waiting: list[WaitingRow]  # in the order in which they would run


def decode_queue_view(payload: bytes) -> QueueView:
    """Parse a view. Raises msgspec.DecodeError with the JSON path of what is wrong."""
    view = msgspec.json.decode(payload, type=QueueView)
    if view.version != QUEUE_VIEW_VERSION:
        raise msgspec.ValidationError(
            f"queue view version {view.version} is not supported; supported: {QUEUE_VIEW_VERSION}"
        )
    return view
