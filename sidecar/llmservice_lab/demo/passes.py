"""The measurement: capacity, the passes in balanced order, capacity again.

Knows a server only by its address and by how its policy is switched; starts and stops nothing.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from llmservice_lab.arrivals import Recorded, arrival_times
from llmservice_lab.calls import CallFactory
from llmservice_lab.capacity import completed_per_second
from llmservice_lab.gains import BASELINE, short_name
from llmservice_lab.load import LoadClient, Reply, replay
from llmservice_lab.progress import Stage
from llmservice_lab.workload import WorkloadRequest

CONTENDER: Final = "SSJF"
DEFAULT: Final = "default"
TARGET_LOAD: Final = 0.92
WARM_UP_REQUESTS: Final = 24
# A pass should take about this long; on a slow machine it has fewer requests, but never fewer
# than leave 300 after the warm-up of a tenth.
PASS_S: Final = 42.0
LEAST_REQUESTS: Final = 340
# A pass in which a token took this much longer than in the quietest one measured something else.
DISTURBED: Final = 1.25
REPEATS: Final = 1
_POLL_S: Final = 0.1
_SETTLE_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server under measurement, as the passes need it."""

    slots: int
    # Forget all requests so far, predict by this predictor from now on; returns the base URL.
    start_over: Callable[[str], Awaitable[str]]
    queued: Callable[[], Awaitable[int]]  # requests waiting or running now
    set_policy: Callable[[str], Awaitable[None]]  # returns when the policy is in force


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One replay: who was asked what is in the workload, what came back is in `replies`.

    `started_s` is on the generator's clock, `epoch_offset_s` turns that clock into Unix time.
    """

    index: int
    policy: str
    predictor: str = DEFAULT
    started_s: float
    epoch_offset_s: float
    replies: Sequence[Reply]

    @property
    def token_s(self) -> float:
        """Seconds per token once an answer had begun: the machine's speed, whatever the order."""
        return seconds_per_token(self.replies)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All that was measured. `capacity_rps` is the mean of before and after.

    `repeated` names the passes that were measured once more because the machine was disturbed.
    """

    rows: Sequence[WorkloadRequest]  # those of the workload that every pass replayed
    capacity_before_rps: float
    capacity_after_rps: float
    offered_rps: float
    passes: Sequence[Pass]
    repeated: Sequence[str] = ()

    @property
    def capacity_rps(self) -> float:
        """Requests a second that the server can complete, over the whole measurement."""
        return (self.capacity_before_rps + self.capacity_after_rps) / 2

    @property
    def offered_load(self) -> float:
        """Offered requests a second as a share of capacity."""
        return self.offered_rps / self.capacity_rps


@dataclass(frozen=True, slots=True)
class Turn:
    """What one pass is served by."""

    policy: str
    predictor: str

    @property
    def label(self) -> str:
        """For the progress bar and for remarks."""
        if self.predictor == DEFAULT:
            return self.policy
        return f"{self.policy}, {short_name(self.predictor)}"


def turns(predictors: Sequence[str]) -> list[Turn]:
    """Balanced: a drift of the machine over time meets all of them alike."""
    once = [Turn(BASELINE, predictors[0]), *(Turn(CONTENDER, each) for each in predictors)]
    return [*once, *reversed(once)]


class PassFailed(RuntimeError):
    """A pass is worthless: requests failed, or the queue did not empty; the message says which."""


class Measurer:
    """Runs the passes of one workload against one server, with one client."""

    def __init__(
        self,
        client: LoadClient,
        server: Server,
        *,
        rows: Sequence[WorkloadRequest],
        factory: CallFactory,
        predictors: Sequence[str],
        stage: Stage,
    ) -> None:
        self._client = client
        self._turns = turns(predictors)
        self._server = server
        self._rows = rows
        self._factory = factory
        self._stage = stage
        self._quietest_s = math.inf
        self._repeated: list[str] = []

    async def run(self) -> Measurement:
        """Warm-up, capacity, every turn's pass, capacity. Raises PassFailed."""
        await self._server.set_policy(BASELINE)
        first = await self._all_at_once("warm-up", self._rows[:WARM_UP_REQUESTS])
        self._rows = self._rows[: self._affordable(seconds_per_token(first))]
        before_rps = await self._capacity("capacity")
        offered_rps = TARGET_LOAD * before_rps
        arrivals_s = arrivals_at(self._rows, rate_rps=offered_rps)
        passes: list[Pass] = []
        for index, turn in enumerate(self._turns, start=1):
            label = f"pass {index}/{len(self._turns)} {turn.label}"
            passes.append(await self._steady_pass(index, label=label, arrivals_s=arrivals_s))
        await self._server.set_policy(BASELINE)
        after_rps = await self._capacity("capacity again")
        return Measurement(
            rows=self._rows,
            capacity_before_rps=before_rps,
            capacity_after_rps=after_rps,
            offered_rps=offered_rps,
            passes=passes,
            repeated=self._repeated,
        )

    def _affordable(self, token_s: float) -> int:
        """How many requests a pass can have on a machine of this speed."""
        tokens = math.fsum(row.output_tokens for row in self._rows) / len(self._rows)
        capacity_rps = self._server.slots / (tokens * token_s)
        return max(LEAST_REQUESTS, round(TARGET_LOAD * capacity_rps * PASS_S))

    async def _capacity(self, label: str) -> float:
        replies = await self._all_at_once(label, self._rows)
        self._quietest_s = min(self._quietest_s, seconds_per_token(replies))
        return completed_per_second([reply.done_s for reply in replies])

    async def _all_at_once(self, label: str, rows: Sequence[WorkloadRequest]) -> list[Reply]:
        return await self._replay(label, rows, [0.0] * len(rows))

    async def _steady_pass(self, index: int, *, label: str, arrivals_s: Sequence[float]) -> Pass:
        """One pass; measured again when the machine was much slower than before, for any policy."""
        measured = await self._pass(index, label=label, arrivals_s=arrivals_s)
        if measured.token_s > DISTURBED * self._quietest_s and len(self._repeated) < REPEATS:
            self._repeated.append(label)
            again = f"{label}, again (the machine was disturbed)"
            measured = await self._pass(index, label=again, arrivals_s=arrivals_s)
        self._quietest_s = min(self._quietest_s, measured.token_s)
        return measured

    async def _pass(self, index: int, *, label: str, arrivals_s: Sequence[float]) -> Pass:
        # Every pass begins with a gate that knows nothing: what it learned of the work in the
        # system from the capacity run, all at once, would spoil the order of the next pass.
        turn = self._turns[index - 1]
        self._client.target = await self._server.start_over(turn.predictor)
        await self._server.set_policy(turn.policy)
        epoch_offset_s = time.time() - time.monotonic()
        started_s = time.monotonic()
        replies = await self._replay(label, self._rows, arrivals_s)
        return Pass(
            index=index,
            policy=turn.policy,
            predictor=turn.predictor,
            started_s=started_s,
            epoch_offset_s=epoch_offset_s,
            replies=replies,
        )

    async def _replay(
        self, label: str, rows: Sequence[WorkloadRequest], arrivals_s: Sequence[float]
    ) -> list[Reply]:
        ids = random.SystemRandom()
        calls = [self._factory.call(row, rng=ids) for row in rows]
        done = 0
        with self._stage(label, len(rows)) as update:

            async def send(index: int, due_s: float) -> Reply:
                nonlocal done
                reply = await self._client.send(calls[index], due_s=due_s)
                done += 1
                update(done, "")
                return reply

            replies = await replay(arrivals_s, send)
        _refuse_failures(label, replies)
        await self._await_empty(label)
        return replies

    async def _await_empty(self, label: str) -> None:
        deadline = time.monotonic() + _SETTLE_TIMEOUT_S
        while (left := await self._server.queued()) > 0:
            if time.monotonic() > deadline:
                raise PassFailed(f"{label}: {left} requests are left after the last answer")
            await asyncio.sleep(_POLL_S)


def arrivals_at(rows: Sequence[WorkloadRequest], *, rate_rps: float) -> list[float]:
    """The recorded arrivals, stretched so that their mean rate is `rate_rps`; starts at 0."""
    return arrival_times(
        Recorded(),
        [row.arrival_s for row in rows],
        rate_per_s=rate_rps,
        capacity_per_s=rate_rps,
        rng=random.Random(0),  # noqa: S311 - recorded arrivals draw nothing
    )


def seconds_per_token(replies: Sequence[Reply]) -> float:
    """Streaming seconds over streamed tokens, of all answers together."""
    streamed = [(one.done_s - one.first_s, one.output_tokens - 1) for one in replies if one.first_s]
    return math.fsum(s for s, _ in streamed) / max(sum(tokens for _, tokens in streamed), 1)


def _refuse_failures(label: str, replies: Sequence[Reply]) -> None:
    failed = [reply for reply in replies if not reply.completed]
    if failed:
        raise PassFailed(
            f"{label}: {len(failed)} of {len(replies)} requests failed; first: {failed[0].error}"
        )
