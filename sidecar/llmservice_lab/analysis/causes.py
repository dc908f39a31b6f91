"""Why was this request slow? Its seconds beyond the usual, each given to one of a closed set.

A request's time is taken apart: the wait into what stood before it and what overtook it, the time
to the first token by its prompt, the stream into pauses of the engine, pauses of the client and
length. The largest part is the cause. Every part can be checked by hand from the trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec
import numpy as np

from llmservice_lab.analysis.columns import Columns, Vector, known, quantile
from llmservice_lab.analysis.neighbours import Beside, Neighbours
from llmservice_lab.analysis.record import TracedRequest
from llmservice_lab.analysis.sampling import Sample


class Cause(StrEnum):
    """A closed set; public in `llmservice report --json`."""

    DEEP_QUEUE = "deep_queue"  # waited for those who came before it
    OVERTAKEN = "overtaken"  # waited for those who came after it
    LONG_PREFILL = "long_prefill"  # its prompt is far beyond the usual length
    ENGINE_QUEUE = "engine_queue"  # waited again, inside the engine
    ENGINE_PREEMPTED = "engine_preempted"  # paused while its neighbours went on; inferred
    ENGINE_SLOW = "engine_slow"  # paused or went slowly together with its neighbours
    SLOW_CLIENT = "slow_client"  # its answer was there and was not read
    LONG_ANSWER = "long_answer"  # more tokens than usual, at the usual pace
    REJECTED = "rejected"
    FAILED = "failed"


class Usual(msgspec.Struct, frozen=True, kw_only=True):
    """What is usual in this reading: a quiet quarter for paces, the middle for sizes."""

    prefill_s: float
    per_token_s: float
    gap_s: float
    prompt_tokens: float
    tokens: float


Numbers = dict[str, float | int | str | None]


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """The cause of one request, its seconds by cause, and the numbers they were made from."""

    row: int
    cause: Cause
    seconds: dict[Cause, float]
    numbers: Numbers


def usual_of(columns: Columns) -> Usual:
    """From the completed requests."""
    done = columns.completed

    def at(values: Vector, share: float) -> float:
        return quantile(values[done], share) or 0.0

    return Usual(
        prefill_s=at(columns.prefill_s, 0.25),
        per_token_s=at(columns.per_token_s, 0.25),
        gap_s=at(columns.gap_s, 0.5),
        prompt_tokens=at(columns.prompt_tokens, 0.5),
        tokens=at(columns.tokens, 0.5),
    )


class Explainer:
    """Explains requests of one reading by those that chance picked; without `sample`, by all."""

    def __init__(
        self,
        requests: Sequence[TracedRequest],
        columns: Columns,
        *,
        sample: Sample | None = None,
    ) -> None:
        self._requests = requests
        self._whole = sample is None or sample.whole
        # Beside a slow request, the slow ones alone would make it look usual.
        self._neighbours = Neighbours(columns, judges=None if sample is None else sample.judges)
        self.usual = usual_of(columns if sample is None else columns.only(sample.judges))

    def explain(self, row: int) -> Explained:
        """Why the request of this row took as long as it did."""
        one = self._requests[row]
        seconds: dict[Cause, float] = {}
        numbers: Numbers = {
            "outcome": one.outcome,
            "reason": one.reason,
        }
        if one.outcome == "rejected":
            return Explained(
                row=row,
                cause=Cause.REJECTED,
                seconds={Cause.REJECTED: one.total_s},
                numbers=numbers,
            )
        if one.queued_s is not None and one.left_queue_s is not None and one.wait_s > 0:
            self._explain_wait(row, seconds, numbers)
        if one.called_s is not None and one.engine_ended_s is not None:
            if one.first_token_s is None:
                self._explain_whole(one, seconds, numbers)
            else:
                self._explain_first_token(one, seconds, numbers)
                self._explain_stream(row, seconds, numbers)
        cause = max(seconds, key=lambda name: seconds[name], default=Cause.LONG_ANSWER)
        if one.outcome == "failed":
            cause = Cause.FAILED
        return Explained(row=row, cause=cause, seconds=_rounded(seconds), numbers=numbers)

    def _explain_wait(
        self,
        row: int,
        seconds: dict[Cause, float],
        numbers: Numbers,
    ) -> None:
        one = self._requests[row]
        assert one.queued_s is not None
        assert one.left_queue_s is not None
        work = self._neighbours.while_waiting(row, one.queued_s, one.left_queue_s)
        # Of a sample, the work of the few that are there says nothing.
        share = work.by_overtakers / work.total if work.total > 0 and self._whole else 0.0
        if work.overtakers < one.overtaken_by or not self._whole:
            # Not every overtaker's trace was kept: then who stood before it, against who overtook.
            before = (one.position or 0) + 1
            share = max(share, one.overtaken_by / (one.overtaken_by + before))
        if not one.overtaken_by:
            share = 0.0
        seconds[Cause.OVERTAKEN] = share * one.wait_s
        seconds[Cause.DEEP_QUEUE] = (1 - share) * one.wait_s
        numbers |= {
            "wait_s": one.wait_s,
            "position": one.position,
            "depth": one.depth,
            "overtaken_by": one.overtaken_by,
            "overtakers_share_of_work": round(share, 3),
            "slots_in_use": round(work.concurrency, 2) if self._whole else None,
        }

    def _explain_first_token(
        self,
        one: TracedRequest,
        seconds: dict[Cause, float],
        numbers: Numbers,
    ) -> None:
        assert one.prefill_s is not None
        excess_s = max(one.prefill_s - self.usual.prefill_s, 0.0)
        in_engine_queue_s = min(one.engine_queue_s or 0.0, excess_s)
        beyond = self._prompt_beyond_usual(one)
        rest_s = excess_s - in_engine_queue_s
        _add(seconds, Cause.ENGINE_QUEUE, in_engine_queue_s)
        _add(seconds, Cause.LONG_PREFILL, beyond * rest_s)
        _add(seconds, Cause.ENGINE_SLOW, (1 - beyond) * rest_s)
        numbers |= {
            "prefill_s": one.prefill_s,
            "usual_prefill_s": self.usual.prefill_s,
            "prompt_tokens": one.prompt_tokens,
            "usual_prompt_tokens": self.usual.prompt_tokens,
            "engine_queue_s": one.engine_queue_s,
        }

    def _prompt_beyond_usual(self, one: TracedRequest) -> float:
        """The share of its prompt that is beyond the usual length."""
        if not one.prompt_tokens:
            return 0.0
        return max(0.0, 1 - self.usual.prompt_tokens / one.prompt_tokens)

    def _explain_stream(
        self,
        row: int,
        seconds: dict[Cause, float],
        numbers: Numbers,
    ) -> None:
        one, usual = self._requests[row], self.usual
        decode_s = max(one.decode_s or 0.0, 0.0)
        stall_s = min(one.client_stall_s or 0.0, decode_s)
        by_engine_s = decode_s - stall_s
        tokens = one.actual_tokens
        if tokens is None:  # it did not come to its end: nobody counted
            tokens = round(by_engine_s / usual.per_token_s) if usual.per_token_s else 0
        paced_s = tokens * usual.per_token_s
        pause_s = min(max((one.longest_gap_s or 0.0) - usual.gap_s, 0.0), by_engine_s)
        beside = self._neighbours.beside(row)
        rest_s = max(by_engine_s - paced_s - pause_s, 0.0)
        together_s = self._together(beside, tokens=tokens, rest_s=rest_s)
        alone = beside.count > 0 and beside.share_with_gap < 0.5
        _add(seconds, Cause.SLOW_CLIENT, stall_s)
        _add(seconds, Cause.ENGINE_PREEMPTED if alone else Cause.ENGINE_SLOW, pause_s)
        _add(seconds, Cause.ENGINE_SLOW, together_s)
        _add(seconds, Cause.ENGINE_PREEMPTED, rest_s - together_s)
        _add(seconds, Cause.LONG_ANSWER, max(tokens - usual.tokens, 0.0) * usual.per_token_s)
        numbers |= {
            "decode_s": decode_s,
            "output_tokens": tokens,
            "usual_output_tokens": usual.tokens,
            "usual_per_token_s": usual.per_token_s,
            "neighbours": beside.count,
            "neighbours_per_token_s": beside.per_token_s,
            "neighbours_with_such_a_gap": round(beside.share_with_gap, 3),
            "longest_gap_s": one.longest_gap_s,
            "client_stall_s": one.client_stall_s,
        }

    def _together(self, beside: Beside, *, tokens: int, rest_s: float) -> float:
        """Of the slow seconds, those that the neighbours had too; all, where it had none."""
        if beside.per_token_s is None:
            return rest_s
        return min(rest_s, max(beside.per_token_s - self.usual.per_token_s, 0.0) * tokens)

    def _explain_whole(
        self,
        one: TracedRequest,
        seconds: dict[Cause, float],
        numbers: Numbers,
    ) -> None:
        """An answer in one piece, or one that broke off before its first token."""
        usual, service_s = self.usual, one.service_s or 0.0
        tokens = one.actual_tokens or 0
        in_engine_queue_s = min(one.engine_queue_s or 0.0, service_s)
        paced_s = tokens * usual.per_token_s + usual.prefill_s + in_engine_queue_s
        rest_s = max(service_s - paced_s, 0.0)
        beyond = self._prompt_beyond_usual(one)
        _add(seconds, Cause.ENGINE_QUEUE, in_engine_queue_s)
        _add(seconds, Cause.LONG_PREFILL, beyond * rest_s)
        _add(seconds, Cause.ENGINE_SLOW, (1 - beyond) * rest_s)
        _add(seconds, Cause.LONG_ANSWER, max(tokens - usual.tokens, 0.0) * usual.per_token_s)
        numbers |= {
            "service_s": service_s,
            "output_tokens": tokens,
            "usual_output_tokens": usual.tokens,
            "prompt_tokens": one.prompt_tokens,
            "usual_prompt_tokens": usual.prompt_tokens,
            "engine_queue_s": one.engine_queue_s,
        }


def slow_rows(columns: Columns, threshold_s: float) -> list[int]:
    """The rows of the requests that took longer, the slowest first."""
    rows = np.flatnonzero(columns.total_s > threshold_s)
    return [int(row) for row in rows[np.argsort(-columns.total_s[rows], kind="stable")]]


def usual_threshold_s(columns: Columns) -> float:
    """What counts as slow where nobody says: longer than 95 % of the completed."""
    done = known(columns.total_s[columns.completed])
    return float(np.quantile(done, 0.95)) if len(done) else 0.0


def _add(seconds: dict[Cause, float], cause: Cause, more_s: float) -> None:
    if more_s > 0:
        seconds[cause] = seconds.get(cause, 0.0) + more_s


def _rounded(seconds: dict[Cause, float]) -> dict[Cause, float]:
    return {
        cause: round(value, 6)
        for cause, value in sorted(seconds.items(), key=lambda item: -item[1])
        if value > 0
    }
