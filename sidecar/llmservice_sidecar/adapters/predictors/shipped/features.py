"""What a prompt looks like, in numbers: cheap, bounded, the same in every process.

Nothing here knows lengths. Long prompts are looked at head and tail, so the cost has a bound.
Changing anything that is computed here makes old snapshots meaningless: raise `FEATURE_SET`.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from llmservice_sidecar.adapters.predictors.shipped import cues
from llmservice_sidecar.runtime.ports import PredictionQuery

FEATURE_SET: Final = 3
HASHED: Final = 8192  # bins of word n-grams
COUNTED_CHARS: Final = (3000, 1000)  # head and tail in which characters are counted
READ_CHARS: Final = (1200, 500)  # head and tail that are searched and cut into words
HEAD_WORDS: Final = 160
TAIL_WORDS: Final = 64

Vector = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[^\w\s]")
# Patterns start with one set of characters, so that nearly all of a text is skipped at once.
_SENTENCE_END: Final = re.compile(r"[.!?\u3002\uff01\uff1f](?:(?<=[\u3002\uff01\uff1f])|(?=\s)|$)")
_CJK: Final = re.compile("[\u3040-\ud7af]")
# No newline among the blanks: blank lines would be read once for each line before them.
_OPTION: Final = re.compile(r"\n[^\S\n]*\(?[a-j][.)] ")
_ZERO: Final = ord("0")
_A: Final = ord("A")
NUMBERS: Final = 28
DENSE: Final = 1 + NUMBERS + cues.FLAGS


@dataclass(frozen=True, slots=True)
class Features:
    """A prompt as numbers: a short dense vector and a sparse hashed one of about unit length."""

    dense: Vector
    bins: Indices  # distinct, ascending
    values: Vector  # one per bin


def extract(query: PredictionQuery) -> Features:
    """Features of a query. Any text is fine: empty, binary, of any script and length."""
    counted = ends(query.text, *COUNTED_CHARS)
    read = ends(query.text, *READ_CHARS).lower()
    words = _WORD.findall(read)
    bins, values = _hashed(_shortened(words))
    flags = cues.flags(read, words)
    dense = (
        1.0,
        *_numbers(query, counted=counted, read=read, words=words, rewrites=flags[0]),
        *flags,
    )
    return Features(np.array(dense), bins, values)


def ends(text: str, head: int, tail: int) -> str:
    """The text, or when it is longer than both together its first and its last characters."""
    return text if len(text) <= head + tail else f"{text[:head]}\n{text[-tail:]}"


def _shortened(words: list[str]) -> list[str]:
    if len(words) <= HEAD_WORDS + TAIL_WORDS:
        return words
    return words[:HEAD_WORDS] + words[-TAIL_WORDS:]


def _numbers(
    query: PredictionQuery, *, counted: str, read: str, words: list[str], rewrites: float
) -> tuple[float, ...]:
    """Every entry is of order one, so that one prior fits all."""
    plain = counted.encode("ascii", "ignore")
    counts = np.bincount(np.frombuffer(plain, dtype=np.uint8), minlength=128).tolist()
    length = len(counted)
    word_count = len(counted.split())
    share = 1.0 / max(length, 1)
    log_chars = math.log1p(len(query.text))
    cjk = len(_CJK.findall(read)) * length / max(len(read), 1) if len(plain) < length else 0.0
    digits = sum(counts[_ZERO : _ZERO + 10])
    options = len(_OPTION.findall(f"\n{read}"))
    asked = cues.asked_tokens(read)
    turns = max(query.turns, 1 + read.count("\nassistant:"))
    lines = counts[ord("\n")] + counted.count("\\n")
    log_tokens = math.log1p(max(query.prompt_tokens, 0))
    return (
        log_chars / 5.0,
        (log_chars / 5.0) ** 2 - 1.0,
        log_tokens / 5.0,
        log_tokens - log_chars + 1.4,
        math.log1p(word_count) / 5.0,
        math.log1p(lines) / 3.0,
        math.log1p(len(_SENTENCE_END.findall(read))) / 3.0,
        math.log1p(counts[ord("?")]) / 2.0,
        math.log1p(counts[ord(",")]) / 3.0,
        math.log1p(counts[ord(":")]) / 2.0,
        math.log1p(counts[ord('"')] + counts[ord("'")]) / 3.0,
        math.log1p(sum(counts[code] for code in b"{}()[];=<>")) / 4.0,
        math.log1p(digits) / 4.0,
        digits * share * 5.0,
        (length - len(plain)) * share,
        cjk * share,
        sum(counts[_A : _A + 26]) * share * 5.0,
        length / max(word_count, 1) / 6.0 if not cjk else 1.0,
        options / 10.0,
        float(options > 0),
        asked / 7.0,
        float(asked > 0.0),
        cues.asked_items(words),
        math.log(turns) / 2.0,
        _log_part(read.rpartition("\n")[2]),
        _log_part(read.partition("\n")[0]),
        rewrites * (log_chars - 5.0) / 2.0,
        float(query.has_tools) + float(query.has_schema),
    )


def _log_part(part: str) -> float:
    return math.log1p(len(part)) / 5.0


def _hashed(words: list[str]) -> tuple[Indices, Vector]:
    """Signed hashed uni- and bigrams of unit length, and the opening words."""
    # No word has a space in it, so that all are encoded at once.
    tokens = " ".join(words).encode("utf-8", "replace").split(b" ") if words else []
    singles = list(map(zlib.crc32, tokens))
    # A checksum goes on from that of what came before: these are those of "first second".
    pairs = list(map(zlib.crc32, [b" " + token for token in tokens[1:]], singles))
    grams = _counted(singles, weight=1.0), _counted(pairs, weight=0.7)
    norm = math.sqrt(sum(float(values @ values) for _, values in grams)) or 1.0
    # A template shows in the first words.
    marks = [(b"t3 " + b" ".join(tokens[:3]), 0.3), (b"t8 " + b" ".join(tokens[:8]), 0.3)]
    codes = np.concatenate([grams[0][0], grams[1][0], [zlib.crc32(text) for text, _ in marks]])
    values = np.concatenate([grams[0][1] / norm, grams[1][1] / norm, [v for _, v in marks]])
    signed = np.where(codes >> 31, values, -values)
    bins, place = np.unique(codes % HASHED, return_inverse=True)
    sums = np.bincount(place, weights=signed, minlength=len(bins))
    return bins, sums.astype(np.float64)


def _counted(codes: list[int], *, weight: float) -> tuple[Indices, Vector]:
    """Distinct hash codes and their damped counts."""
    distinct, counts = np.unique(np.array(codes, dtype=np.int64), return_counts=True)
    damped = weight * (1.0 + np.log(counts.astype(np.float64)))
    return distinct.astype(np.int64), damped.astype(np.float64)
