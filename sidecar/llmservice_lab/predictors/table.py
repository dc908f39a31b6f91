"""Writes docs/predictors.md: every predictor on prompts that none has met.

    make predictors LENGTHS=lengths.parquet ARTEFACTS=DIR

Slow parts are kept between runs; a new artefact or a change of the code that asks is measured anew.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from llmservice_lab.predictors.ceiling import CEILINGS
from llmservice_lab.predictors.contestants import Contestant, contestants_of
from llmservice_lab.predictors.dataset import read_lengths
from llmservice_lab.predictors.document import Line, Page, generated, put_between_marks
from llmservice_lab.predictors.judging import means_of, rows_of
from llmservice_lab.predictors.levels import levelled
from llmservice_lab.predictors.measuring import LAB, Answers, Measured, combined, key_of, measure
from llmservice_lab.predictors.share import Work
from llmservice_lab.predictors.share_table import share_lines, works_of
from llmservice_lab.predictors.store import Store, default_folder, digest_of
from llmservice_lab.provenance import commit, hardware

_JUDGING: Final = tuple(LAB / f"{name}.py" for name in ("judging", "figures", "levels", "table"))
DOCUMENT: Final = Path("docs/predictors.md")
COLUMNS: Final = (
    "predictor",
    "source",
    "model",
    "n",
    "tau_b",
    "pairwise_1_2x",
    "pairwise_2x",
    "mae_tokens",
    "coverage_p50",
    "coverage_p90",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, write the document and its CSV; progress on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=Path, required=True, help="table of answer lengths")
    parser.add_argument("--artefacts", type=Path, help="folder of trained predictors")
    parser.add_argument("--out", type=Path, default=DOCUMENT, help="the document to write")
    parser.add_argument("--store", type=Path, default=default_folder(), help="kept results")
    options = parser.parse_args(arguments)
    answers = read_answers(options.lengths)
    write(
        options.out,
        contestants_of(options.artefacts),
        answers=answers,
        works=works_of(answers),
        store=Store(options.store),
    )
    return 0


def write(
    out: Path,
    contestants: Sequence[Contestant],
    *,
    answers: Answers,
    works: Sequence[Work],
    store: Store,
) -> None:
    """Write the document to `out` and every figure to a CSV beside it."""
    lines = [_line(each, answers, store) for each in contestants]
    lines += [_ceiling(name, answers) for name in CEILINGS]
    page = Page(
        commit=commit(),
        hardware=hardware(),
        lines=lines,
        shares=share_lines(works, contestants, store, on_done=_note),
    )
    out.write_text(put_between_marks(DOCUMENT.read_text(), "\n".join(generated(page))))
    details = out.with_suffix(".csv")
    details.write_text(as_csv(lines))
    _note(f"{out} and {details} are written")


def read_answers(lengths: Path) -> Answers:
    """The table, parted. Raises OSError or ValueError: not readable, or a part is empty."""
    samples = read_lengths(lengths)
    parts = {
        split: [sample for sample in samples if sample.split == split]
        for split in ("train", "val", "test")
    }
    empty = [split for split, part in parts.items() if not part]
    if empty:
        raise ValueError(f"{lengths} has no rows of split {', '.join(empty)}")
    return Answers(**parts, digest=digest_of(lengths))


def as_csv(lines: Sequence[Line]) -> str:
    """Every source and model of every line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        for row in line.rows:
            values = [row[column] for column in COLUMNS]
            writer.writerow([f"{v:.3f}" if isinstance(v, float) else v for v in values])
    return text.getvalue()


def _line(contestant: Contestant, answers: Answers, store: Store) -> Line:
    """Kept, or measured and judged now."""
    _note(f"measuring {contestant.name}")
    specs = contestant.parts or (contestant.spec,)
    online = contestant.online
    keys = [key_of(spec, answers, online=online) for spec in specs]
    key = ("line", contestant.name, contestant.levelled, keys, *map(digest_of, _JUDGING))
    kept: dict[str, Any] | None = store.get(*key)
    if kept is None:
        parts = [measure(spec, answers, store, online=online) for spec in specs]
        line = judged(contestant, answers, parts[0] if len(parts) == 1 else combined(parts))
        kept = {"rows": line.rows, "means": line.means, "resident_mib": line.resident_mib}
        store.put(*key, value=kept)
    return Line(contestant, kept["rows"], kept["means"], kept["resident_mib"])


def judged(contestant: Contestant, answers: Answers, measured: Measured) -> Line:
    """Ranks by what was said; tokens and coverage by what it is with the model's level, if so."""
    said = measured.test
    rows = rows_of(contestant.name, answers.test, said)
    if contestant.levelled:
        said = levelled(answers.test, said, known=answers.val, said_known=measured.val)
        for row, fitted in zip(rows, rows_of(contestant.name, answers.test, said), strict=True):
            row["mae_tokens"] = fitted["mae_tokens"]
            row["coverage_p50"] = fitted["coverage_p50"]
            row["coverage_p90"] = fitted["coverage_p90"]
    means = means_of(contestant.name, answers.test, measured.test, rows)
    return Line(contestant, rows, means, measured.resident_mib)


def _ceiling(name: str, answers: Answers) -> Line:
    samples, said = CEILINGS[name](answers.test)
    rows = rows_of(name, samples, said)
    about = Contestant(name=name, about="what no predictor can know")
    return Line(about, rows, means_of(name, samples, said, rows), None)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
