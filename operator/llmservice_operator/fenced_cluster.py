"""A cluster that lets only the leader write, and no write outlast what the leader holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

from llmservice_api import names

from llmservice_operator.capabilities import Capabilities
from llmservice_operator.cluster import Cluster, ObjectRef, ServiceKey
from llmservice_operator.kube_json import Manifest
from llmservice_operator.leader_election import NotLeader


class FencedCluster:
    """Reads pass; before every write `check` raises NotLeader or says how long it may take.

    What stays is the time between the check and the first byte on the wire: an operator that is
    frozen just there for longer than the Lease lasts can send one late write. It is the
    server-side apply of a manifest as it was desired then; the successor is told of it by its
    watch and puts it right.
    """

    def __init__(self, cluster: Cluster, *, check: Callable[[], float]) -> None:
        self._cluster = cluster
        self._check = check

    @property
    def capabilities(self) -> Capabilities:
        """As the cluster says."""
        return self._cluster.capabilities

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """The live object, None when there is none."""
        return await self._cluster.get(ref)

    async def pods_of(self, key: ServiceKey) -> Sequence[Manifest]:
        """The pods with the service's label."""
        return await self._cluster.pods_of(key)

    async def apply(
        self,
        manifest: Manifest,
        *,
        subresource: str = "",
        manager: str = names.FIELD_MANAGER,
    ) -> Manifest:
        """Server-side apply. Raises NotLeader when it may not begin or has not ended in time."""
        async with self._fence():
            return await self._cluster.apply(manifest, subresource=subresource, manager=manager)

    async def delete(self, ref: ObjectRef, *, uid: str) -> None:
        """Delete that very object. Raises NotLeader as `apply` does."""
        async with self._fence():
            await self._cluster.delete(ref, uid=uid)

    @asynccontextmanager
    async def _fence(self) -> AsyncGenerator[None]:
        left_s = self._check()
        try:
            async with asyncio.timeout(left_s):
                yield
        except TimeoutError as error:
            raise NotLeader("the Lease ran out during a write, which was given up") from error
