"""How much predicted work waits for a service: what an autoscaler scales on. No prompt, no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec
from llmservice_api.status_report import QueueReport

from llmservice_operator.cluster import ServiceKey
from llmservice_operator.kube_json import Manifest, condition, section
from llmservice_operator.observed import Observed, Polled, number
from llmservice_operator.pods import is_leader, is_ready
from llmservice_operator.service import Service

FRESH_S: Final = 5.0  # an answer of a sidecar that is younger is not asked for again
ASK_S: Final = 2.0  # to ask all sidecars of a service: KEDA itself waits for 3 seconds
# What a request is taken to cost that waits where nothing can predict it, in slot seconds.
HELD_REQUEST_S: Final = 10.0
LEAST_S: Final = 1.0  # told while somebody waits: scalers that round down must not see zero
# Scheduling and pulling images come before the time that the engine is given.
_STARTING_MARGIN: Final = timedelta(minutes=10)


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one service now, in predicted seconds of its slots.

    `backlog_seconds` is per ready replica, `total_backlog_seconds` the sum over them: divided by
    the seconds that one replica may have, it is how many replicas are wanted.
    """

    namespace: str
    name: str
    backlog_seconds: float
    total_backlog_seconds: float
    replicas: int  # ready
    starting_replicas: int
    silent_replicas: int  # ready, but their sidecars do not answer: taken to be like the others
    queued_requests: int
    held_requests: int  # at the activator, while no replica is ready


class UnknownServiceError(Exception):
    """No such LLMService, or it has not been looked at yet."""


class UnknownBacklogError(Exception):
    """Replicas are ready and none of their sidecars has answered: 0 would be a lie."""


@dataclass(frozen=True, slots=True)
class _Seen:
    service: Service
    observed: Observed


class Backlogs:
    """Keeps which services there are, and adds up what their sidecars say.

    `ask` has the sidecars of a service asked anew; `answers` is the last of each by pod uid;
    `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        *,
        ask: Callable[[ServiceKey], Awaitable[None]],
        answers: Callable[[ServiceKey], Mapping[str, Polled]],
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._answers = answers
        self._now = now
        self._clock = clock
        self._held: Callable[[ServiceKey], int] = _nothing_held
        self._seen: dict[ServiceKey, _Seen] = {}
        self._asked_at: dict[ServiceKey, float] = {}

    def add_held(self, held: Callable[[ServiceKey], int]) -> None:
        """From now on also count the requests that are held for a service elsewhere."""
        self._held = held

    async def keep(self, service: Service, observed: Observed) -> None:
        """Remember the service and its pods as they are now."""
        key = ServiceKey(service.namespace, service.name)
        self._seen[key] = _Seen(service, _essence(observed))

    def forget(self, key: ServiceKey) -> None:
        """The service is gone."""
        self._seen.pop(key, None)
        self._asked_at.pop(key, None)

    async def of(self, key: ServiceKey) -> Backlog:
        """The backlog now.

        Raises UnknownServiceError, and UnknownBacklogError while replicas are ready of which none
        has told anything.
        """
        if key not in self._seen:
            raise UnknownServiceError(f"there is no LLMService {key}")
        await self._refresh(key)
        seen = self._seen.get(key)
        if seen is None:
            raise UnknownServiceError(f"there is no LLMService {key}")
        return backlog(
            seen.service,
            seen.observed,
            answers=self._answers(key),
            held=self._held(key),
            now=self._now(),
        )

    async def _refresh(self, key: ServiceKey) -> None:
        now_s = self._clock()
        if now_s - self._asked_at.get(key, -FRESH_S) < FRESH_S:
            return
        self._asked_at[key] = now_s
        try:
            async with asyncio.timeout(ASK_S):
                await self._ask(key)
        except TimeoutError:
            return  # what was known before is told


def backlog(
    service: Service,
    observed: Observed,
    *,
    answers: Mapping[str, Polled],
    held: int,
    now: datetime,
) -> Backlog:
    """The sum of what ready replicas say, and at least what keeps starting replicas wanted.

    Raises UnknownBacklogError when replicas are ready and none has told anything.
    """
    leaders = [pod for pod in observed.pods if is_leader(pod)]
    ready = [pod for pod in leaders if is_ready(pod)]
    queues = _queues(ready, answers)
    if ready and not queues:
        raise UnknownBacklogError(
            f"none of the {len(ready)} ready replicas of {service.namespace}/{service.name} has "
            "told its backlog yet"
        )
    # Replicas that do not answer are taken to be like those that do.
    share = len(ready) / len(queues) if queues else 0.0
    total_s = share * sum(map(_seconds, queues)) + _held_s(service, held)
    starting = _starting(service, leaders, now=now)
    wanted = number(observed.workload, "spec", "replicas")
    if not leaders and wanted > 0:
        starting = 1  # its controller has not made it yet
    if starting:
        # No more than are wanted: the surge of a rollout must not be scaled to.
        total_s = max(total_s, _kept_s(service, min(wanted, len(ready) + starting)))
    return Backlog(
        namespace=service.namespace,
        name=service.name,
        backlog_seconds=total_s / max(1, len(ready)),
        total_backlog_seconds=total_s,
        replicas=len(ready),
        starting_replicas=starting,
        silent_replicas=len(ready) - len(queues),
        queued_requests=round(share * sum(queue.queued_requests for queue in queues)),
        held_requests=held,
    )


def _queues(pods: Iterable[Manifest], answers: Mapping[str, Polled]) -> list[QueueReport]:
    """Of the pods whose sidecars have answered."""
    asked = (answers.get(pod["metadata"]["uid"]) for pod in pods)
    return [answer.report.queue for answer in asked if answer and answer.report]


def _essence(observed: Observed) -> Observed:
    """Only what `backlog` reads: the whole of thousands of pods would fill the memory."""
    replicas = number(observed.workload, "spec", "replicas")
    return Observed(
        workload={"spec": {"replicas": replicas}},
        pods=tuple(
            {
                "metadata": {
                    name: value
                    for name, value in pod["metadata"].items()
                    if name in {"uid", "labels", "creationTimestamp", "deletionTimestamp"}
                },
                "status": {"conditions": [condition(pod, "Ready")]},
            }
            for pod in observed.pods
        ),
    )


def _seconds(queue: QueueReport) -> float:
    """What a sidecar predicts, and never nothing while it has requests: 0 would end its pod."""
    busy = queue.queued_requests + queue.in_flight_slots > 0
    return max(LEAST_S, queue.backlog_s) if busy else queue.backlog_s


def _held_s(service: Service, held: int) -> float:
    if not held:
        return 0.0
    slots = service.spec.engine.max_num_seqs * service.spec.parallelism.data
    return max(LEAST_S, held * HELD_REQUEST_S / slots)


def _kept_s(service: Service, replicas: int) -> float:
    """What to tell so that replicas whose model still loads are not taken away again."""
    scaling = service.spec.scaling
    return 0.0 if scaling is None else float(replicas * scaling.target_backlog_seconds)


def _starting(service: Service, pods: Iterable[Manifest], *, now: datetime) -> int:
    """Replicas on their way, for as long as they may take; a broken one must not count forever."""
    patience = timedelta(seconds=service.spec.engine.startup_timeout_seconds) + _STARTING_MARGIN
    return sum(
        1
        for pod in pods
        if not is_ready(pod)
        and "deletionTimestamp" not in section(pod, "metadata")
        and now - datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) < patience
    )


def _nothing_held(_: ServiceKey) -> int:
    return 0
