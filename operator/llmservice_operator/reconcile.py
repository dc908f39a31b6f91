"""One look at one service: read what is, apply what should be, write what was seen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from llmservice_api import names
from llmservice_api.spec import SpecError

from llmservice_operator.announcements import announcements
from llmservice_operator.apply import Applier, is_owned
from llmservice_operator.cluster import Cluster, ObjectRef, Refused, ServiceKey, ref_of
from llmservice_operator.conditions import Condition, Finding, parse_conditions
from llmservice_operator.desired import desired, workload_possible
from llmservice_operator.desired.model_source import needed_claims
from llmservice_operator.inventory import Inventory
from llmservice_operator.kinds import (
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    LEADER_WORKER_SET,
    SCALED_OBJECT,
)
from llmservice_operator.kube_json import Manifest, entries, section
from llmservice_operator.observed import Observed
from llmservice_operator.polling import Poller
from llmservice_operator.service import Service, parse_service, recorded_rendering, rendering
from llmservice_operator.settings import OperatorSettings
from llmservice_operator.status import Status, refused_status, status, worth_writing

_log = logging.getLogger(__name__)


_WORKLOADS: Final = frozenset({DEPLOYMENT.kind, LEADER_WORKER_SET.kind})
_AUTOSCALERS: Final = frozenset({HORIZONTAL_POD_AUTOSCALER.kind, SCALED_OBJECT.kind})


class Keeper(Protocol):
    """Takes something from every look at a service, and lets go of it with the service.

    Raises ClusterError when the API server cannot be asked.
    """

    async def keep(self, service: Service, observed: Observed) -> None: ...

    def forget(self, key: ServiceKey) -> None: ...


class StandIn(Protocol):
    """Adds to what is desired what follows from what is there. Raises as Keeper does."""

    def place(self, service: Service) -> ObjectRef: ...

    async def manifests(
        self, service: Service, live: Mapping[ObjectRef, Manifest]
    ) -> Sequence[Manifest]: ...

    def passed_over(self, key: ServiceKey) -> None: ...

    def forget(self, key: ServiceKey) -> None: ...


class Witness(Protocol):
    """Is told what a look at a service has read and found."""

    def read(self, raw: Manifest) -> None: ...

    def judged(self, key: ServiceKey, conditions: Sequence[Condition]) -> None: ...

    def gone(self, key: ServiceKey) -> None: ...


@dataclass(frozen=True, slots=True)
class _Live:
    """What a look has read. Of what is found by name, some may be somebody else's."""

    found: dict[ObjectRef, Manifest]
    owned: dict[ObjectRef, Manifest]
    pods: dict[ObjectRef, Manifest]


