"""When the activator stands in for a service, and what it has to know for that.

The rule: it is the Service's endpoint from the moment when no replica is ready until some time
after one is. Both may be endpoints at once, neither never: whatever arrives at the activator while
a replica is ready is passed on at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

from llmservice_api import names
from llmservice_api.activation import Activation, Removed, Replica

from llmservice_operator.activation_feed import Feed
from llmservice_operator.activator_ports import PortBook
from llmservice_operator.cluster import ClusterError, ObjectRef, ServiceKey, ref_to
from llmservice_operator.desired.activation import (
    activation_slice,
    family_of,
    is_stand_in,
    may_sleep,
    recorded_ports,
    slice_name,
)
from llmservice_operator.kinds import ENDPOINT_SLICE, POD, Kind
from llmservice_operator.kube_json import Manifest, condition, entries, section
from llmservice_operator.pods import is_leader, is_ready, url_host
from llmservice_operator.service import Service

_log = logging.getLogger(__name__)

OVERLAP_S: Final = 10.0  # how long nodes may take to learn that a replica is ready
_RETRY_S: Final = 1.0
_PATIENCE_S: Final = 5.0
_OURS: Final = f"{names.LABEL_SLICE_MANAGER}={names.FIELD_MANAGER}"
_NOT_OURS: Final = f"{names.LABEL_SLICE_MANAGER}!={names.FIELD_MANAGER}"


class Slices(Protocol):
    """What is asked of the API server; raises ClusterError."""

    async def list_selected(
        self, kind: Kind, namespace: str, *, selector: str
    ) -> Sequence[Manifest]: ...


class Activations:
    """Every service that may sleep.

    `addresses` are those of ready activators now. `look_in` has a service looked at after so many
    seconds; `now` is the wall clock, which Kubernetes' timestamps are on.
    """

    def __init__(
        self,
        cluster: Slices,
        *,
        addresses: Callable[[], Sequence[str]],
        look_in: Callable[[float, ServiceKey], None],
        ports: PortBook,
        now: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._addresses = addresses
        self._look_in = look_in
        self._ports = ports
        self._now = now
        self._known: dict[ServiceKey, Activation] = {}
        self._unseen: set[ServiceKey] = set()
        self._loaded = asyncio.Event()
        self.feed: Final = Feed(self._known)

    async def load(self, namespaces: Sequence[str]) -> None:
        """Read from the live slices which ports are taken; tries until it can.

        Services with a slice are looked at, so that activators hear of all of them.
        """
        while not self._loaded.is_set():
            try:
                await self._load(namespaces or ("",))
            except ClusterError as error:
                _log.warning("the activator's slices could not be listed: %s", error)
                await asyncio.sleep(_RETRY_S)

    def place(self, service: Service) -> ObjectRef:
        """Where the service's slice is, if it has one."""
        return ref_to(ENDPOINT_SLICE, service.namespace, slice_name(service))

    async def manifests(
        self, service: Service, live: Mapping[ObjectRef, Manifest]
    ) -> tuple[Manifest, ...]:
        """The service's slice, if it is to have one. Raises ClusterError."""
        await self._until_loaded()
        key = ServiceKey(service.namespace, service.name)
        found = live.get(self.place(service))
        pods = [pod for ref, pod in live.items() if ref.kind == POD.kind and is_leader(pod)]
        ready = [pod for pod in pods if is_ready(pod) and _address(pod)]
        # One that is not to sleep any more is still waited for by what it was asleep for.
        waking = is_stand_in(found) and not ready and not service.spec.suspend
        if not may_sleep(service) and not waking:
            self.forget(key)
            return ()
        recorded = recorded_ports(found)
        if recorded is not None:
            self._ports.record(key, recorded)
        ports = self._ports.take(key)
        if ports is None:
            _log.error("%s: no port of the activator is left: asleep it cannot be woken", key)
            self._saw(key)
            return ()
        self._tell(
            key,
            Activation(
                namespace=service.namespace,
                name=service.name,
                http_port=ports.http,
                grpc_port=ports.grpc,
                models=_models(service),
                replicas=tuple(_replica(address) for address in sorted(map(_address, ready))),
            ),
        )
        stands_in = await self._stands_in(service, found, ready)
        family = self._family(found)
        if family is None:
            return ()  # nobody could stand in, and the ports follow from the name until then
        addresses = self._addresses() if stands_in else ()
        return (activation_slice(service, ports, addresses, family=family),)

    def forget(self, key: ServiceKey) -> None:
        """The service is gone or does not sleep."""
        self._ports.free(key)
        if self._known.pop(key, None) is not None:
            self.feed.tell(key, Removed(namespace=key.namespace, name=key.name))
        self._saw(key)

    def passed_over(self, key: ServiceKey) -> None:
        """What this service is cannot be read: nobody need wait to be told of it."""
        self._saw(key)

    def activators_changed(self) -> None:
        """Activators came or went: the slices of all services that sleep are to say so."""
        for key, known in self._known.items():
            if not known.replicas:
                self._look_in(0.0, key)

    async def _until_loaded(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._loaded.wait()
        except TimeoutError as error:
            text = "it is not known yet which ports of the activator are taken"
            raise ClusterError(text) from error

    async def _load(self, namespaces: Sequence[str]) -> None:
        for namespace in namespaces:
            slices = await self._cluster.list_selected(ENDPOINT_SLICE, namespace, selector=_OURS)
            for found in sorted(slices, key=lambda one: one["metadata"]["creationTimestamp"]):
                self._load_one(found)
        self._loaded.set()
        for key in tuple(self._unseen):
            self._look_in(0.0, key)
        self._saw(None)

    def _load_one(self, found: Manifest) -> None:
        metadata = found["metadata"]
        name = section(metadata, "labels").get(names.LABEL_SLICE_SERVICE)
        ports = recorded_ports(found)
        if name and ports:
            key = ServiceKey(metadata["namespace"], name)
            self._ports.record(key, ports)
            self._unseen.add(key)

    def _family(self, found: Manifest | None) -> str | None:
        if found is not None:
            return found["addressType"]
        return next(map(family_of, self._addresses()), None)

    def _tell(self, key: ServiceKey, activation: Activation) -> None:
        if self._known.get(key) != activation:
            self._known[key] = activation
            self.feed.tell(key, activation)
        self._saw(key)

    def _saw(self, key: ServiceKey | None) -> None:
        if key is not None:
            self._unseen.discard(key)
        if self._loaded.is_set() and not self._unseen:
            self.feed.complete()

    async def _stands_in(
        self, service: Service, found: Manifest | None, ready: Sequence[Manifest]
    ) -> bool:
        if not ready:
            return True
        if not is_stand_in(found):
            return False
        left_s = OVERLAP_S - max(map(self._ready_for_s, ready))
        if left_s <= 0 and await self._reachable(service):
            return False
        key = ServiceKey(service.namespace, service.name)
        self._look_in(max(_RETRY_S, left_s), key)
        return True

    async def _reachable(self, service: Service) -> bool:
        """Whether the Service leads to a replica, by the slices that Kubernetes makes."""
        slices = await self._cluster.list_selected(
            ENDPOINT_SLICE,
            service.namespace,
            selector=f"{names.LABEL_SLICE_SERVICE}={service.name},{_NOT_OURS}",
        )
        endpoints = [endpoint for one in slices for endpoint in entries(one, "endpoints")]
        return any(section(endpoint, "conditions").get("ready") for endpoint in endpoints)

    def _ready_for_s(self, pod: Manifest) -> float:
        since = condition(pod, "Ready").get("lastTransitionTime")
        if since is None:
            return OVERLAP_S
        return (self._now() - datetime.fromisoformat(since)).total_seconds()


def _address(pod: Manifest) -> str:
    return section(pod, "status").get("podIP") or ""


def _replica(address: str) -> Replica:
    host = url_host(address)
    return Replica(f"{host}:{names.PORT_HTTP}", f"{host}:{names.PORT_GRPC}")


def _models(service: Service) -> tuple[str, ...]:
    lora = service.spec.model.lora
    adapters = lora.adapters if lora else ()
    return (service.model_name, *(adapter.name for adapter in adapters))
