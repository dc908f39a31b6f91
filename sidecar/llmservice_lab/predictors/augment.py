"""Invented prompts with the length of answer that one would expect: a prior where data is thin.

Recorded prompts that may be shipped are mostly exams; these tell the model what essays, e-mails,
labels and translations are like. Templates and their lengths are in `synthetic.yaml`.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

from llmservice_lab.predictors.targets import Target

SOURCE: Final = "synthetic"
ITEMS: Final = (2, 3, 4, 5, 5, 6, 8, 10, 10, 12, 15, 20)
CHARS_PER_TOKEN: Final = 4.2
SCATTER: Final = 0.5  # variance of ln(tokens) that models differ by, as in recorded prompts
PASSAGE_CHARS: Final = (80, 900)

# What may stand before or behind a prompt, and how many times longer the answer gets.
PREFIXES: Final = (
    ("", 1.0),
    ("", 1.0),
    ("", 1.0),
    ("", 1.0),
    ("Please ", 1.0),
    ("Can you help me? ", 1.0),
    ("You are a helpful assistant. ", 1.0),
    ("I need your help. ", 1.05),
    ("Hey, ", 0.95),
)
SUFFIXES: Final = (
    *((("", 1.0),) * 16),
    (" Be concise.", 0.5),
    (" Keep it short.", 0.5),
    (" Answer briefly.", 0.4),
    (" Explain your answer in detail.", 1.6),
    (" Think step by step.", 1.6),
    (" Go into detail.", 1.5),
    (" Include examples.", 1.3),
    (" Thanks!", 1.0),
)
LEAST_FOR_SUFFIX: Final = 50.0  # tokens: nobody asks to shorten a word
_SLOT: Final = re.compile(r"\{(\w+)\}")


class Kind(msgspec.Struct, frozen=True):
    """Prompts whose answers are about equally long; lengths in tokens."""

    tokens: float
    prompts: list[str]
    per_item: float = 0.0
    per_passage: float = 0.0


class Synthetic(msgspec.Struct, frozen=True):
    """The file `synthetic.yaml`."""

    slots: dict[str, list[str]]
    kinds: list[Kind]


@cache
def templates() -> Synthetic:
    """The invented prompts that come with the program."""
    text = files("llmservice_lab.predictors").joinpath("synthetic.yaml").read_text("utf-8")
    return msgspec.yaml.decode(text, type=Synthetic)


def invented(passages: Sequence[str], *, variants: int, seed: int) -> list[Target]:
    """`variants` different fillings of every template; `passages` are cut into its slot of texts.

    Every target weighs 1: the caller scales them against recorded prompts.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret
    usable = [text for text in passages if _is_passage(text)]
    targets: dict[str, Target] = {}
    for place, kind in enumerate(templates().kinds):
        for number, template in enumerate(kind.prompts):
            for _ in range(variants):
                target = _fill(kind, template, usable, rng=rng, group=f"{SOURCE} {place} {number}")
                targets.setdefault(target.prompt, target)
    return list(targets.values())


def filled(words: Sequence[str], rng: random.Random) -> str:
    """One of the templates about any of `words` instead of what belongs in its slots."""
    template = rng.choice(rng.choice(templates().kinds).prompts)
    return _SLOT.sub(lambda _: rng.choice(words), template)


def _is_passage(text: str) -> bool:
    """Long enough, English as far as one sees, and no dialogue."""
    return len(text) >= PASSAGE_CHARS[0] and text.isascii() and "Assistant:" not in text


def _fill(
    kind: Kind, template: str, passages: Sequence[str], *, rng: random.Random, group: str
) -> Target:
    items = rng.choice(ITEMS)
    passage = _cut(rng.choice(passages), rng) if passages else ""
    fixed: Mapping[str, str] = {"n": _said(items, rng), "passage": passage}
    slots = templates().slots

    def fill(match: re.Match[str]) -> str:
        return fixed[match[1]] if match[1] in fixed else rng.choice(slots[match[1]])

    text = _SLOT.sub(fill, template)
    tokens = kind.tokens + kind.per_item * items
    tokens += kind.per_passage * len(passage) / CHARS_PER_TOKEN
    prefix, before = rng.choice(PREFIXES)
    suffix, after = rng.choice(SUFFIXES) if tokens >= LEAST_FOR_SUFFIX else ("", 1.0)
    if rng.random() < 0.2:
        text = text.rstrip(".?").lower() if rng.random() < 0.5 else text.replace("\n", " ")
    log_tokens = math.log(tokens * before * after)
    return Target(SOURCE, group, f"{prefix}{text}{suffix}", log_tokens, SCATTER, 1.0)


def _cut(text: str, rng: random.Random) -> str:
    low, high = PASSAGE_CHARS
    length = int(math.exp(rng.uniform(math.log(low), math.log(high))))
    return text[:length].rsplit(" ", 1)[0]


def _said(items: int, rng: random.Random) -> str:
    words = {2: "two", 3: "three", 5: "five", 10: "ten"}
    return words[items] if items in words and rng.random() < 0.5 else str(items)
