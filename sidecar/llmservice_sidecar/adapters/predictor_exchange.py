"""What the predictor has learned, on its way: to a file, to the operator, to and from replicas.

Numbers only, never text. Replicas ask each other through the headless name of their service and
believe nobody else; what they get is checked as strictly as a stranger's.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import aiohttp
from llmservice_api import names
from llmservice_api.sidecar_config import KeepConfig

from llmservice_sidecar.adapters.predictors import keeping
from llmservice_sidecar.adapters.predictors.chain import ChainedPredictor
from llmservice_sidecar.adapters.predictors.learned import sharing, snapshot
from llmservice_sidecar.adapters.predictors.learned.acquaintances import (
    LONGEST_TEXT,
    Acquaintances,
    Troubles,
)
from llmservice_sidecar.adapters.predictors.learned.online import MAX_PEERS, OnlinePredictor
from llmservice_sidecar.adapters.predictors.learned.packing import Packed
from llmservice_sidecar.adapters.predictors.learned.sharing import MAX_BYTES, Encoded, Statistics
from llmservice_sidecar.adapters.predictors.learned.turns import step

_log = logging.getLogger(__name__)

KEEP_WITHIN_S: Final = 5.0  # at the end of a pod nobody waits for a model that hangs
AT_ONCE: Final = 4  # replicas that are asked: their payloads must not fill the memory
FRESH_S: Final = 15.0  # an answer is given again for so long: who asks often costs nothing
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)

_T = TypeVar("_T")
Resolve = Callable[[str], Awaitable[Iterable[str]]]  # host name to addresses; raises OSError


class PredictorExchange:
    """Keeps and shares what an online predictor has learned; any other predictor has nothing to,
    nor has one that does not learn.

    All work on the model is done in short steps between predictions. `own_address`: not to be
    asked. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        predictor: ChainedPredictor,
        config: KeepConfig | None,
        *,
        own_address: str | None = None,
        resolve: Resolve | None = None,
        keep_within_s: float = KEEP_WITHIN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        model = predictor.model
        self._predictor = predictor
        learns = predictor.learns
        self._model = model if isinstance(model, OnlinePredictor) and learns else None
        self._config = config or KeepConfig()
        self._own_address = own_address
        self._resolve = resolve or _addresses
        self._keep_within_s = keep_within_s
        self._clock = clock
        self._made: dict[str, tuple[float, bytes]] = {}
        self._making = asyncio.Lock()
        self._asking = asyncio.Semaphore(AT_ONCE)
        self._met = Acquaintances()
        self._troubles = Troubles(_log)

    async def statistics(self) -> bytes | None:
        """What its own requests taught it, for replicas; None: it is no online predictor."""
        if self._model is None:
            return None
        return await self._fresh("statistics", self._model.telling)

    async def snapshot(self) -> bytes | None:
        """Its whole state, for pods to come; None: it is no online predictor."""
        if self._model is None:
            return None
        return await self._fresh("snapshot", partial(snapshot.saving, self._model))

    async def follow(self) -> None:
        """Ask the replicas and write the state now and then, for as long as this task lives."""
        if self._model is None or self._config == KeepConfig():
            return
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                await self._logged("sharing", self.ask_peers(session))
                await asyncio.sleep(self._config.every_s)
                await self._logged("keeping", self.keep())

    async def keep(self) -> None:
        """Write the state to its file; what goes wrong is logged, and tried again next time."""
        path = self._config.state_path
        if self._model is None or path is None:
            return
        try:
            async with asyncio.timeout(self._keep_within_s):
                payload, left_out = await self._in_turns(snapshot.saving(self._model))
                await self._predictor.run_in_thread(partial(keeping.keep, payload, Path(path)))
        except Exception as error:
            # Whatever it is: a sidecar must end, and until then serve, without it.
            why = str(error) or type(error).__name__
            self._troubles.note(
                path, error, f"the predictor's state cannot be written to {path}: {why}"
            )
        else:
            self._troubles.over(path)
            self._told("state", left_out)

    async def ask_peers(self, session: aiohttp.ClientSession) -> None:
        """Take over the statistics of every replica that answers; forget those that have left."""
        host = self._config.peers_host
        if host is None or self._model is None:
            return
        try:
            found = set(await self._resolve(host))
        except OSError as error:
            self._troubles.note(host, error, f"the replicas cannot be found: {host}: {error}")
            return
        self._troubles.over(host)
        peers = sorted(found - {self._own_address})[:MAX_PEERS]
        answers = await asyncio.gather(*(self._ask(session, peer) for peer in peers))
        told: dict[str, Mapping[str, Packed] | None] = {
            said.replica: said.lessons for said in answers if said is not None
        }
        self._met.seen(peers, now=self._clock())
        told |= dict.fromkeys(self._met.gone(now=self._clock()))
        await self._in_turns(self._model.merging(told))

    async def _ask(self, session: aiohttp.ClientSession, address: str) -> Statistics | None:
        """What a replica tells if it is anything new. No error of one ends the others' sharing."""
        assert self._model is not None
        try:
            async with self._asking:
                payload = await fetch(session, address, port=self._config.peers_port)
                # After a change of the world the same words may count again.
                state = hashlib.blake2b(payload).digest(), self._model.restarts
                if self._met.said_before(address, state):
                    return None
                said = await self._in_turns(sharing.decoding(self._model.base, payload))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # A replica that is starting or leaving: it is asked again in a minute.
            text = str(error) or type(error).__name__
            _log.debug("replica %s tells no statistics: %s", address, text[:LONGEST_TEXT])
            return None
        except Exception as error:
            self._troubles.note(
                address, error, f"the statistics of replica {address} are not used: {error}"
            )
            return None
        self._troubles.over(address)
        self._met.met(address, said.replica, state)
        return said

    async def _fresh(self, name: str, make: Callable[[], Generator[None, None, Encoded]]) -> bytes:
        now = asyncio.get_running_loop().time
        async with self._making:
            made_at, payload = self._made.get(name, (0.0, b""))
            if not payload or now() - made_at > FRESH_S:
                payload, left_out = await self._in_turns(make())
                self._told(name, left_out)
                self._made[name] = (now(), payload)
            return payload

    async def _in_turns(self, work: Generator[None, None, _T]) -> _T:
        """The predictor's thread does a step, then what else waits for it, then the next."""
        while True:
            ended = await self._predictor.run_in_thread(partial(step, work))
            if ended is not None:
                return ended[0]

    async def _logged(self, what: str, work: Awaitable[None]) -> None:
        """The one place where an error ends that nothing else foresaw: the next minute is new."""
        try:
            await work
        except Exception as error:
            self._troubles.note(what, error, f"{what} what the predictor learned failed: {error}")
        else:
            self._troubles.over(what)

    def _told(self, name: str, left_out: int) -> None:
        about = f"{name} in full"
        if not left_out:
            self._troubles.over(about)
        else:
            text = f"{left_out} models do not fit into the predictor's {name}"
            self._troubles.note(about, None, f"{text}: those with least learned")


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
