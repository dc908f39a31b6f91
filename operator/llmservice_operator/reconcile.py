"""The one function that makes an LLMService true, from live state alone. Knows no kopf, no HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from llmservice_api import names
from llmservice_api.spec import SpecError

from llmservice_operator.announcements import announcements
from llmservice_operator.cluster import (
    CLAIM,
    DEPLOYMENT,
    LLM_SERVICE,
    OWNED_KINDS,
    POD,
    Cluster,
    ClusterError,
    Kind,
    ObjectRef,
    Refused,
    ServiceKey,
    reference,
)
from llmservice_operator.conditions import Condition, Finding, parse_conditions
from llmservice_operator.desired import desired
from llmservice_operator.desired.model_source import claim_name
from llmservice_operator.kube_json import Manifest, entries, section
from llmservice_operator.observed import Observed, Polled
from llmservice_operator.ownership import find, is_as_sent, is_owned, obstacle, stamped, surplus
from llmservice_operator.service import Service, parse_service, recorded_rendering
from llmservice_operator.settings import OperatorSettings
from llmservice_operator.status import Status, refused_status, status, worth_writing

logger = logging.getLogger(__name__)


class Reports(Protocol):
    """Where the replicas' own reports come from."""

    async def poll(self, key: ServiceKey, pods: Sequence[Manifest]) -> Mapping[str, Polled]:
        """The last answers of the ready pods, by pod uid."""
        ...

    def forget(self, key: ServiceKey) -> None:
        """The service is gone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler:
    """What reconciling works with; `clock` tells the time in UTC."""

    cluster: Cluster
    reports: Reports
    settings: OperatorSettings
    clock: Callable[[], datetime]

    async def reconcile(self, key: ServiceKey) -> float | None:
        """Make the cluster what the service asks for and write down how far that is.

        Returns in how many seconds to look again; None when the service is gone or going.
        Raises ClusterError when the API server does not do its part; calling again is safe.
        """
        ref = ObjectRef(LLM_SERVICE, key.namespace, key.name)
        live = await self.cluster.read(ref)
        if live is None or "deletionTimestamp" in live["metadata"]:
            # The owner references do the rest.
            self.reports.forget(key)
            return None
        before = parse_conditions(entries(live, "status", "conditions"))
        judged = await self._judged(key, live, before)
        await self._write(live, before, judged)
        return self._recheck_s(judged, now=self.clock())

    async def _judged(self, key: ServiceKey, live: Manifest, before: Sequence[Condition]) -> Status:
        selector = f"{names.LABEL_NAME}={key.name}"
        labelled = await self._list_all(OWNED_KINDS, key.namespace, selector)
        try:
            service = _service(live, labelled)
            wanted = [stamped(manifest) for manifest in desired(service, self.settings)]
        except SpecError as error:
            # What runs goes on running: only somebody who edits the spec can say what is meant.
            finding = Finding("InvalidSpec", str(error))
            generation: int = live["metadata"]["generation"]
            return refused_status(finding, generation=generation, before=before, now=self.clock())
        problem = await self._apply_all(service, wanted, labelled)
        owned = [manifest for manifest in labelled if is_owned(manifest, service)]
        for manifest in surplus(owned, wanted):
            logger.info("deleting %s: no longer wanted", reference(manifest))
            await self.cluster.delete(reference(manifest))
        observed = await self._observe(service, key, selector, problem)
        return status(service, observed, before=before, now=self.clock())

    async def _list_all(
        self, kinds: Sequence[Kind], namespace: str, selector: str
    ) -> list[Manifest]:
        lists = await asyncio.gather(
            *(self.cluster.list(kind, namespace=namespace, selector=selector) for kind in kinds)
        )
        return [manifest for objects in lists for manifest in objects]

    async def _apply_all(
        self, service: Service, wanted: Sequence[Manifest], labelled: Sequence[Manifest]
    ) -> Finding | None:
        """Apply what differs; the first thing that stood in the way."""
        problems: list[Finding] = []
        for manifest in wanted:
            ref = reference(manifest)
            live = find(labelled, manifest) or await self.cluster.read(ref)
            blocked = obstacle(live, service) if live is not None else None
            if blocked is not None:
                problems.append(blocked)
            elif live is None or not is_as_sent(live, manifest):
                logger.info("applying %s", ref)
                try:
                    await self.cluster.apply(manifest)
                except Refused as error:
                    problems.append(Finding("ApplyRefused", str(error)))
        return problems[0] if problems else None

    async def _observe(
        self, service: Service, key: ServiceKey, selector: str, problem: Finding | None
    ) -> Observed:
        deployments, pods = await asyncio.gather(
            self.cluster.list(DEPLOYMENT, namespace=key.namespace, selector=selector),
            self.cluster.list(POD, namespace=key.namespace, selector=selector),
        )
        deployment = next((live for live in deployments if is_owned(live, service)), None)
        claim = claim_name(service.spec.model.uri)
        return Observed(
            deployment=deployment,
            pods=tuple(pods),
            claim=await self.cluster.read(ObjectRef(CLAIM, key.namespace, claim))
            if claim
            else None,
            polled=await self.reports.poll(key, pods),
            problem=problem,
        )

    async def _write(self, live: Manifest, before: Sequence[Condition], judged: Status) -> None:
        after = judged.manifest()
        if not worth_writing(section(live, "status"), after):
            return
        ref = reference(live)
        await self.cluster.apply(
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                # The uid makes this fail for a later service of the same name.
                "metadata": {"name": ref.name, "namespace": ref.namespace, "uid": ref.uid},
                "status": after,
            },
            subresource="status",
        )
        told = announcements(ref, before=before, after=judged.conditions, now=self.clock())
        for event in told:
            try:
                await self.cluster.apply(event)
            except ClusterError as error:
                # Status has said it already; an Event is for people who look at the right time.
                logger.warning("an Event was not recorded: %s", error)

    def _recheck_s(self, judged: Status, *, now: datetime) -> float:
        settled_s = min(self.settings.settled_recheck_s, self.settings.poll_every_s)
        if judged.settled:
            return settled_s
        # Events tell of nearly everything; the longer nothing has moved, the less there is to see.
        newest = max(condition.since for condition in judged.conditions)
        unmoved_s = (now - newest).total_seconds()
        return max(self.settings.settling_recheck_s, min(settled_s, unmoved_s / 2))


def _service(live: Manifest, labelled: Sequence[Manifest]) -> Service:
    """The typed service, with the rendering that its own Deployment carries. Raises SpecError."""
    service = parse_service(live)
    for manifest in labelled:
        if manifest["kind"] == DEPLOYMENT.kind and is_owned(manifest, service):
            return parse_service(live, recorded=recorded_rendering(manifest))
    return service
