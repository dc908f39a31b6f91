"""A made-up table of answer lengths: long answers to stories, short ones to questions."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPLITS = ("train",) * 6 + ("val",) * 2 + ("test",) * 2
_SUBJECTS = (
    "sea",
    "hill",
    "lamp",
    "train",
    "river",
    "horse",
    "clock",
    "garden",
    "letter",
    "winter",
)


def answers(
    prompts: int = 120, *, models: Sequence[str] = ("small", "large")
) -> list[dict[str, Any]]:
    """One answer a prompt and model, of two sources; the second model writes twice as much."""
    rng = random.Random(7)
    rows: list[dict[str, Any]] = []
    for number in range(prompts):
        subject = f"{rng.choice(_SUBJECTS)} and {rng.choice(_SUBJECTS)}"
        story = number % 2 == 0
        words = f"Write a long story about the {subject}" if story else f"What is a {subject}?"
        for place, model in enumerate(models):
            tokens = (300 if story else 20) * (1 + place) * rng.uniform(0.6, 1.6)
            rows.append(
                {
                    "source": ("tales", "quiz")[number % 3 == 0],
                    "prompt": f"{words} ({number})",
                    "prompt_tokens": 12,
                    "model": model,
                    "output_tokens": round(tokens),
                    "group": str(number),
                    "split": SPLITS[number % len(SPLITS)],
                    "licence": "MIT",
                }
            )
    return rows


def write_lengths(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """As JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
