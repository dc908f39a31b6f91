"""What both doors share: the services by name, the memory, and the count of what is in hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from typing import Final, Protocol

from llmservice_api.activation import Activation, ActivatorReport

from llmservice_sidecar.activator.hold import HoldLimits, Memory, Target, Ticket
from llmservice_sidecar.core.errors import (
    InvalidRequest,
    LLMServiceError,
    RequestEvicted,
    RequestRejected,
)

FORWARDED: Final = "forwarded"
ANSWERED: Final = "answered"  # by the activator itself: the service sleeps on
REJECTED: Final = "rejected"
EVICTED: Final = "evicted"
CANCELLED: Final = "cancelled"
FAILED: Final = "failed"
OUTCOMES: Final = (FORWARDED, ANSWERED, REJECTED, EVICTED, CANCELLED, FAILED)


class Recorder(Protocol):
    """Counts how requests left the activator."""

    def ended(self, key: str, *, outcome: str) -> None: ...

    def held(self, *, seconds: float) -> None: ...


class Attendance:
    """One request in the activator's hands. The first outcome counts."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.outcome = ""

    def handed_over(self, ticket: Ticket) -> float:
        """A replica has answered; the seconds since the request came."""
        self.end_as(FORWARDED)
        spent_s = asyncio.get_running_loop().time() - ticket.arrived_at
        if ticket.held:
            self._recorder.held(seconds=spent_s)
        return spent_s

    def end_as(self, outcome: str) -> None:
        """It leaves so, unless it has left already."""
        self.outcome = self.outcome or outcome

    def refused(self, error: LLMServiceError) -> None:
        """The activator's own refusal."""
        kinds: dict[type[LLMServiceError], str] = {
            RequestRejected: REJECTED,
            InvalidRequest: REJECTED,
            RequestEvicted: EVICTED,
        }
        self.end_as(kinds.get(type(error), FAILED))


class Desk:
    """The targets of all services."""

    def __init__(self, limits: HoldLimits, recorder: Recorder) -> None:
        self.memory: Final = Memory(limits)
        self.draining = False
        self._limits = limits
        self._recorder = recorder
        self._targets: dict[str, Target] = {}
        self._in_hand = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._refusal: Callable[[], LLMServiceError] | None = None

    def target(self, activation: Activation) -> Target:
        """The service's target, made or brought up to date."""
        key = key_of(activation.namespace, activation.name)
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = Target(key, self._limits)
            if self._refusal is not None:
                target.close(self._refusal)
        target.update(activation)
        return target

    def remove(self, key: str, refusal: Callable[[], LLMServiceError]) -> None:
        """The service is gone; what waits for it is refused."""
        if (target := self._targets.pop(key, None)) is not None:
            target.close(refusal)

    def refuse_all(self, refusal: Callable[[], LLMServiceError]) -> None:
        """Refuse what waits for any service, and what comes."""
        self._refusal = refusal
        for target in self._targets.values():
            target.close(refusal)

    def report(self, *, synced: bool) -> ActivatorReport:
        """How many wait, by service."""
        held = {key: target.held for key, target in self._targets.items() if target.held}
        return ActivatorReport(
            synced=synced, draining=self.draining, held=held, held_bytes=self.memory.used
        )

    @contextlib.contextmanager
    def attending(self, target: Target) -> Generator[Attendance]:
        """While a request is in the activator's hands; counts how it left."""
        self._in_hand += 1
        self._idle.clear()
        attendance = Attendance(self._recorder)
        try:
            yield attendance
        except LLMServiceError as error:
            attendance.refused(error)
            raise
        except (asyncio.CancelledError, ConnectionError):
            attendance.end_as(CANCELLED)
            raise
        finally:
            self._recorder.ended(target.key, outcome=attendance.outcome or FAILED)
            self._in_hand -= 1
            if not self._in_hand:
                self._idle.set()

    async def idle(self) -> None:
        """Until nothing is in hand."""
        await self._idle.wait()


def key_of(namespace: str, name: str) -> str:
    """How a service is named in reports and metrics."""
    return f"{namespace}/{name}"
