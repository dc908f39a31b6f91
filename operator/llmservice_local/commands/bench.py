"""`llmservice bench`: open-loop load on any OpenAI endpoint."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmservice_local.console import (
    JsonOption,
    note,
    print_table,
    progress_bar,
    write_json,
)
from llmservice_local.errors import CommandError

if TYPE_CHECKING:
    from llmservice_lab.bench import BenchOptions, BenchResult

_HELP = """Measure any OpenAI server with a recorded workload, open loop.

Requests leave at their recorded times whatever the answers do, and every latency counts from the
moment a request was due. Nothing is retried. Answer lengths are forced inside the engine where it
has the processor (allowedExtraArgs: [out_len]); where it has not, the output says so and the real
lengths are recorded.

\b
Examples:
  llmservice bench --target http://127.0.0.1:8000 \\
      --workload examples/workloads/demo-test.jsonl
  llmservice bench --target URL --workload F --load 0.9     of measured capacity
  llmservice bench --target URL --workload F --rate 5 --arrivals poisson --json -
"""


_Target = Annotated[str, typer.Option(help="Base URL of the server, without /v1.")]
_Workload = Annotated[Path, typer.Option(help="Workload file: .jsonl or .parquet.")]
_Model = Annotated[
    str | None, typer.Option(help="Model to request [default: the first that is served].")
]
_Requests = Annotated[
    int | None, typer.Option(min=10, help="Use only the first N requests of the workload.")
]
_Rate = Annotated[
    float | None, typer.Option(min=1e-6, help="Mean requests a second [default: as recorded].")
]
_Load = Annotated[
    float | None, typer.Option(min=1e-6, help="Measure capacity first; offer this share of it.")
]
_Arrivals = Annotated[
    str, typer.Option(help="recorded | poisson | gamma:CV | burst:PEAK,SECONDS,EVERY.")
]
_MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="The same for all [default: the longest answer].")
]
_ForceLengths = Annotated[bool, typer.Option(help="Force recorded answer lengths in the engine.")]
_Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds for one request.")]
_Header = Annotated[
    list[str] | None, typer.Option(help="NAME: VALUE, sent with every request; repeatable.")
]
_Label = Annotated[str, typer.Option(help="Policy name in the result.")]
_Slots = Annotated[int, typer.Option(min=0, help="Engine slots in the result.")]
_Seed = Annotated[int, typer.Option(help="Seed of generated arrivals.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench", help=_HELP)(bench)


def bench(  # noqa: PLR0913 - one parameter per flag
    *,
    target: _Target,
    workload: _Workload,
    model: _Model = None,
    requests: _Requests = None,
    rate: _Rate = None,
    load: _Load = None,
    arrivals: _Arrivals = "recorded",
    max_tokens: _MaxTokens = None,
    force_lengths: _ForceLengths = True,
    timeout: _Timeout = 600.0,
    header: _Header = None,
    label: _Label = "server",
    slots: _Slots = 0,
    seed: _Seed = 1,
    json: JsonOption = None,
) -> None:
    """Measure one server; exits 1 when a request failed."""
    from llmservice_lab.bench import BenchOptions  # noqa: PLC0415 - numpy and aiohttp

    if rate is not None and load is not None:
        raise CommandError(
            "--rate and --load both say how fast to send", next_step="give one of the two"
        )
    options = BenchOptions(
        target=target,
        workload=workload,
        model=model,
        requests=requests,
        rate_rps=rate,
        load=load,
        arrivals=arrivals,
        max_tokens=max_tokens,
        force_lengths=force_lengths,
        timeout_s=timeout,
        headers=_headers(header or []),
        label=label,
        slots=slots,
        seed=seed,
    )
    result = _run(options)
    _show(result)
    write_json(json, result)
    _refuse_errors(result)


def _refuse_errors(result: BenchResult) -> None:
    if result["errors"]:
        raise CommandError(
            f"{sum(result['errors'].values())} requests failed: {next(iter(result['errors']))}",
            next_step="see `errors` of --json, and the server's log",
        )


def _run(options: BenchOptions) -> BenchResult:
    import uvloop  # noqa: PLC0415 - see bench
    from llmservice_lab.bench import BenchError, run_bench  # noqa: PLC0415
    from llmservice_lab.workload import WorkloadError  # noqa: PLC0415

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run_bench(options, progress_bar))
    except BenchError as error:
        raise CommandError(
            str(error), next_step="check --target, --model and that the server is ready"
        ) from error
    except WorkloadError as error:
        raise CommandError(
            str(error), next_step="see `llmservice sim --help` for the columns of a workload"
        ) from error
    except ValueError as error:
        raise CommandError(str(error), next_step="correct --arrivals, --rate or --load") from error


def _headers(given: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in given:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise CommandError(
                f"--header {line!r} is not NAME: VALUE",
                next_step="write it like --header 'Authorization: Bearer TOKEN'",
            )
        headers[name.strip()] = value.strip()
    return headers


def _show(result: BenchResult) -> None:
    run = result["runs"][0]
    body: list[tuple[str, ...]] = [
        (
            title,
            *(
                "-" if value is None else f"{value:.3f} s"
                for value in (q["mean"], q["p50"], q["p99"])
            ),
        )
        for title, q in (
            ("end to end", run["e2e_s"]),
            ("time to first token", run["ttft_s"]),
            ("queue wait", run["queue_wait_s"]),
        )
    ]
    print_table(("", "mean", "p50", "p99"), body)
    capacity, load = result["capacity_rps"], result["offered_load"]
    share = f" = {load:.2f} of {capacity:.2f}/s" if load is not None else ""
    note(
        f"{run['completed']} of {run['requests']} completed, {run['tokens_per_s'] or 0:.0f} output "
        f"tokens/s, offered {result['offered_rps']:.2f} requests/s{share}"
    )
    note(f"lengths {result['lengths']}; sent at most {result['sent_late_max_s'] * 1e3:.0f} ms late")
