"""`llmservice replay`: what recorded traffic would have been like under other orders of service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmservice_local.console import JsonOption, note, print_table, progress_bar, write_json
from llmservice_local.errors import CommandError
from llmservice_local.trace_sources import (
    MOST_REQUESTS,
    HeaderOption,
    LimitOption,
    ServiceOption,
    SinceOption,
    UntilOption,
    read_traces,
)

if TYPE_CHECKING:
    from llmservice_lab.analysis.record import Reading
    from llmservice_lab.replay.document import Comparison, ReplayDocument
    from llmservice_lab.replay.plan import ReplayPlan
    from llmservice_lab.results import RunSummary
    from llmservice_lab.sim_plan import RunStep

_HELP = """Replay recorded traces under another policy, limit or prediction.

What would SSJF have given you last Tuesday? Arrivals, prompts' sizes and true lengths are those of
the traces, the gate is that of the sidecar, and the engine is a model fitted to the traces' own
times. First the recorded policy is replayed and compared with what was measured: where that is too
far off, no gain is promised and the exit code is 1. Every change has its 95 % interval.

Sources are those of `llmservice report`: files of OTLP/JSON, or one trace store.

\b
Examples:
  llmservice replay traces.json
  llmservice replay traces.jsonl --policy SSJF --predictor recorded --predictor oracle --json -
  llmservice replay tempo+http://localhost:3200 --service chat --since 2026-07-07T08:00Z \\
      --until 2026-07-07T20:00Z --policy SSJF --slots 16
"""

_HEADER = ("policy, predictor", "mean", "p50", "p99", "p99.9", "wait", "tau")
_CHANGES = ("policy, predictor", "figure", "before", "after", "gain", "95 % interval")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay", help=_HELP)(replay)


def replay(  # noqa: PLR0913 - one parameter an option
    *,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="Files, or one trace store.")
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="SSJF or any other of docs/adding-a-policy.md; several times: one replay each.  "
            "[default: SSJF]"
        ),
    ] = None,
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            help="recorded (what stands on the spans), oracle (the true lengths) or none; several "
            "times: one replay each.  [default: recorded]"
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(min=1, help="Requests in flight at once.  [default: as each pod had]"),
    ] = None,
    tail_weight: Annotated[
        float,
        typer.Option(min=0.0, help="How strongly waiting counts against size; 0: shortest first."),
    ] = 1.0,
    recorded_policy: Annotated[
        str | None,
        typer.Option(help="Only what this policy served.  [default: whatever served]"),
    ] = None,
    recorded_tail_weight: Annotated[
        float,
        typer.Option(min=0.0, help="What the recorded policy ran with, where traces do not say."),
    ] = 1.0,
    service: ServiceOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = MOST_REQUESTS,
    header: HeaderOption = None,
    seed: Annotated[int, typer.Option(help="Same seed, same numbers.")] = 1,
    force: Annotated[
        bool, typer.Option("--force", help="Show gains although the self-check fails.")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Read, replay, show a table."""
    from llmservice_lab.replay.plan import ReplayPlan  # noqa: PLC0415 - keeps --help fast

    plan = ReplayPlan(
        policies=policy or ["SSJF"],
        predictors=predictor or ["recorded"],
        slots=slots,
        tail_weight=tail_weight,
        recorded_policy=recorded_policy,
        recorded_tail_weight=recorded_tail_weight,
        seed=seed,
        force=force,
    )
    try:
        reading = read_traces(
            sources, service=service, since=since, until=until, limit=limit, header=header
        )
        document = _run(reading, plan)
    except (OSError, ValueError) as error:
        raise CommandError(
            str(error), next_step="`llmservice replay --help` shows what is allowed"
        ) from error
    write_json(json, document)
    if json != "-":
        _show(document)
    if not document["self_check"]["passed"] and not force:
        raise CommandError(
            f"no gain is promised: {_told(document)}; allowed: "
            f"{document['self_check']['bound']:.0%} of the mean end-to-end time",
            next_step="see docs/replay.md for the usual causes; --force shows the figures anyway",
        )


def _run(reading: Reading, plan: ReplayPlan) -> ReplayDocument:
    from llmservice_lab.replay.plan import run_replay  # noqa: PLC0415 - keeps --help fast

    runs = 1 + len(plan.policies) * len(plan.predictors)
    with progress_bar("replaying", runs * len(reading.requests)) as update:

        def on_step(step: RunStep) -> None:
            if step.ended % 100 == 0 or step.ended == step.total:
                update((step.number - 1) * step.total + step.ended, step.name)

        return run_replay(reading, plan, on_step=on_step)


def _show(document: ReplayDocument) -> None:
    requests = sum(document["requests_by_outcome"].values())
    load = document["offered_load"]
    note(
        f"{document['workload']}: {requests} requests"
        + ("" if load is None else f", offered load {load:.2f}")
        + "; seconds from arrival to the end, mean wait in the queue, Kendall tau of the predictor"
    )
    recorded, *others = document["runs"]
    rows = [_row("as measured", document["measured"]), _row("as replayed", recorded)]
    rows += [_row(f"{run['policy']}, {run['predictor']}", run) for run in others]
    print_table(_HEADER, rows)
    note(f"self-check ({recorded['policy']}): {_told(document)}")
    if document["comparisons"]:
        note("gain over the recording as replayed, with 95 % intervals:")
        print_table(_CHANGES, [row for one in document["comparisons"] for row in _gains(one)])
    for limit in document["limits"]:
        note(f"note: {limit}")


def _told(document: ReplayDocument) -> str:
    check = document["self_check"]
    return (
        f"the replay of what was recorded is off by {_percent(check['e2e_error'])} in the mean "
        f"end-to-end time and by {_percent(check['wait_error'])} in the wait"
    )


def _gains(one: Comparison) -> list[list[str]]:
    return [
        [
            "" if number else f"{one['policy']}, {one['predictor']}",
            change["figure"].replace("_", " "),
            _figure(change["before_s"]),
            _figure(change["after_s"]),
            _percent(change["gain"]),
            f"{_percent(change['low'])} to {_percent(change['high'])}",
        ]
        for number, change in enumerate(one["changes"])
    ]


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:+.0%}"


def _row(name: str, run: RunSummary) -> list[str]:
    e2e = run["e2e_s"]
    figures = (e2e["mean"], e2e["p50"], e2e["p99"], e2e["p999"])
    return [name, *map(_figure, (*figures, run["queue_wait_s"]["mean"], run["tau"]))]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
