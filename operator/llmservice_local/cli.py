"""The `llmservice` command line: registers the commands, turns known errors into two lines.

Commands import what is heavy when they run: `llmservice --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from llmservice_api import __version__

from llmservice_local.commands import bench, demo, predict, queue, replay, report, sim, train, up
from llmservice_local.commands import eval as evaluation
from llmservice_local.console import note
from llmservice_local.errors import CommandError

_HELP = """Serve a large language model so that short answers do not wait behind long ones.

On a cluster the operator turns one LLMService into vLLM pods with a predicting sidecar; here the
same pod runs as local processes, and the same scheduler is measured and simulated.

\b
Examples:
  llmservice demo                            FCFS against SSJF, in six minutes
  llmservice up -f examples/tiny-cpu.yaml    serve on this machine
  llmservice bench --target http://127.0.0.1:8000 --workload F --load 0.9
  llmservice sim --workload F --policy FCFS --policy SSJF --slots 8 --load 0.9
  llmservice replay traces.json --policy SSJF
  llmservice train --lengths F --head listmle --base MODEL --out DIR
  llmservice eval --lengths F --predictor default
  llmservice predict "Write a story about a lighthouse keeper."
  llmservice report spans.jsonl              why were requests slow?
  llmservice queue chat -n team              who waits now, and why?
"""


def program(name: str, about: str) -> typer.Typer:
    """A program of ours without commands; `about` is its help."""
    return typer.Typer(
        name=name,
        help=about,
        no_args_is_help=True,
        add_completion=False,
        # Plain text: help that is read in logs and pagers too, and shown in a fifth of a second.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


app = program("llmservice", _HELP)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    if wanted:
        print(f"llmservice {__version__}")
        raise typer.Exit


@app.callback()
def _options(  # pyright: ignore[reportUnusedFunction] - typer registers it
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del version  # acted upon by its callback before this runs


for command in (demo, up, bench, sim, replay, train, evaluation, predict, report, queue):
    command.register(app)


def main() -> None:
    """Run the command line; exits with 0, 1 (failed), 2 (wrong usage) or 130 (interrupted)."""
    run(app, name="llmservice")


def run(program: typer.Typer, *, name: str) -> None:
    """Run a program; a known error becomes two lines, the cause and the next step."""
    try:
        program(prog_name=name)
    except CommandError as error:
        if error.detail:
            note(error.detail.rstrip())
        note(f"error: {error.cause}")
        note(f"  next: {error.next_step}")
        sys.exit(1)
    except KeyboardInterrupt:
        note("interrupted")
        sys.exit(130)
