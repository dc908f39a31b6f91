"""A pod's two containers as local processes: started, awaited, watched, drained, stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, cast

import aiohttp
from llmservice_api import names
from llmservice_api.sidecar_config import LiveConfig, StaticConfig, encode_config

from llmservice_local.errors import CommandError
from llmservice_local.pod import LOOPBACK, PodPlan
from llmservice_local.processes import ChildProcess

_POLL_S: Final = 0.1
_ANNOUNCEMENT: Final = '{"http_port"'
_SIDECAR_START_S: Final = 60.0
_GRACE_S: Final = 10.0
_PROPAGATION_S: Final = 30.0  # a drain may take this much longer than its own timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the local pod answers; URLs without a trailing slash, gRPC as host:port."""

    http: str
    grpc: str
    ops: str
    admin: str
    engine: str


@dataclass(slots=True, kw_only=True)
class RunningPod:
    """Both processes, ready; `addresses` are the present sidecar's."""

    plan: PodPlan
    addresses: Addresses
    directory: Path  # configuration files and logs
    engine: ChildProcess
    sidecar: ChildProcess
    live: LiveConfig = field(init=False)
    _settled: asyncio.Event = field(default_factory=asyncio.Event)  # no sidecar is being replaced

    def __post_init__(self) -> None:
        self.live = self.plan.live
        self._settled.set()

    async def failed(self) -> CommandError:
        """Wait until one process ends by itself; what to tell then."""
        while True:
            sidecar = self.sidecar
            child, code = await _first_end(self.engine, sidecar)
            await self._settled.wait()
            if child is self.engine or child is self.sidecar:
                return child.failure(code)

    async def replace_sidecar(self, static: StaticConfig | None = None) -> None:
        """Put a fresh sidecar in the place of this one: all it has learned and queued is gone.

        `static`: what it is configured with from now on; None: as before.
        """
        self._settled.clear()
        try:
            await self.sidecar.stop(signal.SIGINT, grace_s=_GRACE_S)
            if static is not None:
                self.plan = replace(self.plan, static=static)
                path = self.directory / "config" / names.STATIC_CONFIG_FILE
                path.write_text(encode_config(static))
            self.sidecar = await _start_sidecar(self.plan, self.directory)
            self.addresses = await _await_ready(
                self.plan, self.engine, self.sidecar, start_timeout_s=_SIDECAR_START_S
            )
        finally:
            self._settled.set()

    def apply(self, live: LiveConfig) -> None:
        """Write `live.json` in one step, as a changed ConfigMap appears to a pod."""
        path = self.directory / "config" / names.LIVE_CONFIG_FILE
        staged = path.with_suffix(".new")
        staged.write_text(encode_config(live))
        staged.replace(path)
        self.live = live

    async def drain(self) -> None:
        """Ask the sidecar to finish what it has and to refuse the rest, as `preStop` does."""
        limit = aiohttp.ClientTimeout(total=self.plan.static.drain_timeout_s + _PROPAGATION_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.post(f"{self.addresses.admin}/drain") as response,
            ):
                response.raise_for_status()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CommandError(
                f"the sidecar did not drain: {error}",
                next_step=f"requests may have been cut off; its log is {self.sidecar.log}",
            ) from error


@asynccontextmanager
async def running_pod(
    plan: PodPlan, *, directory: Path, engine_path: Path, start_timeout_s: float
) -> AsyncGenerator[RunningPod]:
    """Start both containers of `plan`, wait until they are ready, stop them at the end.

    `engine_path` joins the engine's module path. Files go to `directory`.
    Raises CommandError when one ends or is not ready after `start_timeout_s`.
    """
    config = directory / "config"
    config.mkdir(parents=True, exist_ok=True)
    (config / names.STATIC_CONFIG_FILE).write_text(encode_config(plan.static))
    (config / names.LIVE_CONFIG_FILE).write_text(encode_config(plan.live))
    # The kubelet's order: the sidecar first; it stops last.
    sidecar = await _start_sidecar(plan, directory)
    pod: RunningPod | None = None
    try:
        engine = await ChildProcess.start(
            plan.engine,
            log=directory / "engine.log",
            extra={"PYTHONPATH": os.pathsep.join(_module_path(plan, engine_path))},
        )
        try:
            addresses = await _await_ready(plan, engine, sidecar, start_timeout_s=start_timeout_s)
            pod = RunningPod(
                plan=plan, addresses=addresses, directory=directory, engine=engine, sidecar=sidecar
            )
            yield pod
        finally:
            await engine.stop(signal.SIGTERM, grace_s=_GRACE_S)
    finally:
        # At once: whoever wanted a drain has had it, and a sidecar drains again on SIGTERM.
        await (pod.sidecar if pod else sidecar).stop(signal.SIGINT, grace_s=_GRACE_S)


async def _start_sidecar(plan: PodPlan, directory: Path) -> ChildProcess:
    return await ChildProcess.start(plan.sidecar, log=directory / "sidecar.log", extra={})


def _module_path(plan: PodPlan, engine_path: Path) -> list[str]:
    given = plan.engine.environment.get("PYTHONPATH")
    return [str(engine_path), *([given] if given else [])]


async def _await_ready(
    plan: PodPlan, engine: ChildProcess, sidecar: ChildProcess, *, start_timeout_s: float
) -> Addresses:
    ended = asyncio.create_task(_first_end(engine, sidecar))
    ready = asyncio.create_task(_ready(plan, sidecar))
    try:
        done, _ = await asyncio.wait(
            {ended, ready}, timeout=start_timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if ended in done:
            child, code = ended.result()
            raise child.failure(code)
        if ready in done:
            return ready.result()
        raise CommandError(
            f"not ready after {start_timeout_s:g} s",
            next_step=f"raise spec.engine.startupTimeoutSeconds, or read {engine.log}",
            detail=engine.tail(),
        )
    finally:
        ended.cancel()
        ready.cancel()


async def _ready(plan: PodPlan, sidecar: ChildProcess) -> Addresses:
    addresses = await _announced(plan, sidecar)
    limit = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=limit) as session:
        while not await _answers(session, f"{addresses.ops}/readyz"):  # noqa: ASYNC110 - another process
            await asyncio.sleep(_POLL_S)
    return addresses


async def _announced(plan: PodPlan, sidecar: ChildProcess) -> Addresses:
    """The ports that the sidecar says it got: the system chose them."""
    deadline = time.monotonic() + _SIDECAR_START_S
    while (line := sidecar.line(_ANNOUNCEMENT)) is None:
        if time.monotonic() > deadline:
            raise CommandError(
                f"the sidecar did not say its ports within {_SIDECAR_START_S:g} s",
                next_step=f"read its log: {sidecar.log}",
                detail=sidecar.tail(),
            )
        await asyncio.sleep(_POLL_S)
    said = cast("dict[str, int]", json.loads(line))
    scheme = "http" if plan.static.security.tls_dir is None else "https"
    return Addresses(
        http=f"{scheme}://{LOOPBACK}:{said['http_port']}",
        grpc=f"{LOOPBACK}:{said['grpc_port']}",
        ops=f"http://{LOOPBACK}:{said['ops_port']}",
        admin=f"http://{LOOPBACK}:{said['admin_port']}",
        engine=plan.static.engine.url,
    )


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False  # not listening yet


async def _first_end(*children: ChildProcess) -> tuple[ChildProcess, int]:
    """The child that ends first, and its exit code."""
    waits = {asyncio.create_task(child.wait()): child for child in children}
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
    first = next(iter(done))
    return waits[first], first.result()
