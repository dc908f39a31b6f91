"""What no event may have told: services whose change was missed, kinds that came or went."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from llmservice_api import names

from llmservice_operator.cluster import ClusterError, ServiceKey
from llmservice_operator.kube_json import Manifest
from llmservice_operator.settings import OperatorSettings
from llmservice_operator.sight import Sight

_log = logging.getLogger(__name__)


class Catalogue(Protocol):
    """What can be asked about the cluster as a whole; raises ClusterError."""

    async def served(self) -> bool:
        """Whether the API server knows LLMServices."""
        ...

    async def discover(self) -> bool:
        """Ask which optional kinds are served; whether the answer has changed."""
        ...

    def list_services(self, namespace: str) -> AsyncGenerator[Manifest]:
        """Metadata of every LLMService in the namespace, in all when it is empty."""
        ...


class Resync:
    """Lists the services now and then, and has those looked at whose watch has not told them."""

    def __init__(
        self,
        catalogue: Catalogue,
        sight: Sight,
        *,
        look_at: Callable[[ServiceKey], None],
        settings: OperatorSettings,
    ) -> None:
        self._catalogue = catalogue
        self._sight = sight
        self._look_at = look_at
        self._settings = settings
        self._definitions = asyncio.Event()
        self._unsettled_until_s = 0.0

    def definitions_changed(self) -> None:
        """An optional kind may have come or gone."""
        self._definitions.set()

    async def until_served(self) -> None:
        """Wait for the CRD: bound to namespaces, kopf looks for it once and never again."""
        while True:
            try:
                if await self._catalogue.served():
                    await self._catalogue.discover()
                    return
                _log.warning(
                    "%s is not served: install the CRD (kubectl apply -f crds/llmservice.yaml)",
                    names.API_VERSION,
                )
            except ClusterError as error:
                _log.warning("the API server cannot be asked: %s", error)
            await asyncio.sleep(self._settings.settling_recheck_s)

    async def run(self) -> None:
        """List until cancelled; at once when a kind that a service can own has come or gone."""
        loop = asyncio.get_running_loop()
        next_s = loop.time() + self._settings.resync_every_s
        while True:
            await self._definitions_or(next_s)
            others = await self._rediscovered()
            if not others and loop.time() < next_s:
                continue
            next_s = loop.time() + self._settings.resync_every_s
            await self._list(all_of_them=others)

    async def _list(self, *, all_of_them: bool) -> None:
        namespaces: Sequence[str] = self._settings.namespaces or ("",)
        try:
            for namespace in namespaces:
                async for found in self._catalogue.list_services(namespace):
                    if not self._sight.listed(found) or all_of_them:
                        metadata = found["metadata"]
                        self._look_at(ServiceKey(metadata["namespace"], metadata["name"]))
        except ClusterError as error:
            _log.warning("services could not be listed: %s", error)

    async def _definitions_or(self, deadline_s: float) -> None:
        """Wait until it is time to ask for definitions, at most until then on the loop's clock."""
        loop, settings = asyncio.get_running_loop(), self._settings
        if loop.time() < self._unsettled_until_s:
            deadline_s = min(deadline_s, loop.time() + settings.definitions_every_s)
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._definitions.wait()
        except TimeoutError:
            return
        self._definitions.clear()
        # It is served a while after its last event, and nothing tells when.
        self._unsettled_until_s = loop.time() + settings.definitions_settle_s

    async def _rediscovered(self) -> bool:
        """Whether other optional kinds are served than before, as far as it can be known."""
        try:
            return await self._catalogue.discover()
        except ClusterError as error:
            _log.warning("it is not known which optional kinds are served: %s", error)
            return False
