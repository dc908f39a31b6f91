"""`llmservice eval`: how well predictors know the lengths of recorded answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmservice_local.console import JsonOption, note, print_table, progress_bar, write_json
from llmservice_local.errors import CommandError

if TYPE_CHECKING:
    from llmservice_lab.predictors.evaluate import EvalDocument, EvalPlan
    from llmservice_lab.predictors.judging import SourceMean

_HELP = """Measure how well predictors know the lengths of recorded answers.

A table of answer lengths has one answer a row: source, prompt, model, output_tokens, and optionally
group, split and others (docs/cli.md). One result for each source and model; the table on the screen
shows the means over the models of a source.

\b
Examples:
  llmservice eval --lengths lengths.parquet --predictor default --json -
  llmservice eval --lengths F --predictor default --online    learns each answer it has predicted
  llmservice eval --lengths F --predictor tfidf-ridge --predictor proxies/listmle
"""

_HEADER = ("predictor, source", "models", "tau", "pairs 2x", "MAE", "<= p50", "<= p90", "ms")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval", help=_HELP)(eval_)


def eval_(
    *,
    lengths: Annotated[
        Path, typer.Option(help="Table of answer lengths, Parquet or JSONL.", show_default=False)
    ],
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            help="default, constant, prompt-length, tfidf-ridge, embedding-lightgbm, blend (mean "
            "of the last two), or the path of a trained one; several times.  [default: default]"
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(help="Rows to judge by: test, val, train or all; without the column: test."),
    ] = "test",
    train: Annotated[
        Path | None,
        typer.Option(
            help="Table whose train rows the baselines are fitted to.  [default: --lengths]"
        ),
    ] = None,
    online: Annotated[
        bool,
        typer.Option(
            "--online", help="As in service: learn each answer after it has been predicted."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the order of answers with --online.")] = 1,
    json: JsonOption = None,
) -> None:
    """Evaluate and show the means."""
    from llmservice_lab.predictors.evaluate import EvalPlan  # noqa: PLC0415 - keeps --help fast

    plan = EvalPlan(
        lengths=lengths,
        predictors=predictor or ["default"],
        split=split,
        train=train,
        online=online,
        seed=seed,
    )
    try:
        document = _run(plan)
    except (OSError, ValueError) as error:
        raise CommandError(
            str(error), next_step="`llmservice eval --help` shows what is allowed"
        ) from error
    write_json(json, document)
    if json != "-":
        _show(document)


def _run(plan: EvalPlan) -> EvalDocument:
    from llmservice_lab.predictors.evaluate import evaluate  # noqa: PLC0415 - keeps --help fast

    names = list(plan.predictors)
    with progress_bar("answers", 100 * len(names)) as update:

        def on_step(name: str, done: int, total: int) -> None:
            update(100 * names.index(name) + 100 * done // total, name)

        return evaluate(plan, on_step=on_step)


def _show(document: EvalDocument) -> None:
    note(
        f"{document['lengths']}, {document['split']}: means over models; share of pairs in right "
        "order that differ twofold, absolute error in tokens, shares of answers within p50 and "
        "p90, median milliseconds"
    )
    print_table(_HEADER, [_line(mean) for mean in document["sources"]])


def _line(mean: SourceMean) -> list[str]:
    tau = f"{_figure(mean['tau_b'])} +- {_figure(mean['tau_b_error'])}"
    shares = (mean["coverage_p50"], mean["coverage_p90"])
    return [
        f"{mean['predictor']}, {mean['source']}",
        str(mean["models"]),
        "-" if mean["tau_b"] is None else tau,
        _figure(mean["pairwise_2x"]),
        "-" if mean["mae_tokens"] is None else f"{mean['mae_tokens']:.0f}",
        *map(_figure, shares),
        _figure(mean["latency_ms"]["p50"]),
    ]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
