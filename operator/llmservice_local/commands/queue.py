"""`llmservice queue`: who runs, who waits, when each starts, and why not now."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from llmservice_local.console import JsonOption, write_json
from llmservice_local.errors import CommandError

if TYPE_CHECKING:
    from llmservice_local.queue_sources import QueueSource, Replica

_HELP = """Show the queue of a service over all its pods: who runs, who waits, and why.

On a terminal the view is live until Ctrl-C; piped, or with --once, it is printed once. Pods are
asked through the API server's port forwarding: it needs the rights to list pods and to use
pods/portforward. Names and sizes are shown, never a prompt.

\b
Examples:
  llmservice queue chat                      of the context's namespace
  llmservice queue chat -n team --limit 50   more rows
  llmservice queue chat --once --json -      for scripts
  llmservice queue --url http://127.0.0.1:9091    a sidecar without a cluster (`up` prints it)
  kubectl llmsvc queue chat -n team          the same as a plugin of kubectl
"""

_MOST_ROWS: Final = 256
_PIPED_COLUMNS: Final = 200  # where no terminal says how wide it is
_LEAST_COLUMNS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Which service, and where."""

    service: str | None
    namespace: str | None
    context: str | None
    kubeconfig: str | None
    url: str | None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("queue", help=_HELP)(queue)


def queue(  # noqa: PLR0913 - every option is a parameter
    service: Annotated[str | None, typer.Argument(help="Name of the LLMService.")] = None,
    *,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Its namespace.  [default: context's]")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, max=_MOST_ROWS, help="Rows of each kind that are shown.")
    ] = 20,
    once: Annotated[bool, typer.Option("--once", help="Print once, on a terminal too.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Print again and again, piped too.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")
    ] = 2.0,
    url: Annotated[
        str | None, typer.Option(help="Ask the admin port of one sidecar, without a cluster.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
    kubeconfig: Annotated[
        str | None, typer.Option(help="Path of it.  [default: $KUBECONFIG, ~/.kube/config]")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Read and show; exits 1 when no replica answered."""
    if (service is None) == (url is None):
        raise typer.BadParameter("name one LLMService, or one sidecar with --url")
    if watch and (once or json is not None):
        raise typer.BadParameter("--watch goes with neither --once nor --json")
    place = _Place(
        service=service, namespace=namespace, context=context, kubeconfig=kubeconfig, url=url
    )
    live = not once and json is None and (watch or sys.stdout.isatty())
    if not live:
        asyncio.run(_show_once(place, limit=limit, json=json))
        return
    with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C is how a live view ends
        asyncio.run(_show_live(place, limit=limit, interval_s=interval))


async def _show_once(place: _Place, *, limit: int, json: str | None) -> None:
    async with _source(place) as source:
        replicas = await _read(source, limit)
    write_json(json, document(place.service, replicas))
    if json != "-":
        print("\n".join(_lines(place, replicas, rows=limit)), flush=True)


async def _show_live(place: _Place, *, limit: int, interval_s: float) -> None:
    from rich.live import Live  # noqa: PLC0415 - keeps --help fast
    from rich.text import Text  # noqa: PLC0415

    this = asyncio.current_task()
    assert this is not None
    # By the loop: Python's own handler can come in the middle of one of the loop's steps.
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, this.cancel)
    async with _source(place) as source:
        replicas = await _read(source, limit)
        if not sys.stdout.isatty():
            while True:
                print("\n".join([*_lines(place, replicas, rows=limit), ""]), flush=True)
                await asyncio.sleep(interval_s)
                replicas = await source.read(limit)
        with Live(screen=True, auto_refresh=False) as view:
            while True:
                room = view.console.height - 1
                lines = _lines(place, replicas, rows=limit)
                if len(lines) > room:
                    lines = [*lines[: room - 1], f"... {len(lines) - room + 1} more lines"]
                # Text, not markup: names are the clients'.
                view.update(Text("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)
                await asyncio.sleep(interval_s)
                replicas = await source.read(limit)


def document(service: str | None, replicas: Sequence[Replica]) -> dict[str, object]:
    """What `--json` writes: every replica's own view, or why there is none."""
    import msgspec  # noqa: PLC0415 - keeps --help fast

    return {
        "service": service,
        "replicas": [
            {
                "name": replica.name,
                "error": replica.error,
                "view": msgspec.to_builtins(replica.view),
            }
            for replica in replicas
        ],
    }


def _lines(place: _Place, replicas: Sequence[Replica], *, rows: int) -> list[str]:
    from llmservice_local.queue_text import queue_lines  # noqa: PLC0415 - keeps --help fast

    title = f"{datetime.now().astimezone():%H:%M:%S}  {place.service or place.url}"
    width = shutil.get_terminal_size((_PIPED_COLUMNS, 24)).columns
    return queue_lines(title, replicas, width=max(width, _LEAST_COLUMNS), rows=rows)


async def _read(source: QueueSource, rows: int) -> Sequence[Replica]:
    """The first look. Raises CommandError when nobody answered: there is nothing to show."""
    replicas = await source.read(rows)
    if any(replica.view is not None for replica in replicas):
        return replicas
    told = "\n".join(f"{replica.name}: {replica.error}" for replica in replicas)
    if any(replica.forbidden for replica in replicas):
        step = "ask for the ClusterRole of docs/cli.md#queue (pods/portforward: get, create)"
    else:
        step = "kubectl get pods tells whether they are ready; kubectl logs POD -c sidecar, why not"
    raise CommandError(f"no pod of {len(replicas)} answered", next_step=step, detail=told)


@contextlib.asynccontextmanager
async def _source(place: _Place) -> AsyncGenerator[QueueSource]:
    if place.url is not None:
        from llmservice_local.queue_sources import UrlSource  # noqa: PLC0415 - aiohttp

        yield UrlSource(place.url)
        return
    from llmservice_local.queue_cluster import cluster_source  # noqa: PLC0415 - kubernetes

    assert place.service is not None  # checked with the options
    async with cluster_source(
        place.service,
        namespace=place.namespace,
        context=place.context,
        kubeconfig=place.kubeconfig,
    ) as source:
        yield source
