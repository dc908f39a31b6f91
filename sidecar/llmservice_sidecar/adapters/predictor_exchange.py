"""What the predictor has learned, on its way: to a file, to the operator, to and from replicas.

Numbers only, never text. Replicas ask each other through the headless name of their service and
believe nobody else; what they get is checked as strictly as a stranger's.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
from llmservice_api import names
from llmservice_api.sidecar_config import KeepConfig

from llmservice_sidecar.adapters.predictors import keeping, snapshot
from llmservice_sidecar.adapters.predictors.chain import ChainedPredictor
from llmservice_sidecar.adapters.predictors.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.sharing import MAX_BYTES, PayloadError

_log = logging.getLogger(__name__)

MAX_PEERS: Final = 16
KEEP_WITHIN_S: Final = 5.0  # at the end of a pod nobody waits for a model that hangs
FRESH_S: Final = 5.0  # an answer is given again for so long: who asks often costs nothing
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)

Resolve = Callable[[str], Awaitable[Iterable[str]]]  # host name to addresses; raises OSError


class PredictorExchange:
    """Keeps and shares what an online predictor has learned; any other predictor has nothing to,
    nor has one that does not learn.

    `own_address`: not to be asked. `samples` of a peer replace what it had told before.
    """

    def __init__(
        self,
        predictor: ChainedPredictor,
        config: KeepConfig | None,
        *,
        own_address: str | None = None,
        resolve: Resolve | None = None,
        keep_within_s: float = KEEP_WITHIN_S,
    ) -> None:
        model = predictor.model
        self._predictor = predictor
        learns = predictor.learns
        self._model = model if isinstance(model, OnlinePredictor) and learns else None
        self._config = config or KeepConfig()
        self._own_address = own_address
        self._resolve = resolve or _addresses
        self._keep_within_s = keep_within_s
        self._made: dict[str, tuple[float, bytes]] = {}
        self._making = asyncio.Lock()
        self._troubles: dict[str, str] = {}

    async def statistics(self) -> bytes | None:
        """What its own requests taught it, for replicas; None: it is no online predictor."""
        if self._model is None:
            return None
        return await self._fresh("statistics", self._model.own_statistics)

    async def snapshot(self) -> bytes | None:
        """Its whole state, for pods to come; None: it is no online predictor."""
        if self._model is None:
            return None
        return await self._fresh("snapshot", partial(snapshot.save, self._model))

    async def follow(self) -> None:
        """Ask the replicas and write the state now and then, for as long as this task lives."""
        if self._model is None or self._config == KeepConfig():
            return
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                await self.ask_peers(session)
                await asyncio.sleep(self._config.every_s)
                await self.keep()

    async def keep(self) -> None:
        """Write the state to its file; what goes wrong is logged, and tried again next time."""
        path = self._config.state_path
        if self._model is None or path is None:
            return
        try:
            async with asyncio.timeout(self._keep_within_s):
                await self._predictor.run_in_thread(partial(keeping.keep, self._model, Path(path)))
        except Exception as error:
            # Whatever it is: a sidecar must end, and until then serve, without it.
            why = str(error) or type(error).__name__
            self._note(path, f"the predictor's state cannot be written to {path}: {why}")
        else:
            self._troubles.pop(path, None)

    async def ask_peers(self, session: aiohttp.ClientSession) -> None:
        """Take over the statistics of every replica that answers."""
        host = self._config.peers_host
        if host is None:
            return
        try:
            found = set(await self._resolve(host))
        except OSError as error:
            self._note(host, f"the replicas cannot be found: {host}: {error}")
            return
        peers = sorted(found - {self._own_address})[:MAX_PEERS]
        await asyncio.gather(*(self._ask(session, peer) for peer in peers))

    async def _ask(self, session: aiohttp.ClientSession, address: str) -> None:
        try:
            payload = await fetch(session, address, port=self._config.peers_port)
            assert self._model is not None
            await self._predictor.run_in_thread(partial(self._model.merge, address, payload))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # A replica that is starting or leaving: it is asked again in a minute.
            text = str(error) or type(error).__name__
            _log.debug("replica %s tells no statistics: %s", address, text)
        except PayloadError as error:
            self._note(address, f"the statistics of replica {address} are not used: {error}")
        else:
            self._troubles.pop(address, None)

    async def _fresh(self, name: str, make: Callable[[], bytes]) -> bytes:
        now = asyncio.get_running_loop().time
        async with self._making:
            made_at, payload = self._made.get(name, (0.0, b""))
            if not payload or now() - made_at > FRESH_S:
                payload = await self._predictor.run_in_thread(make)
                self._made[name] = (now(), payload)
            return payload

    def _note(self, about: str, trouble: str) -> None:
        """Log it once, not every minute."""
        if self._troubles.get(about) != trouble:
            if len(self._troubles) > 2 * MAX_PEERS:
                self._troubles.clear()  # addresses come and go
            self._troubles[about] = trouble
            _log.warning(trouble)


async def fetch(session: aiohttp.ClientSession, address: str, *, port: int) -> bytes:
    """A replica's statistics.

    Raises aiohttp.ClientError, TimeoutError or OSError; more bytes than there can be are an error.
    """
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{port}{names.PATH_STATISTICS}"
    async with session.get(url, allow_redirects=False) as response:
        response.raise_for_status()
        if response.status != 200:
            raise aiohttp.ClientPayloadError(f"HTTP {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_BYTES:
                raise aiohttp.ClientPayloadError(f"more than {MAX_BYTES} bytes")
        return bytes(body)


async def _addresses(host: str) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
