"""Which of the activator's ports belong to which service. The slices are the record of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from llmservice_api import names

from llmservice_operator.cluster import ServiceKey
from llmservice_operator.desired.activation import ActivatorPorts

# Longer than any node keeps a rule, and any client a quiet connection, that leads to a former
# owner: requests must never reach another service.
REST_S: Final = 600.0


class PortBook:
    """Gives each service two ports and keeps them. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        first: int = names.ACTIVATOR_FIRST_PORT,
        last: int = names.ACTIVATOR_LAST_PORT,
    ) -> None:
        self._clock = clock
        self._first = first
        self._pairs = (last - first + 1) // 2
        self._owners: dict[int, ServiceKey] = {}  # by the pair's first port
        self._held: dict[ServiceKey, ActivatorPorts] = {}
        self._rests_until: dict[int, float] = {}

    def record(self, key: ServiceKey, ports: ActivatorPorts) -> None:
        """What a live slice says. Of two that say the same the first one keeps it."""
        in_range = ports.http in range(self._first, self._first + 2 * self._pairs, 2)
        if key in self._held or not in_range or ports.grpc != ports.http + 1:
            return
        if ports.http not in self._owners:
            self._give(key, ports.http)

    def take(self, key: ServiceKey) -> ActivatorPorts | None:
        """The service's ports, the same every time; None when there are none left.

        Where to look first follows from the name: after the loss of every slice, and of this
        process, most services get what they had.
        """
        if key in self._held:
            return self._held[key]
        digest = hashlib.sha256(str(key).encode()).digest()
        start = int.from_bytes(digest[:8]) % self._pairs
        for step in range(self._pairs):
            port = self._first + 2 * ((start + step) % self._pairs)
            if port not in self._owners and self._rests_until.get(port, 0.0) <= self._clock():
                return self._give(key, port)
        return None

    def free(self, key: ServiceKey) -> None:
        """The service does not need them any more; nobody gets them for a while."""
        ports = self._held.pop(key, None)
        if ports is not None:
            del self._owners[ports.http]
            now = self._clock()
            self._rests_until = {p: t for p, t in self._rests_until.items() if t > now}
            self._rests_until[ports.http] = now + REST_S

    def _give(self, key: ServiceKey, port: int) -> ActivatorPorts:
        ports = ActivatorPorts(port, port + 1)
        self._owners[port] = key
        self._held[key] = ports
        self._rests_until.pop(port, None)
        return ports
