"""The chart's activator pods: which are ready, and how many requests each of them holds."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
import msgspec
from llmservice_api.activation import ActivatorReport, decode_activator_report

from llmservice_operator.cluster import ClusterError, ServiceKey
from llmservice_operator.kinds import POD, Kind
from llmservice_operator.kube_json import Manifest, section
from llmservice_operator.pods import is_ready

_log = logging.getLogger(__name__)

ASK_EVERY_S: Final = 1.0
_ASK_TIMEOUT_S: Final = 2.0
_STALE_S: Final = 15.0  # what an activator that has fallen silent said does not count for longer
_RETRY_S: Final = 2.0

Fetch = Callable[[str], Awaitable[bytes]]  # pod IP to the body of its /status


class Pods(Protocol):
    """What is asked of the API server; raises ClusterError."""

    def follow(
        self, kind: Kind, namespace: str, *, selector: str
    ) -> AsyncGenerator[Sequence[Manifest]]: ...


@dataclass(frozen=True, slots=True)
class _Answer:
    report: ActivatorReport
    at: float


class Activators:
    """Follows the pods and asks them. `changed` is called when others are ready than before.

    `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        pods: Pods,
        fetch: Fetch,
        *,
        namespace: str,
        selector: str,
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._pods = pods
        self._fetch = fetch
        self._namespace = namespace
        self._selector = selector
        self._changed = changed
        self._ready: tuple[str, ...] = ()
        self._running: tuple[str, ...] = ()  # those that end may still hold requests
        self._answers: dict[str, _Answer] = {}

    @property
    def addresses(self) -> Sequence[str]:
        """Of ready activators, sorted."""
        return self._ready

    def held(self, key: ServiceKey) -> int:
        """Requests that wait for that service at all activators together."""
        return self._counted()[str(key)]

    async def follow(self) -> None:
        """Follow the pods until cancelled."""
        while True:
            try:
                async for pods in self._pods.follow(POD, self._namespace, selector=self._selector):
                    self._take(pods)
            except ClusterError as error:
                _log.warning("the activator's pods cannot be watched: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def ask(self) -> None:
        """Ask them until cancelled."""
        while True:
            await self.ask_once()
            await asyncio.sleep(ASK_EVERY_S)

    async def ask_once(self) -> None:
        """Ask all of them now."""
        await asyncio.gather(*(self._ask(address) for address in self._running))

    def _take(self, pods: Sequence[Manifest]) -> None:
        by_address = {
            section(pod, "status")["podIP"]: pod
            for pod in pods
            if section(pod, "status").get("podIP")
            and section(pod, "status").get("phase") == "Running"
        }
        self._running = tuple(sorted(by_address))
        self._answers = {a: told for a, told in self._answers.items() if a in by_address}
        ready = tuple(sorted(address for address, pod in by_address.items() if is_ready(pod)))
        if ready != self._ready:
            _log.info("ready activators: %s", ", ".join(ready) or "none")
            self._ready = ready
            self._changed()

    async def _ask(self, address: str) -> None:
        try:
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                report = decode_activator_report(await self._fetch(address))
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            _log.debug("activator %s: %s", address, error or type(error).__name__)
            return  # what it said before counts for a while
        self._answers[address] = _Answer(report, self._clock())

    def _counted(self) -> Mapping[str, int]:
        now = self._clock()
        counted: Counter[str] = Counter()
        for answer in self._answers.values():
            if now - answer.at < _STALE_S:
                counted.update(answer.report.held)
        return counted
