"""Makes the default model that comes with the program, from a table of answer lengths.

    uv run --group distill python -m llmservice_lab.predictors.ship --lengths F --seed 1

The same table, seed, machine and thread count give the same bytes. Only rows with a permissive
licence are read.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from llmservice_sidecar.adapters.predictors.shipped import artefact, base, features
from llmservice_sidecar.adapters.predictors.shipped.embedding import StaticEmbedding

from llmservice_lab.predictors.augment import invented
from llmservice_lab.predictors.dataset import read_lengths
from llmservice_lab.predictors.distill import Encoder, Lesson, Table, distil
from llmservice_lab.predictors.fit import Recipe, Tensors, describe_all, fit
from llmservice_lab.predictors.spans import spans
from llmservice_lab.predictors.targets import Target, prompt_targets
from llmservice_lab.predictors.teacher import Teacher

VARIANTS: Final = 16  # fillings of each template
SPANS: Final = 30_000  # short texts that the table learns from beside whole prompts
INVENTED_SHARE: Final = 0.5  # of the weight of all recorded prompts


def ship(
    lengths: Path, out: Path, *, teacher: Encoder, recipe: Recipe, variants: int = VARIANTS
) -> Path:
    """Train on the permissive training rows of `lengths` and write the artefact to `out`.

    Raises OSError or ValueError when the table cannot be read or has no usable row.
    """
    samples = read_lengths(lengths, splits=("train",), permissive_only=True)
    if not samples:
        raise ValueError(f"{lengths} has no row of split train with licence Apache-2.0 or MIT")
    recorded = prompt_targets(samples)
    targets = [*recorded, *invented_beside(recorded, variants=variants, seed=recipe.seed)]
    prompts = [target.prompt for target in targets]
    table = _table(prompts[: len(recorded)], prompts[len(recorded) :], teacher, seed=recipe.seed)
    embedding = StaticEmbedding(table.vocabulary, table.codes, table.scales)
    head = fit(describe_all(prompts, embedding), targets, recipe)
    write(out, table, head, {"seed": recipe.seed, "data": _digest(prompts)})
    return out


def _table(recorded: Sequence[str], made: Sequence[str], teacher: Encoder, *, seed: int) -> Table:
    # Apart: a change of the invented prompts must not change the vectors of recorded ones.
    parts = [sorted(set(recorded)), sorted(set(made))]
    short = spans(parts[0], teacher.vocabulary, count=SPANS, seed=seed)
    wholes = np.concatenate([teacher.embed(part) for part in parts])
    prompts = Lesson([*parts[0], *parts[1]], wholes)
    return distil(prompts, Lesson(short, teacher.embed(short)), teacher=teacher, seed=seed)


def invented_beside(recorded: Sequence[Target], *, variants: int, seed: int) -> list[Target]:
    """Invented targets that together weigh `INVENTED_SHARE` of the recorded ones."""
    passages = sorted({target.prompt for target in recorded})
    made = invented(passages, variants=variants, seed=seed)
    weight = INVENTED_SHARE * sum(target.weight for target in recorded) / len(made)
    return [replace(target, weight=weight) for target in made]


def write(path: Path, table: Table, head: Tensors, card: dict[str, object]) -> None:
    """Write table and head as one artefact; `card` joins what it says of itself."""
    text = "\n".join(table.vocabulary).encode()
    tensors = {
        "vocabulary": np.frombuffer(text, dtype=np.uint8),
        "embedding.codes": table.codes,
        "embedding.scales": table.scales,
        **head,
    }
    about = {
        "format": base.FORMAT,
        "feature_set": features.FEATURE_SET,
        "licence": "Apache-2.0",
        "teacher": "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0)",
        "trained_with": f"lightgbm {version('lightgbm')}, numpy {version('numpy')}",
    }
    artefact.write(path, card=about | card, tensors=tensors)


def _digest(prompts: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(prompts)).encode("utf-8", "replace")).hexdigest()[:16]


def main() -> None:
    """Read the command line and run `ship`."""
    parser = argparse.ArgumentParser(description="Train the model that comes with the program.")
    parser.add_argument("--lengths", type=Path, required=True, help="table of answer lengths")
    parser.add_argument("--out", type=Path, default=Path(base.__file__).with_name(base.ARTEFACT))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="keep the teacher's vectors here between runs")
    given = parser.parse_args()
    teacher = Teacher(given.cache)
    print(ship(given.lengths, given.out, teacher=teacher, recipe=Recipe(seed=given.seed)))


if __name__ == "__main__":
    main()
