"""Users of a service that may fall asleep: each asks, reads to the end, and asks again.

    python sleepers.py SERVICE NAMESPACE HTTP_USERS GRPC_USERS

Unlike those of load.py they know one address alone, the Service's, and are many: while no replica
is ready every one of them waits with one request. Report and end are as there.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import grpc.aio
from e2e.programs.load import (
    END,
    RETRIES,
    GrpcClient,
    HttpClient,
    Lost,
    Refused,
    Report,
    Truncated,
)

TOKENS = 12
PATIENCE_S = 480.0  # a model that starts on a busy machine


async def use(door: str, client: HttpClient | GrpcClient, report: Report) -> None:
    """One user."""
    while not END.exists():
        report.add("requests", door)
        report.add(await once(door, client, report), door)


async def once(door: str, client: HttpClient | GrpcClient, report: Report) -> str:
    """One request; what became of it."""
    for attempt in range(RETRIES + 1):
        try:
            await client.ask(TOKENS)
        except Refused as error:
            report.add("refusals", door, f"attempt {attempt}: {error}")
            await asyncio.sleep(0.2 * 2**attempt)
        except (Lost, Truncated) as error:
            what = type(error).__name__.lower()
            report.add("examples", door, f"{what}: {error}")
            return what
        else:
            return "completed"
    return "given up"


async def tell(report: Report) -> None:
    """Write the counts every half second."""
    while True:
        report.write()
        await asyncio.sleep(0.5)


async def main(service: str, namespace: str, http_users: int, grpc_users: int) -> None:
    """Be users of `service` until END is there."""
    host = f"{service}.{namespace}.svc.cluster.local"
    report = Report()
    telling = asyncio.create_task(tell(report))
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
        grpc.aio.insecure_channel(f"dns:///{host}:50051") as channel,
    ):
        http = HttpClient(session, f"http://{host}:8000/v1/chat/completions", service)
        users = [use("http", http, report) for _ in range(http_users)]
        users += [use("grpc", GrpcClient(channel, PATIENCE_S), report) for _ in range(grpc_users)]
        await asyncio.gather(*users)
    telling.cancel()
    report.counts["ended"] = 1
    report.write()
    # The counts are read from this pod's files: it stays until it is deleted.
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
