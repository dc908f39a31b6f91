"""A request that waits for its turn and then gets it, on a machine however busy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from integration.sidecar.clients import occupied
from integration.sidecar.conftest import SLOTS
from integration.sidecar.running import SidecarProcess

T = TypeVar("T")


async def served_after(
    sidecar: SidecarProcess, wait_s: float, ask: Callable[[], Coroutine[Any, Any, T]]
) -> T:
    """What `ask` gives when it has to wait for at least so long, until those who run have left.

    They would run for seconds more: however late this is scheduled, there is somebody to wait for.
    """
    async with occupied(sidecar, running=SLOTS, out_len=900):
        asked = asyncio.create_task(ask())
        try:
            await asyncio.to_thread(sidecar.await_status, "it waits", queued_requests=1)
            await asyncio.sleep(wait_s)
        except BaseException:
            asked.cancel()
            raise
    return await asked
