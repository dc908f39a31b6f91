"""The ports of every service: opened, moved and closed as the operator says."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from llmservice_api.activation import Activation, Beat, Removed, Synced, Update

from llmservice_sidecar.activator.desk import Desk, key_of
from llmservice_sidecar.activator.grpc_door import GrpcDoor
from llmservice_sidecar.activator.hold import Target
from llmservice_sidecar.activator.http_door import HttpDoor
from llmservice_sidecar.activator.metrics import ActivatorMetrics
from llmservice_sidecar.core.errors import LLMServiceError, Reason, RequestRejected

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    activation: Activation
    target: Target
    http_port: int | None = None  # None: not open
    grpc_port: int | None = None


class Doors:
    """Keeps the open ports equal to what the operator tells."""

    def __init__(
        self, desk: Desk, *, http: HttpDoor, grpc: GrpcDoor, metrics: ActivatorMetrics
    ) -> None:
        self._desk = desk
        self._http = http
        self._grpc = grpc
        self._metrics = metrics
        self._entries: dict[str, _Entry] = {}
        self._named: set[str] = set()
        self.synced = False

    def begin(self) -> None:
        """The operator begins to tell everything anew."""
        self._named.clear()

    async def take(self, update: Update) -> None:
        """Act on one line of the operator's stream."""
        match update:
            case Activation():
                await self._set(update)
            case Removed():
                await self._remove(key_of(update.namespace, update.name))
            case Synced():
                for key in set(self._entries) - self._named:
                    await self._remove(key)
                self.synced = True
            case Beat():
                await self._open_all()

    @property
    def services(self) -> Collection[str]:
        """The services, each as `namespace/name`."""
        return self._entries.keys()

    def ports(self, key: str) -> tuple[int | None, int | None]:
        """The open ports of a service, HTTP and gRPC; None where it could not be opened."""
        entry = self._entries[key]
        return entry.http_port, entry.grpc_port

    def awake(self, key: str) -> bool:
        """Whether a replica of the service is ready, as far as is known here."""
        return self._entries[key].target.awake

    async def _set(self, activation: Activation) -> None:
        key = key_of(activation.namespace, activation.name)
        self._named.add(key)
        entry = self._entries.get(key)
        target = self._desk.target(activation)
        if entry is None:
            entry = self._entries[key] = _Entry(activation, target)
            self._metrics.know(key)
        elif _ports(entry.activation) != _ports(activation):
            await self._close(entry)
        entry.activation = activation
        await self._open(entry)
        await self._grpc.keep(
            {r.grpc for other in self._entries.values() for r in other.activation.replicas}
        )

    async def _remove(self, key: str) -> None:
        self._named.discard(key)
        if (entry := self._entries.pop(key, None)) is None:
            return
        _log.info("%s does not sleep any more: its ports are closed", key)
        self._desk.remove(key, _gone)
        await self._close(entry)
        self._metrics.forget(key)

    async def _open_all(self) -> None:
        """Try again what could not be opened."""
        for entry in self._entries.values():
            await self._open(entry)

    async def _open(self, entry: _Entry) -> None:
        wanted = entry.activation
        try:
            if entry.http_port is None:
                entry.http_port = await self._http.open(wanted.http_port, entry.target)
            if entry.grpc_port is None:
                entry.grpc_port = await self._grpc.open(wanted.grpc_port, entry.target)
        except OSError as error:
            _log.error("%s: %s", entry.target.key, error)

    async def _close(self, entry: _Entry) -> None:
        if entry.http_port is not None:
            await self._http.close_port(entry.http_port)
        if entry.grpc_port is not None:
            self._grpc.close_port(entry.grpc_port)
        entry.http_port = entry.grpc_port = None


def _ports(activation: Activation) -> tuple[int, int]:
    return activation.http_port, activation.grpc_port


def _gone() -> LLMServiceError:
    text = "the service was deleted, suspended, or does not scale to zero any more"
    return RequestRejected(Reason.DRAINING, text, retry_after_s=1.0)