class Reconciler:
    """Acts from live state alone: what event led here does not matter."""

    def __init__(  # noqa: PLR0913 - all that a look needs, by name
        self,
        cluster: Cluster,
        *,
        inventory: Inventory,
        poller: Poller,
        keepers: Sequence[Keeper],
        witness: Witness,
        settings: OperatorSettings,
        now: Callable[[], datetime],
        stand_in: StandIn | None = None,
    ) -> None:
        self._cluster = cluster
        self._inventory = inventory
        self._stand_in = stand_in
        self._poller = poller
        self._keepers = keepers
        self._witness = witness
        self._settings = settings
        self._now = now
        self._applier = Applier(cluster)

    async def reconcile(self, key: ServiceKey) -> float | None:
        """Seconds until the next look; None when the service is gone.

        Raises ClusterError when the API server cannot be asked.
        """
        raw = await self._cluster.get(key.ref)
        if raw is None or "deletionTimestamp" in section(raw, "metadata"):
            # Owner references do the rest; there is no finalizer to remove.
            self._poller.forget(key)
            for keeper in (*self._keepers, *([self._stand_in] if self._stand_in else [])):
                keeper.forget(key)
            self._applier.forget(key)
            self._inventory.forget(key)
            self._witness.gone(key)
            return None
        self._witness.read(raw)
        before = parse_conditions(entries(raw, "status", "conditions"))
        after = await self._judge(key, raw, before)
        await self._write(raw, after)
        # Then: a status that cannot be written would be news again at every look.
        await self._announce(raw, before, after)
        self._witness.judged(key, after.conditions)
        return self._recheck_s(after)

    def _recheck_s(self, after: Status) -> float:
        """Soon after something has moved, ever later while nothing does."""
        settings = self._settings
        if after.settled:
            return settings.settled_recheck_s
        patience_s = max(settings.settling_recheck_s, after.calm_s(now=self._now()) / 2)
        return min(settings.unsettled_recheck_s, patience_s)

    async def _judge(self, key: ServiceKey, raw: Manifest, before: Sequence[Condition]) -> Status:
        try:
            service = parse_service(raw)
        except SpecError as error:
            if self._stand_in:
                self._stand_in.passed_over(key)
            fields = {k: v for k, v in section(raw, "status").items() if k != "conditions"}
            return self._refused(raw, error, fields=fields, before=before)
        try:
            manifests = self._desired(service)
            live = await self._live(service, manifests)
            recorded = recorded_rendering(_workload(live.owned.values()))
            today = rendering(service, self._settings.images, self._settings.defaults)
            if recorded not in (None, today):
                service = replace(service, recorded=recorded)
                manifests = self._desired(service)
        except SpecError as error:
            live = await self._live(service, ())
            observed = await self._keep(service, None, live)
            fields = status(service, observed, before=before, now=self._now()).fields
            return self._refused(raw, error, fields=fields, before=before)
        observed = await self._keep(service, manifests, live)
        return status(service, observed, before=before, now=self._now())

    def _refused(
        self, raw: Manifest, error: SpecError, *, fields: Manifest, before: Sequence[Condition]
    ) -> Status:
        return refused_status(
            Finding("InvalidSpec", str(error)),
            generation=raw["metadata"]["generation"],
            fields=fields,
            before=before,
            now=self._now(),
        )

    async def _keep(
        self, service: Service, manifests: Sequence[Manifest] | None, live: _Live
    ) -> Observed:
        """Make it so. None: what is desired cannot be told, and what runs keeps running.

        Its pods come and go all the same, and the activator and autoscalers have to know.
        """
        ours = live.owned | live.pods
        stand_in = await self._stand_in.manifests(service, ours) if self._stand_in else ()
        observed = await self._apply(
            service, (*(manifests or ()), *stand_in), live, whole=manifests is not None
        )
        observed = replace(observed, wakes=bool(stand_in))
        for keeper in self._keepers:
            await keeper.keep(service, observed)
        return observed

    def _desired(self, service: Service) -> Sequence[Manifest]:
        return desired(service, self._settings, self._cluster.capabilities)

    async def _live(self, service: Service, manifests: Sequence[Manifest]) -> _Live:
        """What there is of the service: its objects by name, and its pods.

        What it is to get is read before any event has told of it: it may be somebody else's, and
        its workload says how it was rendered. Names do not depend on that.
        """
        key = ServiceKey(service.namespace, service.name)
        refs = self._inventory.of(key) | {ref_of(one) for one in manifests}
        if self._stand_in:
            refs |= {self._stand_in.place(service)}
        read, pods = await asyncio.gather(self._read(refs), self._cluster.pods_of(key))
        owned = {ref: one for ref, one in read.items() if is_owned(one, service)}
        return _Live(read, owned, {ref_of(pod): pod for pod in pods})

    async def _read(self, refs: Set[ObjectRef]) -> dict[ObjectRef, Manifest]:
        ordered = sorted(refs)
        found = await asyncio.gather(*(self._cluster.get(ref) for ref in ordered))
        read = zip(ordered, found, strict=True)
        return {ref: manifest for ref, manifest in read if manifest is not None}

    async def _apply(
        self,
        service: Service,
        manifests: Sequence[Manifest],
        live: _Live,
        *,
        whole: bool,
    ) -> Observed:
        # A model that this version cannot serve takes no running pods away.
        possible = whole and workload_possible(service, self._cluster.capabilities)
        if possible:
            # First: two autoscalers, or one beside our own number of replicas, would fight.
            await self._applier.prune(manifests, live.owned, kinds=_AUTOSCALERS)
        made, problem = await self._applier.apply_all(service, manifests, live.found)
        if problem is None and possible:
            await self._applier.prune(manifests, live.owned)
        pods = tuple(live.pods.values())
        key = ServiceKey(service.namespace, service.name)
        wanted = {ref_of(manifest) for manifest in manifests}
        now = live.owned | made
        kept = [found for ref, found in now.items() if ref in wanted or not possible]
        return Observed(
            workload=_workload(kept),
            autoscaler=next((found for found in kept if found["kind"] in _AUTOSCALERS), None),
            capabilities=self._cluster.capabilities,
            pods=pods,
            claims=await self._claims(service),
            polled=self._poller.watch(key, pods),
            problem=problem,
        )

    async def _claims(self, service: Service) -> dict[str, Manifest]:
        refs = {
            name: ObjectRef("v1", "PersistentVolumeClaim", service.namespace, name)
            for name in needed_claims(service)
        }
        found = {name: await self._cluster.get(ref) for name, ref in refs.items()}
        return {name: claim for name, claim in found.items() if claim is not None}

    async def _write(self, raw: Manifest, after: Status) -> None:
        written = after.manifest()
        if not worth_writing(section(raw, "status"), written):
            return
        metadata = {key: raw["metadata"][key] for key in ("name", "namespace", "uid")}
        body = {
            "apiVersion": raw["apiVersion"],
            "kind": raw["kind"],
            # The uid: a status is about this very object, not about a successor of its name.
            "metadata": metadata,
            "status": written,
        }
        try:
            await self._cluster.apply(body, subresource="status")
        except Refused as refusal:
            # Deleted (and perhaps made anew) since it was read: its own event is on its way.
            if refusal.reason not in {"NotFound", "Conflict"}:
                raise

    async def _announce(self, raw: Manifest, before: Sequence[Condition], after: Status) -> None:
        told = announcements(raw, before=before, after=after.conditions, now=self._now())
        for event in told:
            _log.info("%s", event["message"], extra={"reason": event["reason"]})
            try:
                await self._cluster.apply(event)
            except Refused as refusal:
                # Without rights to Events the status still says everything.
                _log.warning("no Event could be written: %s", refusal.message)


def _workload(found: Iterable[Manifest]) -> Manifest | None:
    """What makes the pods; only ours says with what it was rendered."""
    workloads = (one for one in found if one["kind"] in _WORKLOADS)
    return next(
        (
            one
            for one in workloads
            if names.ANNOTATION_RENDERING in section(one, "metadata", "annotations")
        ),
        None,
    )
