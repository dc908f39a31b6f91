"""What commands print: people's output and progress on stderr, data on stdout or in a file.

`rich` is imported when something is shown, so that `--help` stays fast.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmservice_local.errors import CommandError

if TYPE_CHECKING:
    from rich.console import Console

JsonOption = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE|-",
        help="Write the result as JSON to this file; `-` writes it to standard output.",
    ),
]


def stderr_console() -> Console:
    """A console on standard error; it draws bars and colours on a terminal only."""
    from rich.console import Console  # noqa: PLC0415 - 60 ms that --help does not need

    return Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """One line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def progress_bar(label: str, total: int) -> Generator[Callable[[int, str], None]]:
    """A live bar on standard error; the yielded function takes (done, remark).

    Where standard error is no terminal, a line is printed at every fifth of the way instead.
    """
    if sys.stderr.isatty():
        with _drawn_bar(label, total) as update:
            yield update
    else:
        yield _plain_bar(label, total)


@contextmanager
def waiting(label: str) -> Generator[None]:
    """Show that something goes on whose length is unknown; a line where there is no terminal."""
    if not sys.stderr.isatty():
        note(f"{label} ...")
        yield
        return
    with stderr_console().status(label):
        yield


@contextmanager
def _drawn_bar(label: str, total: int) -> Generator[Callable[[int, str], None]]:
    from rich.progress import (  # noqa: PLC0415 - see stderr_console
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=stderr_console()) as progress:
        task = progress.add_task(label, total=total, remark="")

        def update(done: int, remark: str) -> None:
            progress.update(task, completed=done, remark=remark)

        yield update


def _plain_bar(label: str, total: int) -> Callable[[int, str], None]:
    step = max(total // 5, 1)
    shown = 0

    def update(done: int, remark: str) -> None:
        nonlocal shown
        if done >= shown + step or (done == total and shown < total):
            shown = done
            note(f"{label}: {done}/{total} {remark}".rstrip())

    return update


def write_json(target: str | None, result: object) -> None:
    """Write `result` as indented JSON to a file, or to standard output for `-`; None: nowhere.

    Raises CommandError when the file cannot be written.
    """
    if target is None:
        return
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text)
    except OSError as error:
        raise CommandError(
            f"cannot write {target}: {error.strerror}",
            next_step="name a file in a directory that exists and can be written",
        ) from error


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard error: the first column left, figures right."""
    from rich.table import Table  # noqa: PLC0415 - see stderr_console

    table = Table(show_edge=False, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    stderr_console().print(table)
