"""`llmservice predict`: what a predictor says of one prompt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmservice_local.console import JsonOption, print_table, write_json
from llmservice_local.errors import CommandError

if TYPE_CHECKING:
    from llmservice_lab.predictors.single import PredictDocument, PredictPlan

_HELP = """Predict the length of the answer to one prompt: mean and quantiles in tokens.

The prompt is an argument, a file, or what stands on standard input.

\b
Examples:
  llmservice predict "Write a story about a lighthouse keeper."
  llmservice predict --file prompt.txt --max-tokens 300 --json -
  llmservice predict "Explain TLS." --generated 200    what is left after 200 tokens
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("predict", help=_HELP)(predict)


def predict(
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt.  [default: read --file or standard input]")
    ] = None,
    *,
    file: Annotated[Path | None, typer.Option(help="File with the prompt.")] = None,
    predictor: Annotated[
        str, typer.Option(help="default or the path of a trained one.")
    ] = "default",
    model: Annotated[str, typer.Option(help="Name of the model that is to answer.")] = "",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Limit of the answer, as sent with the request.")
    ] = None,
    generated: Annotated[
        int, typer.Option(min=0, help="Tokens that came out already; the rest is predicted.")
    ] = 0,
    json: JsonOption = None,
) -> None:
    """Predict and show it."""
    from llmservice_lab.predictors.single import PredictPlan  # noqa: PLC0415 - keeps --help fast

    plan = PredictPlan(
        prompt=_prompt(prompt, file),
        predictor=predictor,
        model=model,
        max_tokens=max_tokens,
        generated=generated,
    )
    document = _run(plan)
    write_json(json, document)
    if json != "-":
        figures = (document["mean_tokens"], document["p50_tokens"], document["p90_tokens"])
        cells = ["-" if each is None else f"{each:.0f}" for each in figures]
        said_by = f"{document['predictor']} ({document['source']})"
        row = [said_by, *cells, f"{document['latency_ms']:.2f}"]
        print_table(("output tokens by", "mean", "p50", "p90", "ms"), [row])


def _run(plan: PredictPlan) -> PredictDocument:
    from llmservice_lab.predictors.single import predict_one  # noqa: PLC0415 - keeps --help fast

    try:
        return predict_one(plan)
    except ValueError as error:
        raise CommandError(
            str(error), next_step="`llmservice predict --help` shows what is allowed"
        ) from error


def _prompt(given: str | None, file: Path | None) -> str:
    if given is not None and file is not None:
        raise CommandError("a prompt and --file are given", next_step="give one of the two")
    if given is not None:
        return given
    if file is None:
        return sys.stdin.read()
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CommandError(
            f"cannot read {file}: {error.strerror}", next_step="name a file that can be read"
        ) from error
