"""Streams answers through both doors until it is told to end, and counts what became of each.

    python load.py SERVICE NAMESPACE

Runs in a pod beside the service with nothing but what the sidecar's image holds. It behaves as
real clients do: HTTP keeps its connections to the Service's address, gRPC keeps one channel to it
and one that balances over the headless name; what is refused (503, UNAVAILABLE before the first
message) is tried again at most three times. The counts are in REPORT; the file END ends the asking.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import grpc.aio
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2 as pb
from llmservice_sidecar.wire.llmservice.inference.v1alpha1 import inference_pb2_grpc

REPORT: Final = Path("/tmp/report.json")
END: Final = Path("/tmp/end")
HTTP_WORKERS: Final = 6
GRPC_WORKERS: Final = 3  # for each channel
RETRIES: Final = 3
TIMEOUT_S: Final = 120.0
LONGEST_PAUSE_S: Final = 0.4
KEPT: Final = 20  # examples of what went wrong


class Refused(Exception):
    """The service said no before it did anything: trying again is safe."""


class Lost(Exception):
    """No answer and no refusal."""


class Truncated(Exception):
    """An answer that began and did not end as it should have."""


class Report:
    """Counts of requests, by door; written for whoever asks."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []

    def add(self, what: str, door: str, example: str = "") -> None:
        """One more of these; the first few examples are kept."""
        self.counts[what] += 1
        self.counts[f"{what} {door}"] += 1
        if example and len(self.examples) < KEPT:
            now = time.strftime("%H:%M:%S", time.gmtime())
            self.examples.append(f"{now} {door} {what}: {example[:300]}")

    def write(self) -> None:
        """Replace the file in one step: a reader sees a whole one."""
        draft = REPORT.with_suffix(".new")
        draft.write_text(json.dumps({"counts": self.counts, "examples": self.examples}))
        draft.rename(REPORT)


class HttpClient:
    """The OpenAI API through one pool of kept connections."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        self._session = session
        self._url = url
        self._model = model

    async def ask(self, length: int) -> None:
        """One streamed answer of `length` tokens, to its end."""
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": f"Tell me {length} things."}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 512,
            "vllm_xargs": {"out_len": length},
        }
        lines: list[bytes] = []
        try:
            async with self._session.post(self._url, json=body) as reply:
                if reply.status == 503:
                    raise Refused(await reply.text())
                if reply.status != 200:
                    raise Lost(f"HTTP {reply.status}: {await reply.text()}")
                lines.extend([line async for line in reply.content if line.startswith(b"data: ")])
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            what = f"{type(error).__name__}: {error} after {len(lines)} events"
            raise (Truncated(what) if lines else Lost(what)) from error
        _check_events([line[len(b"data: ") :].strip() for line in lines], length)


def _check_events(events: list[bytes], length: int) -> None:
    if not events or events[-1] != b"[DONE]":
        raise Truncated(f"no [DONE] after {len(events)} events: {events[-1:]}")
    decoded: list[dict[str, Any]] = [json.loads(event) for event in events[:-1]]
    finished = [c for event in decoded for c in event.get("choices", []) if c.get("finish_reason")]
    used = [event["usage"]["completion_tokens"] for event in decoded if event.get("usage")]
    if len(finished) != 1 or used[-1:] != [length]:
        raise Truncated(f"{len(finished)} finishes and {used} tokens instead of {length}")


class GrpcClient:
    """InferenceService through one kept channel."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float = TIMEOUT_S) -> None:
        self._stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        self._timeout_s = timeout_s

    async def ask(self, length: int) -> None:
        """One streamed answer of `length` tokens, to its end."""
        request = pb.GenerateRequest(
            chat=pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="Tell me more.")]),
            sampling=pb.SamplingParams(max_tokens=512),
            extra_args={"out_len": str(length)},
        )
        answers: list[pb.GenerateResponse] = []
        try:
            answers.extend(
                [answer async for answer in self._stub.Generate(request, timeout=self._timeout_s)]
            )
        except grpc.aio.AioRpcError as error:
            what = f"{error.code().name}: {error.details()} after {len(answers)} messages"
            if answers:
                raise Truncated(what) from error
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise Refused(what) from error
            raise Lost(what) from error
        last = answers[-1] if answers else pb.GenerateResponse()
        if last.finished.usage.completion_tokens != length:
            raise Truncated(f"{last.finished.usage.completion_tokens} tokens instead of {length}")


async def work(door: str, client: HttpClient | GrpcClient, report: Report, seed: int) -> None:
    """One user: asks, reads to the end, thinks a little, asks again."""
    rng = random.Random(f"{door} {seed}")
    while not END.exists():
        # Mostly short; the long ones are what a drain has to wait for.
        length = rng.randint(5, 40) if rng.random() < 0.95 else rng.randint(150, 300)
        await _one(door, client, report, length)
        await asyncio.sleep(rng.uniform(0, LONGEST_PAUSE_S))


async def _one(door: str, client: HttpClient | GrpcClient, report: Report, length: int) -> None:
    report.add("requests", door)
    for attempt in range(RETRIES + 1):
        try:
            await client.ask(length)
        except Refused as error:
            report.add("refusals", door, f"attempt {attempt}: {error}")
            await asyncio.sleep(0.2 * 2**attempt)
        except Lost as error:
            return report.add("lost", door, str(error))
        except Truncated as error:
            return report.add("truncated", door, str(error))
        else:
            return report.add("completed", door)
    return report.add("given up", door)


async def tell(report: Report) -> None:
    """Write the counts every half second."""
    while True:
        report.write()
        await asyncio.sleep(0.5)


async def main(service: str, namespace: str) -> None:
    """Serve as users of `service` until END is there."""
    host = f"{service}.{namespace}.svc.cluster.local"
    spread = f"{service}-headless.{namespace}.svc.cluster.local"
    report = Report()
    telling = asyncio.create_task(tell(report))
    options = [
        # gRPC asks DNS at most every thirty seconds, and pods of this test live no longer.
        ("grpc.dns_min_time_between_resolutions_ms", 1000),
        ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ]
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        grpc.aio.insecure_channel(f"dns:///{host}:50051") as one,
        grpc.aio.insecure_channel(f"dns:///{spread}:50051", options=options) as many,
    ):
        http = HttpClient(session, f"http://{host}:8000/v1/chat/completions", service)
        users = [work("http", http, report, seed) for seed in range(HTTP_WORKERS)]
        for seed in range(GRPC_WORKERS):
            users.append(work("grpc", GrpcClient(one), report, seed))
            users.append(work("grpc-headless", GrpcClient(many), report, seed))
        await asyncio.gather(*users)
    telling.cancel()
    report.counts["ended"] = 1
    report.write()
    # The counts are read from this pod's files: it stays until it is deleted.
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
