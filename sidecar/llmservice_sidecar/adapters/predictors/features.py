"""What a prompt looks like, in numbers: cheap, bounded, the same in every process.

Nothing here knows lengths. Long prompts are looked at head and tail, so the cost has a bound.
Changing anything that is computed here makes old snapshots meaningless: raise `FEATURE_SET`.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_uppercase
from typing import Final

import numpy as np
import numpy.typing as npt

from llmservice_sidecar.runtime.ports import PredictionQuery

FEATURE_SET: Final = 1
HASHED: Final = 8192  # bins of word n-grams
COUNTED_CHARS: Final = (6000, 2000)  # head and tail in which characters are counted
READ_CHARS: Final = (2400, 800)  # head and tail that are searched and cut into words
HEAD_WORDS: Final = 224
TAIL_WORDS: Final = 96

Vector = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[^\w\s]")
_SENTENCE_END: Final = re.compile(r"[.!?](?:\s|$)|[\u3002\uff01\uff1f]")
_CJK: Final = re.compile("[\u3040-\ud7af]")
_OPTION: Final = re.compile(r"(?:^|\n)\s*\(?[a-j][.)] ")
_ASKED_SIZE: Final = re.compile(
    r"(\d{1,5})[ -]?(words?|sentences?|paragraphs?|pages?|lines?|points|items|steps|tokens)\b"
)
_TOKENS_PER: Final = {
    "word": 1.3,
    "sentence": 25.0,
    "paragraph": 100.0,
    "page": 600.0,
    "line": 12.0,
    "point": 40.0,
    "item": 40.0,
    "step": 50.0,
    "token": 1.0,
}

# One yes-or-no feature each; patterns without nested repetition, so no text makes them slow.
_PATTERNS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"\?\s*\Z",
        r"```|\bdef |[{};]\s*\n|#include|\bclass \w+[:({]",
        r"\\(?:frac|sum|int|begin|sqrt|left)|\$[^$\n]{1,80}\$",
        r"\boptions?:\s*\n",
        r"step[- ]by[- ]step|in[- ]depth|one (?:word|sentence|line)\b",
        r"\bhow (?:much|many|far|long)\b|\bwhich of the following\b|\bmost (?:likely|nearly)\b",
    )
)
_OPENINGS: Final = tuple(
    frozenset(words.split())
    for words in (
        "write create generate compose draft design develop build implement make",
        "what who when where which",
        "how why explain describe discuss analyze analyse compare",
        "is are was were do does did can could should will has have",
        "hi hello hey thanks thank good",
    )
)
_KEYWORDS: Final = tuple(
    frozenset(words.split())
    for words in (
        "calculate compute determine evaluate solve find",
        "prove derive proof theorem",
        "essay article story report blog chapter script lyrics poem novel speech",
        "detail detailed details comprehensive thorough elaborate",
        "brief briefly short concise concisely only tldr",
        "list table bullet enumerate examples ideas outline plan",
        "json yaml csv xml html regex sql",
        "function code program script python javascript java rust algorithm api",
        "translate summarize summarise summary rewrite rephrase classify extract correct convert",
        "true false",
        "best except not",
    )
)

DENSE: Final = 20 + len(_PATTERNS) + len(_OPENINGS) + len(_KEYWORDS)


@dataclass(frozen=True, slots=True)
class Features:
    """A prompt as numbers: a short dense vector and a sparse hashed one of about unit length."""

    dense: Vector
    bins: Indices  # distinct, ascending
    values: Vector  # one per bin


def extract(query: PredictionQuery) -> Features:
    """Features of a query. Any text is fine: empty, binary, of any script and length."""
    counted = _ends(query.text, *COUNTED_CHARS)
    read = _ends(query.text, *READ_CHARS).lower()
    words = _WORD.findall(read)
    bins, values = _hashed(_shortened(words), query)
    dense = (*_numbers(query, counted=counted, read=read), *_flags(read, words))
    return Features(np.array(dense), bins, values)


def _ends(text: str, head: int, tail: int) -> str:
    return text if len(text) <= head + tail else f"{text[:head]}\n{text[-tail:]}"


def _shortened(words: list[str]) -> list[str]:
    if len(words) <= HEAD_WORDS + TAIL_WORDS:
        return words
    return words[:HEAD_WORDS] + words[-TAIL_WORDS:]


def _flags(read: str, words: list[str]) -> list[float]:
    first, seen = words[0] if words else "", set(words)
    return [
        *(float(pattern.search(read) is not None) for pattern in _PATTERNS),
        *(float(first in opening) for opening in _OPENINGS),
        *(float(not keywords.isdisjoint(seen)) for keywords in _KEYWORDS),
    ]


def _numbers(query: PredictionQuery, *, counted: str, read: str) -> tuple[float, ...]:
    """Every entry is of order one, so that one prior fits all."""
    length = len(counted)
    words = len(counted.split())
    share = 1.0 / max(length, 1)
    log_chars = math.log1p(len(query.text))
    ascii_chars = len(counted.encode("ascii", "ignore"))
    cjk = len(_CJK.findall(read)) * length / max(len(read), 1) if ascii_chars < length else 0.0
    digits = sum(map(counted.count, "0123456789"))
    options = len(_OPTION.findall(read))
    asked = _asked_tokens(read)
    return (
        1.0,
        log_chars / 5.0,
        (log_chars / 5.0) ** 2 - 1.0,
        math.log1p(max(query.prompt_tokens, 0)) / 5.0,
        math.log1p(words) / 5.0,
        math.log1p(counted.count("\n")) / 3.0,
        math.log1p(len(_SENTENCE_END.findall(read))) / 3.0,
        math.log1p(counted.count("?")) / 2.0,
        math.log1p(digits) / 4.0,
        digits * share * 5.0,
        (length - ascii_chars) * share,
        cjk * share,
        sum(map(counted.count, ascii_uppercase)) * share * 5.0,
        length / max(words, 1) / 6.0,
        options / 10.0,
        float(options > 0),
        asked / 7.0,
        float(asked > 0.0),
        math.log(max(query.turns, 1)) / 2.0 + float(query.has_tools),
        float(query.has_schema),
    )


def _asked_tokens(lowered: str) -> float:
    """Log tokens of the answer as the prompt asks for it ("500 words"); 0 if it does not."""
    match = _ASKED_SIZE.search(lowered)
    if match is None:
        return 0.0
    return math.log1p(int(match[1]) * _TOKENS_PER[match[2].removesuffix("s")])


def _hashed(words: list[str], query: PredictionQuery) -> tuple[Indices, Vector]:
    """Signed hashed uni- and bigrams of unit length, the opening words, and the model's own bin."""
    tokens = [word.encode("utf-8", "replace") for word in words]
    pairs = [first + b" " + second for first, second in pairwise(tokens)]
    grams = _counted(tokens, weight=1.0), _counted(pairs, weight=0.7)
    norm = math.sqrt(sum(float(values @ values) for _, values in grams)) or 1.0
    model = f"m {query.model} {query.endpoint}".encode("utf-8", "replace")
    # A template shows in the first words; a model (or adapter) has a length of answer of its own.
    marks = [(b"t3 " + b" ".join(tokens[:3]), 0.3), (b"t8 " + b" ".join(tokens[:8]), 0.3)]
    marks.append((model, 2.0))
    codes = np.concatenate([grams[0][0], grams[1][0], [zlib.crc32(text) for text, _ in marks]])
    values = np.concatenate([grams[0][1] / norm, grams[1][1] / norm, [v for _, v in marks]])
    signed = np.where(codes >> 31, values, -values)
    bins, place = np.unique(codes % HASHED, return_inverse=True)
    sums = np.bincount(place, weights=signed, minlength=len(bins))
    return bins, sums.astype(np.float64)


def _counted(tokens: list[bytes], *, weight: float) -> tuple[Indices, Vector]:
    """Distinct hash codes and their damped counts."""
    codes = np.fromiter(map(zlib.crc32, tokens), dtype=np.int64, count=len(tokens))
    distinct, counts = np.unique(codes, return_counts=True)
    damped = weight * (1.0 + np.log(counts.astype(np.float64)))
    return distinct.astype(np.int64), damped.astype(np.float64)
