"""Open-loop measurement of any OpenAI server with a recorded workload. Prints nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypedDict

import aiohttp
from llmservice_sidecar.core.request import Outcome

from llmservice_lab import provenance
from llmservice_lab.arrivals import arrival_times, parse_arrivals
from llmservice_lab.calls import (
    CallFactory,
    Forcing,
    common_max_tokens,
    first_model,
    probe_forcing,
)
from llmservice_lab.capacity import completed_per_second
from llmservice_lab.load import LoadClient, Reply, replay
from llmservice_lab.progress import Stage
from llmservice_lab.results import RequestRecord, RunLabels, RunSummary, summarise
from llmservice_lab.workload import WorkloadRequest, load_workload

_BY_STATUS: Final = {429: Outcome.REJECTED, 504: Outcome.EVICTED}


class BenchError(RuntimeError):
    """The measurement cannot be made; the message names the cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What is sent where, and how fast. At most one of `rate_rps` and `load` is given."""

    target: str
    workload: Path
    model: str | None = None
    requests: int | None = None
    rate_rps: float | None = None
    load: float | None = None  # share of the capacity that is measured first
    arrivals: str = "recorded"
    max_tokens: int | None = None
    force_lengths: bool = True
    timeout_s: float = 600.0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    label: str = "server"
    slots: int = 0
    seed: int = 1


class BenchResult(TypedDict):
    """The JSON of one measurement."""

    commit: str
    seed: int
    hardware: str
    workload: str
    target: str
    model: str
    max_tokens: int
    lengths: str
    capacity_rps: float | None
    offered_rps: float
    offered_load: float | None
    sent_late_max_s: float  # the generator's own delay; large: its machine was too busy
    errors: dict[str, int]
    runs: list[RunSummary]


async def run_bench(options: BenchOptions, stage: Stage) -> BenchResult:
    """Probe, measure capacity if a load is wanted, replay, summarise.

    Raises BenchError, WorkloadError and ValueError (arrivals).
    """
    rows = load_workload(options.workload)[: options.requests]
    async with LoadClient(
        options.target, timeout_s=options.timeout_s, headers=options.headers
    ) as client:
        factory, forcing = await _prepare(client, options, rows)
        bench = _Bench(client, factory, rows, stage=stage, seed=options.seed)
        capacity_rps = await bench.capacity() if options.load is not None else None
        rate_rps = options.rate_rps
        if options.load is not None and capacity_rps is not None:
            rate_rps = options.load * capacity_rps
        arrivals_s = arrival_times(
            parse_arrivals(options.arrivals),
            [row.arrival_s for row in rows],
            rate_per_s=rate_rps,
            capacity_per_s=capacity_rps or rate_rps or 1.0,
            rng=random.Random(options.seed),  # noqa: S311 - repeatable arrivals, no secret
        )
        replies = await bench.send("replay", arrivals_s, rows)
    return _result(options, factory, forcing, replies=replies, capacity_rps=capacity_rps)


class _Bench:
    """One workload against one server."""

    def __init__(
        self,
        client: LoadClient,
        factory: CallFactory,
        rows: Sequence[WorkloadRequest],
        *,
        stage: Stage,
        seed: int,
    ) -> None:
        self._client = client
        self._rows = rows
        self._stage = stage
        self._rng = random.Random(seed)  # noqa: S311 - trace ids, no secret
        self._factory = factory

    async def capacity(self) -> float:
        """Completed requests a second with all of them there from the start."""
        # All at once no deadline could be kept: what is refused would be missing in the figure.
        rows = [replace(row, deadline_s=None) for row in self._rows]
        replies = await self.send("capacity", [0.0] * len(rows), rows)
        try:
            return completed_per_second([one.done_s for one in replies if one.completed])
        except ValueError as error:
            raise BenchError(f"capacity: {error}; first error: {_first_error(replies)}") from error

    async def send(
        self, label: str, arrivals_s: Sequence[float], rows: Sequence[WorkloadRequest]
    ) -> list[Reply]:
        calls = [self._factory.call(row, rng=self._rng) for row in rows]
        done = failed = 0
        with self._stage(label, len(calls)) as update:

            async def one(index: int, due_s: float) -> Reply:
                nonlocal done, failed
                reply = await self._client.send(calls[index], due_s=due_s)
                done += 1
                failed += not reply.completed
                update(done, f"{failed} failed" if failed else "")
                return reply

            return await replay(arrivals_s, one)


async def _prepare(
    client: LoadClient, options: BenchOptions, rows: Sequence[WorkloadRequest]
) -> tuple[CallFactory, Forcing]:
    try:
        model = options.model or await first_model(client)
        forcing = Forcing(works=False, reason="not asked for")
        if options.force_lengths:
            forcing = await probe_forcing(client, model=model)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise BenchError(
            f"{options.target} does not answer as an OpenAI server: {error}"
        ) from error
    except LookupError as error:
        raise BenchError(f"{options.target}: {error}") from error
    factory = CallFactory(
        model=model,
        max_tokens=options.max_tokens or common_max_tokens(rows),
        force_lengths=forcing.works,
    )
    return factory, forcing


def _result(
    options: BenchOptions,
    factory: CallFactory,
    forcing: Forcing,
    *,
    replies: Sequence[Reply],
    capacity_rps: float | None,
) -> BenchResult:
    first_s, last_s = replies[0].due_s, replies[-1].due_s
    offered_rps = (len(replies) - 1) / (last_s - first_s) if last_s > first_s else 0.0
    offered_load = offered_rps / capacity_rps if capacity_rps else None
    labels = RunLabels(
        policy=options.label,
        predictor=options.label,
        slots=options.slots,
        load=offered_load,
        seed=options.seed,
    )
    return BenchResult(
        commit=provenance.commit(),
        seed=options.seed,
        hardware=provenance.hardware(),
        workload=str(options.workload),
        target=options.target,
        model=factory.model,
        max_tokens=factory.max_tokens,
        lengths="forced" if forcing.works else f"real: {forcing.reason}",
        capacity_rps=capacity_rps,
        offered_rps=offered_rps,
        offered_load=offered_load,
        sent_late_max_s=max(reply.sent_s - reply.due_s for reply in replies),
        errors=dict(Counter(reply.error for reply in replies if reply.error).most_common(10)),
        runs=[summarise([_record(reply) for reply in replies], labels)],
    )


def _record(reply: Reply) -> RequestRecord:
    failed_as = _BY_STATUS.get(reply.status, Outcome.FAILED)
    waited_s = reply.queue_wait_s
    return RequestRecord(
        arrival_s=reply.due_s,
        output_tokens=reply.output_tokens,
        outcome=Outcome.COMPLETED if reply.completed else failed_as,
        admitted_s=None if waited_s is None else reply.sent_s + waited_s,
        first_token_s=reply.first_s,
        finished_s=reply.done_s,
    )


def _first_error(replies: Sequence[Reply]) -> str:
    return next((reply.error for reply in replies if reply.error), "none")
