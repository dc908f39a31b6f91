"""One request as its trace tells it. Knows nothing of where traces are kept.

This is the only form in which requests reach reports and replays. It holds no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from llmservice_sidecar.runtime.tail_rule import HEAD


class TracedRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Points in time are Unix seconds, durations seconds; None: the trace does not say.

    `predicted_*` and `actual_tokens` are of one answer, `output_tokens` of all `slots` answers.
    `prompt_tokens` is what the engine counted, else what the sidecar estimated.
    """

    request_id: str
    trace_id: str
    service: str
    pod: str  # "" where the resource names none
    door: str
    arrived_s: float  # at the door
    ended_s: float
    outcome: str
    reason: str
    model: str = ""
    tenant: str | None = None
    priority: int = 0  # of two the larger is served first
    stream: bool | None = None
    policy: str = ""  # what is configured
    order: str = ""  # what was served
    tail_weight: float | None = None  # of the configured policy
    slots: int = 1
    prompt_tokens: int | None = None
    max_tokens: int | None = None
    timeout_s: float | None = None  # the client's own limit
    sampled_by: str = ""  # "head"; "error" or "slow": kept at its end although the head did not

    predicted_tokens: float | None = None  # the mean
    predicted_p50: float | None = None
    predicted_p90: float | None = None
    prediction_source: str = ""
    predict_s: float | None = None  # how long the predictor took, beside the wait
    actual_tokens: int | None = None
    output_tokens: int | None = None

    queued_s: float | None = None  # offered to the gate; None: refused by the door itself
    left_queue_s: float | None = None  # admitted, or left without a turn
    queue_wait_s: float | None = None
    expected_wait_s: float | None = None
    position: int | None = None  # how many stood before it when it came
    depth: int | None = None  # how many waited when it came, itself included
    key: float | None = None  # when it left the queue
    gamma_per_s: float | None = None
    limit_slots: int | None = None  # how many could be in flight when it left the queue
    overtook: int = 0
    overtaken_by: int = 0
    overtaken_by_ids: tuple[str, ...] = ()  # the first eight

    called_s: float | None = None  # the engine; None: it never had a turn
    first_token_s: float | None = None  # None: not streamed, or nothing came
    engine_ended_s: float | None = None
    longest_gap_s: float | None = None  # between two chunks of the engine after the first
    client_stall_s: float | None = None  # the answer waited for the client to take it
    engine_queue_s: float | None = None  # by the engine's own span, for head-sampled requests

    @property
    def total_s(self) -> float:
        """From the door to the end."""
        return self.ended_s - self.arrived_s

    @property
    def waited(self) -> bool:
        """Whether it stood in the queue, even if only for an instant."""
        return self.position is not None

    @property
    def wait_s(self) -> float:
        """In our queue; 0 for who never stood there."""
        return self.queue_wait_s or 0.0

    @property
    def admitted(self) -> bool:
        """Whether it had its turn at the engine."""
        return self.called_s is not None

    @property
    def prefill_s(self) -> float | None:
        """From the call of the engine to its first token."""
        if self.called_s is None or self.first_token_s is None:
            return None
        return self.first_token_s - self.called_s

    @property
    def decode_s(self) -> float | None:
        """From the first token to the engine's last."""
        if self.engine_ended_s is None or self.first_token_s is None:
            return None
        return self.engine_ended_s - self.first_token_s

    @property
    def service_s(self) -> float | None:
        """At the engine, as long as it held its slots."""
        if self.called_s is None or self.engine_ended_s is None:
            return None
        return self.engine_ended_s - self.called_s

    @property
    def kept_at_its_end(self) -> bool:
        """Whether the trace is there only because of how the request ended."""
        return self.sampled_by not in ("", HEAD)

    @property
    def completed(self) -> bool:
        """Whether the client got a whole answer."""
        return self.outcome == "completed"


class Told(msgspec.Struct, kw_only=True):
    """What was read and what was left out, for the reader of a report to judge by."""

    spans: int = 0
    foreign_spans: int = 0  # of other programs, in or beside the traces
    broken_spans: int = 0  # not readable; `examples` says why, of the first few
    incomplete: int = 0  # traces with spans of ours but without the door's
    cut_off: int = 0  # moments of which a store would not tell all traces
    left_out: int = 0  # requests beyond the limit or outside the time asked for
    examples: list[str] = msgspec.field(default_factory=list[str])

    def broken(self, why: str) -> None:
        """Count a span that cannot be read."""
        self.broken_spans += 1
        if len(self.examples) < 5:
            self.examples.append(why)


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """Requests in order of arrival, from `source`."""

    source: str
    requests: Sequence[TracedRequest]
    told: Told


def iso(unix_s: float) -> str:
    """A point in time as ISO 8601 with milliseconds, UTC."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")
