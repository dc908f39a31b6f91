"""`llmservice sim`: compare orders of service on virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmservice_local.console import JsonOption, note, print_table, progress_bar, write_json
from llmservice_local.errors import CommandError

if TYPE_CHECKING:
    from llmservice_lab.results import RunSummary
    from llmservice_lab.sim_plan import RunStep, SimDocument, SimPlan

_HELP = """Compare orders of service on a recorded workload, on virtual time.

The gate, its queue and its guard are those of the sidecar; the engine is a plain model of
continuous batching, or vLLM's own scheduler without the model. All policies get the same requests
at the same times. The first 10 % are warm-up and not counted.

\b
Examples:
  llmservice sim --workload examples/workloads/demo-test.jsonl \\
      --policy FCFS --policy SSJF --predictor oracle --load 0.9 --requests 10000
  llmservice sim --workload F --predictor noisy:tau=0.6 --arrivals gamma:3 --json -
  llmservice sim --workload F --predictor oracle --predictor default --predictor build/proxy
"""


# What fits 80 columns; the rest is in --json.
_HEADER = ("policy, predictor", "mean", "p50", "p99", "p99.9", "wait", "tau")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sim", help=_HELP)(sim)


def sim(  # noqa: PLR0913 - one parameter an option
    *,
    workload: Annotated[
        Path, typer.Option(help="Workload file, Parquet or JSONL.", show_default=False)
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="FCFS, SSJF or any other of docs/adding-a-policy.md, or `all`; several times: one "
            "run each.  [default: FCFS and SSJF]"
        ),
    ] = None,
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            help="default (learns during the run), oracle, none, noisy:tau=T, random, inverted, "
            "constant, the path of a trained one (a file or a folder with model.onnx), or "
            "classes:PREDICTOR (of any of these only SSJF's five classes of length); several "
            "times: one run each.  [default: default]"
        ),
    ] = None,
    slots: Annotated[int, typer.Option(min=1, help="Requests the engine runs at once.")] = 8,
    load: Annotated[
        float | None,
        typer.Option(
            help="Offered load as a multiple of measured capacity.  [default: the recording's rate]"
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="des: a plain discrete-event engine; vllm: vLLM's own scheduler and KV cache "
            "manager in the engine's environment, a hundred times slower."
        ),
    ] = "des",
    kv_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tokens that the engine's KV cache holds; beyond them it preempts.  "
            "[default: everything]",
        ),
    ] = None,
    prefix_caching: Annotated[
        bool, typer.Option(help="Does the engine keep computed prompts and answers?")
    ] = True,
    scheduler_class: Annotated[
        str | None,
        typer.Option(
            help="Path of a vLLM scheduler class that orders for itself; with --engine vllm.  "
            "[default: vLLM's own]"
        ),
    ] = None,
    cost_model: Annotated[
        str,
        typer.Option(
            help="tiny-cpu, h100-7b or a JSON file with step_s, per_decode_s, per_prefill_token_s."
        ),
    ] = "h100-7b",
    arrivals: Annotated[
        str, typer.Option(help="recorded, poisson, gamma:CV or burst:PEAK,SECONDS,EVERY.")
    ] = "recorded",
    tail_weight: Annotated[
        float,
        typer.Option(min=0.0, help="How strongly waiting counts against size; 0: shortest first."),
    ] = 1.0,
    requests: Annotated[
        int | None,
        typer.Option(min=10, help="Repeat or cut the workload to this many.  [default: all once]"),
    ] = None,
    guard: Annotated[
        bool,
        typer.Option(
            help="As deployed: back to arrival order while predictions rank no better than chance."
        ),
    ] = True,
    seed: Annotated[int, typer.Option(help="Same seed, same numbers.")] = 1,
    json: JsonOption = None,
) -> None:
    """Run the comparison and show a table."""
    from llmservice_lab.arrivals import parse_arrivals  # noqa: PLC0415 - keeps --help fast
    from llmservice_lab.cost_model import load_cost_model  # noqa: PLC0415
    from llmservice_lab.engine.environment import EngineEnvironmentError  # noqa: PLC0415
    from llmservice_lab.sim_engine import EngineOptions  # noqa: PLC0415
    from llmservice_lab.sim_plan import SimPlan  # noqa: PLC0415
    from llmservice_lab.workload import load_workload  # noqa: PLC0415

    if load is not None and load <= 0:
        raise _unusable(ValueError(f"load is {load:g}; allowed: above 0"))
    try:
        plan = SimPlan(
            workload=str(workload),
            rows=load_workload(workload),
            policies=_policies(policy or ["FCFS", "SSJF"]),
            predictors=predictor or ["default"],
            costs=load_cost_model(cost_model),
            slots=slots,
            load=load,
            arrivals=parse_arrivals(arrivals),
            tail_weight=tail_weight,
            seed=seed,
            requests=requests,
            guarded=guard,
            engine=engine,
            options=EngineOptions(
                kv_tokens=kv_tokens,
                prefix_caching=prefix_caching,
                scheduler_class=scheduler_class,
            ),
        )
        if plan.requests is not None and plan.requests > len(plan.rows):
            note("the workload repeats: from its second round on a predictor has met the prompts")
        document = _run(plan)
    except ValueError as error:
        raise _unusable(error) from error
    except EngineEnvironmentError as error:
        raise CommandError(str(error), next_step="then run the command again") from error
    write_json(json, document)
    if json != "-":
        _show(document)


def _policies(names: list[str]) -> list[str]:
    from llmservice_lab.systems import SYSTEMS  # noqa: PLC0415 - keeps --help fast

    for name in names:
        if name not in (*SYSTEMS, "all"):
            raise ValueError(f"policy {name!r} is not known; known: {', '.join(SYSTEMS)}, all")
    return [each for name in names for each in (SYSTEMS if name == "all" else [name])]


def _unusable(error: ValueError) -> CommandError:
    return CommandError(str(error), next_step="`llmservice sim --help` shows what is allowed")


def _run(plan: SimPlan) -> SimDocument:
    from llmservice_lab.sim_plan import run_plan  # noqa: PLC0415 - keeps --help fast

    per_run = plan.requests or len(plan.rows)
    total = per_run * len(plan.policies) * len(plan.predictors)
    with progress_bar("simulating", total) as update:

        def on_step(step: RunStep) -> None:
            if step.ended % 100 == 0 or step.ended == step.total:
                update((step.number - 1) * step.total + step.ended, step.name)

        return run_plan(plan, on_step=on_step)


def _show(document: SimDocument) -> None:
    from llmservice_lab.gains import ORACLE, told  # noqa: PLC0415 - keeps --help fast

    load = document["offered_load"]
    note(
        f"{document['workload']}: capacity {document['capacity_rps']:.3g} requests/s, "
        f"offered load {'all at once' if load is None else f'{load:.2f}'}; seconds from arrival "
        "to the end, mean wait in the queue, Kendall tau of the predictor"
    )
    print_table(_HEADER, [_row(run) for run in document["runs"]])
    for share in document["shares"]:
        if share["share_of_oracle_gain"] is not None and share["predictor"] != ORACLE:
            note(told(share))


def _row(run: RunSummary) -> list[str]:
    e2e = run["e2e_s"]
    figures = (e2e["mean"], e2e["p50"], e2e["p99"], e2e["p999"])
    others = (run["queue_wait_s"]["mean"], run["tau"])
    name = f"{run['policy']}, {Path(run['predictor']).name}"
    return [name, *map(_figure, (*figures, *others))]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
