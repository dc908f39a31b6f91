"""Short texts cut from prompts, and words thrown together: what a table of token vectors learns.

Whole prompts are few and repeat their phrases, so a table learns them by heart; what is said of a
word beside many others carries over to prompts never seen.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Final

from llmservice_lab.predictors.augment import filled

WINDOW_WORDS: Final = (3, 24)
MIXED_WORDS: Final = (2, 7)
SHARES: Final = {"window": 0.4, "pair": 0.2, "mix": 0.2, "template": 0.2}
LONGEST_WORD: Final = 40  # characters: prompts hold base64 and rules of dashes
_WORD: Final = re.compile(r"[a-z]{3,}")


def spans(texts: Sequence[str], vocabulary: Sequence[str], *, count: int, seed: int) -> list[str]:
    """At most `count` different texts of 2 to 48 words; the same arguments give the same ones.

    Windows of `texts`, pairs of windows of two of them, words of `vocabulary` thrown together, and
    invented prompts about such words. Raises IndexError when there are no words to take.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret
    split = [words for words in ([*map(_shortened, text.split())] for text in texts) if words]
    known = [word for word in vocabulary if _WORD.fullmatch(word)]
    made: dict[str, None] = {}
    for _ in range(round(SHARES["window"] * count)):
        made[_window(rng.choice(split), rng)] = None
    for _ in range(round(SHARES["pair"] * count)):
        made[f"{_window(rng.choice(split), rng)} {_window(rng.choice(split), rng)}"] = None
    for _ in range(round(SHARES["mix"] * count)):
        made[" ".join(rng.choices(known, k=rng.randint(*MIXED_WORDS)))] = None
    for _ in range(round(SHARES["template"] * count)):
        made[filled(known, rng)] = None
    return list(made)


def _shortened(word: str) -> str:
    return word[:LONGEST_WORD]


def _window(words: Sequence[str], rng: random.Random) -> str:
    size = rng.randint(*WINDOW_WORDS)
    start = rng.randint(0, max(len(words) - size, 0))
    return " ".join(words[start : start + size])
