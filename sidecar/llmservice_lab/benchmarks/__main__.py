"""`make bench`: run what is missing, write docs/benchmarks.md and its plots.

`--quick` runs little and writes to build/benchmarks: to try out a change of sections or plots.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llmservice_lab.benchmarks.agreed import agreed
from llmservice_lab.benchmarks.bars import show_progress
from llmservice_lab.benchmarks.document import SECTIONS, Origin, generated, put_between_marks
from llmservice_lab.benchmarks.grid import FULL, QUICK, Grid
from llmservice_lab.benchmarks.mixes import EXAM_CHAT, MIXES
from llmservice_lab.benchmarks.runner import collect
from llmservice_lab.benchmarks.sections.section import Page
from llmservice_lab.benchmarks.store import Store, default_folder
from llmservice_lab.provenance import commit, hardware

DOCUMENT: Final = Path("docs/benchmarks.md")
QUICK_FOLDER: Final = Path("build/benchmarks")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the document; progress on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="little work, into build/benchmarks")
    parser.add_argument("--store", type=Path, default=default_folder(), help="kept results")
    options = parser.parse_args(arguments)
    grid = (
        Grid(mixes=(EXAM_CHAT,), effort=QUICK) if options.quick else Grid(mixes=MIXES, effort=FULL)
    )
    target = QUICK_FOLDER / DOCUMENT.name if options.quick else DOCUMENT
    wanted = [each for section in SECTIONS for each in section.wanted(grid)]
    store = Store(options.store)
    page = Page(
        grid=grid,
        results=collect(wanted, store=store, on_done=show_progress),
        agreed=agreed(store, requests=grid.effort.agreement_requests),
        images=target.parent / "img",
        link="img",
    )
    origin = Origin(
        commit=commit(),
        hardware=hardware(),
        command="make bench QUICK=1" if options.quick else "make bench",
    )
    text = put_between_marks(DOCUMENT.read_text(), "\n".join(generated(page, origin)))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    print(f"{target} and {target.parent / 'img'} are written", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
