"""`llmservice demo`: real vLLM on CPU, one workload, arrival order against SSJF."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from llmservice_local.console import JsonOption, note, print_table, write_json
from llmservice_local.errors import CommandError

_HELP = """Show on this machine what the order of a queue does, in about six minutes.

Starts the service of examples/tiny-cpu.yaml as local processes (real vLLM on CPU with a tiny model
that is made on the spot, real sidecar), measures what the engine can complete, and replays a
recorded workload at 0.92 of that four times: FCFS, SSJF, SSJF, FCFS. Writes report.html,
traces.json (upload it in Jaeger) and summary.json. Exits 1 when the figures cannot be trusted; if
SSJF does not win, the table says so.

With --predictor, SSJF runs twice with each of them and twice with the oracle, which knows the
recorded lengths: how much of the oracle's gain over FCFS does each keep? A minute and a half each.

\b
Examples:
  llmservice demo
  llmservice demo --out /tmp/demo --json -    the summary on standard output
  llmservice demo --predictor default --predictor build/proxy
"""

_EXAMPLE: Final = Path("examples/tiny-cpu.yaml")
_WORKLOAD: Final = Path("examples/workloads/demo-test.jsonl")
_TRAIN: Final = Path("examples/workloads/demo-train.jsonl")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", help=_HELP)(demo)


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Directory of the three files.")] = Path("demo"),
    file: Annotated[Path, typer.Option("--file", "-f", help="The service to run.")] = _EXAMPLE,
    workload: Annotated[Path, typer.Option(help="What is replayed.")] = _WORKLOAD,
    train: Annotated[Path, typer.Option(help="What the predictor has learned from.")] = _TRAIN,
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            help="default (has learned from --train, learns no more), oracle, or a folder that "
            "`llmservice train` wrote; several times: passes with each.  [default: default]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Recorded with the figures.")] = 1,
    json: JsonOption = None,
) -> None:
    """Measure, show one table, write three files."""
    from llmservice_lab.demo import table  # noqa: PLC0415 - numpy

    # Children are started by fork and exec: gRPC's handlers would only log that they did nothing.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from llmservice_local.demo_service import DemoOptions, run_demo  # noqa: PLC0415 - all of it

    predictors = list(dict.fromkeys([*predictor, "oracle"])) if predictor else ["default"]
    options = DemoOptions(
        out=out, file=file, workload=workload, train=train, seed=seed, predictors=predictors
    )
    summary = run_demo(options)
    print_table(table.header(summary), table.rows(summary))
    for line in table.facts(summary):
        note(line)
    note(f"written: {out}/report.html, {out}/traces.json (upload it in Jaeger), {out}/summary.json")
    write_json(json, summary)
    if summary["failures"]:
        raise CommandError(
            "the figures of this run cannot be trusted: " + "; ".join(summary["failures"]),
            next_step="run it again on a quiet machine",
        )
