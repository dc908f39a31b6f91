"""A Lease of coordination.k8s.io decides which of several operators may write.

Durations are measured on one clock of this machine that runs on while the process stands still;
the times that are written into the Lease are for people and never compared.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from llmservice_operator.cluster import ClusterError, ObjectRef, Refused
from llmservice_operator.kube_json import Manifest, section

_log = logging.getLogger(__name__)

LEASE_API: Final = ("coordination.k8s.io/v1", "Lease")
_MICRO_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
_LOST_RACE: Final = frozenset({"Conflict", "AlreadyExists"})
_NEVER: Final = float("-inf")


class NotLeader(ClusterError):
    """This operator may not write: it never led, or what it held has run out."""


class Leases(Protocol):
    """What the election needs of the API server; raises as `Cluster` does."""

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """The live object, None when there is none."""
        ...

    async def create(self, manifest: Manifest) -> Manifest:
        """Make it; Refused with reason AlreadyExists when it is there."""
        ...

    async def replace(self, manifest: Manifest) -> Manifest:
        """Write it over that very version; Refused with reason Conflict when it has changed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How long a Lease lasts after its last renewal, in seconds.

    The holder writes nothing new after two thirds of that; the rest is for writes on their way.
    """

    duration_s: float = 15.0

    @property
    def renew_within_s(self) -> float:
        """After this long without a renewal nothing new is written."""
        return self.duration_s * 2 / 3

    @property
    def retry_every_s(self) -> float:
        """Between two looks at the Lease, and between two renewals."""
        return self.duration_s * 2 / 15


@dataclass(frozen=True, slots=True)
class _Seen:
    """The latest version of somebody else's Lease, and when it was new to us."""

    version: str
    at_s: float


class LeaderElection:
    """One candidate: `acquire`, then `hold` while it leads, `release` at the end.

    `clock` is in seconds and does not stop while the process does; `now` dates the Lease. `away`
    is called each time that the API server could not be reached.
    """

    def __init__(
        self,
        leases: Leases,
        *,
        ref: ObjectRef,
        identity: str,
        terms: Terms,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        away: Callable[[], None],
    ) -> None:
        self._leases = leases
        self._ref = ref
        self._identity = identity
        self._terms = terms
        self._clock = clock
        self._now = now
        self._away = away
        self._held: Manifest | None = None
        self._renewed_s = _NEVER
        self._seen: _Seen | None = None

    @property
    def leading(self) -> bool:
        """Whether a write may begin now."""
        return self._clock() < self._renewed_s + self._terms.renew_within_s

    def check(self) -> float:
        """Seconds within which a write that begins now must have ended. Raises NotLeader."""
        if not self.leading:
            raise NotLeader(f"Lease {self._ref.namespace}/{self._ref.name} is not held")
        return self._renewed_s + self._terms.duration_s - self._clock()

    async def acquire(self) -> None:
        """Wait until this operator leads."""
        told = ""
        while True:
            holder = await self._attempt()
            if holder == self._identity:
                _log.info("this operator (%s) leads", self._identity)
                return
            if holder and holder != told:
                _log.info("%s leads; this operator (%s) stands by", holder, self._identity)
                told = holder
            await asyncio.sleep(self._terms.retry_every_s)

    async def hold(self) -> None:
        """Renew; returns when the Lease is lost, and by then no write can begin any more."""
        while self.leading:
            await asyncio.sleep(self._terms.retry_every_s)
            holder = await self._attempt()
            if holder not in {"", self._identity}:
                self._renewed_s = _NEVER
                _log.critical("the Lease is lost: %s holds it", holder)
                return
        _log.critical("the Lease is lost: not renewed for %.0f s", self._terms.renew_within_s)

    async def release(self) -> None:
        """Let a successor lead at once. What goes wrong is logged: the Lease runs out anyway."""
        if not self.leading or self._held is None:
            return
        free = self._filled(self._held, holder="", lasts_s=1)
        self._renewed_s = _NEVER
        try:
            async with asyncio.timeout(self._terms.retry_every_s):
                await self._leases.replace(free)
        except (ClusterError, TimeoutError) as error:
            _log.warning("the Lease was not given back: %s", str(error) or type(error).__name__)

    async def _attempt(self) -> str:
        """Take or renew if that may be; who holds the Lease then, empty when it is not known."""
        try:
            async with asyncio.timeout(self._terms.renew_within_s / 2):
                return await self._take_or_look()
        except Refused as refusal:
            self._held = None  # it is read again before the next write
            if refusal.reason not in _LOST_RACE:
                _log.warning("the Lease is refused: %s", refusal.message)
        except (ClusterError, TimeoutError) as error:
            self._away()
            self._held = None
            _log.warning("the Lease cannot be reached: %s", str(error) or type(error).__name__)
        return ""

    async def _take_or_look(self) -> str:
        # From before the call: what the API server dates is not earlier than this.
        started_s = self._clock()
        live = self._held or await self._leases.get(self._ref)
        if live is None:
            held = await self._leases.create(self._filled(self._empty(), holder=self._identity))
        else:
            holder: str = section(live, "spec").get("holderIdentity") or ""
            if holder not in {"", self._identity} and not self._run_out(live):
                return holder
            held = await self._leases.replace(self._filled(live, holder=self._identity))
        self._held = held
        self._renewed_s = started_s
        return self._identity

    def _run_out(self, live: Manifest) -> bool:
        version: str = live["metadata"]["resourceVersion"]
        if self._seen is None or self._seen.version != version:
            self._seen = _Seen(version, self._clock())
        lasts_s: float = section(live, "spec").get("leaseDurationSeconds") or self._terms.duration_s
        return self._clock() >= self._seen.at_s + lasts_s

    def _empty(self) -> Manifest:
        return {
            "apiVersion": self._ref.api_version,
            "kind": self._ref.kind,
            "metadata": {"name": self._ref.name, "namespace": self._ref.namespace},
        }

    def _filled(self, live: Manifest, *, holder: str, lasts_s: float | None = None) -> Manifest:
        before = section(live, "spec")
        stamp = self._now().strftime(_MICRO_TIME)
        changed = holder != (before.get("holderIdentity") or "")
        after = {
            **before,
            "holderIdentity": holder,
            # Whole seconds in the API: rounded up, never shorter than what we count on.
            "leaseDurationSeconds": -int(-(lasts_s or self._terms.duration_s) // 1),
            "renewTime": stamp,
        }
        if changed and holder:
            after["acquireTime"] = stamp
            after["leaseTransitions"] = (before.get("leaseTransitions") or 0) + 1
        return {**live, "spec": after}
