"""`llmservice up`: one LLMService as local processes, until Ctrl-C."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from llmservice_local.console import JsonOption, note, waiting, write_json
from llmservice_local.errors import CommandError

if TYPE_CHECKING:
    from llmservice_local.running import RunningPod
    from llmservice_local.service import LocalService

_HELP = """Run an LLMService on this machine, without a cluster.

Renders the pod that the operator would make and runs its two containers as local processes: vLLM
in its own environment (made on the first run) and the sidecar in front of it. Container paths are
mapped with --mount; free ports are chosen and printed. Ctrl-C drains: what runs is finished first;
a second Ctrl-C cuts it off.

\b
Examples:
  llmservice up -f examples/tiny-cpu.yaml
  llmservice up -f service.yaml --mount /models=/data/models --port 8000
  llmservice up -f examples/tiny-cpu.yaml --json addresses.json    for scripts
"""

_FILE_HELP: Final = "LLMService manifest (YAML)."
_MOUNT_HELP: Final = "Where a container path lies on this machine: /models=DIR; repeatable."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up", help=_HELP)(up)


def up(
    *,
    file: Annotated[Path, typer.Option("--file", "-f", help=_FILE_HELP)],
    mount: Annotated[list[str] | None, typer.Option(help=_MOUNT_HELP)] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="HTTP port; 0: a free one.")] = 0,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="gRPC port.")] = 0,
    json: JsonOption = None,
) -> None:
    """Serve until interrupted; exits 1 when a process ends by itself."""
    from llmservice_local.service import (  # noqa: PLC0415 - the operator's code, for this only
        LocalOptions,
        parse_mounts,
        plan_service,
        read_document,
    )

    document = read_document(file)
    options = LocalOptions(
        directory=Path(tempfile.mkdtemp(prefix="llmservice-up-")),
        mounts=parse_mounts(mount or []),
        http_port=port,
        grpc_port=grpc_port,
    )
    with waiting("preparing vLLM and the model"):
        service = plan_service(document, options, log=note)
    asyncio.run(_serve(service, options.directory, json=json))
    # Only after a clean end: whoever looks for a failure needs the logs.
    shutil.rmtree(options.directory)


async def _serve(service: LocalService, directory: Path, *, json: str | None) -> None:
    from llmservice_local.running import running_pod  # noqa: PLC0415 - aiohttp
    from llmservice_local.service import ENGINE_MODULES  # noqa: PLC0415

    # Until it is ready, Ctrl-C cancels this task (asyncio.run) and the processes are stopped.
    async with AsyncExitStack() as stack:
        with waiting("starting vLLM and the sidecar"):
            pod = await stack.enter_async_context(
                running_pod(
                    service.plan,
                    directory=directory,
                    engine_path=ENGINE_MODULES,
                    start_timeout_s=service.start_timeout_s,
                )
            )
        interrupted = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
        _announce(service, pod, json=json)
        await _until_interrupted(pod, interrupted)


def _announce(service: LocalService, pod: RunningPod, *, json: str | None) -> None:
    at = pod.addresses
    note(f"{service.name} is ready (Ctrl-C drains and ends it)")
    note(f"  OpenAI   {at.http}/v1")
    note(f"  gRPC     {at.grpc}")
    note(f"  metrics  {at.ops}/metrics   status {at.ops}/status")
    note(f"  logs     {pod.directory}")
    model = pod.plan.static.model.name
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    note(f"try: curl {at.http}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'")
    write_json(
        json,
        {
            "name": service.name,
            "model": model,
            "http": at.http,
            "grpc": at.grpc,
            "ops": at.ops,
            "admin": at.admin,
            "engine": at.engine,
            "directory": str(pod.directory),
        },
    )


async def _until_interrupted(pod: RunningPod, interrupted: asyncio.Event) -> None:
    failed = asyncio.create_task(pod.failed())
    await _first(interrupted, failed)
    interrupted.clear()
    note("draining: what runs is finished; Ctrl-C again cuts it off")
    draining = asyncio.create_task(pod.drain())
    cut = asyncio.create_task(interrupted.wait())
    await asyncio.wait({draining, cut, failed}, return_when=asyncio.FIRST_COMPLETED)
    cut.cancel()
    if failed.done():
        raise failed.result()
    failed.cancel()
    if not draining.done():
        draining.cancel()
        note("not everything was finished")
        return
    draining.result()


async def _first(interrupted: asyncio.Event, failed: asyncio.Task[CommandError]) -> None:
    signalled = asyncio.create_task(interrupted.wait())
    await asyncio.wait({signalled, failed}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if failed.done():
        raise failed.result()
