"""What a fine-tuned proxy's directory says of itself, and how its scores become tokens.

`card.json` holds numbers and names, never a prompt. Knows nothing of networks: a proxy gives every
prompt a score and a spread, and what they mean is written here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from llmservice_sidecar.adapters.predictors.errors import ArtefactError

FORMAT: Final = 1
# Outputs of the network; prefixed, because its inner values have names of their own.
SCORE: Final = "proxy_score"
SPREAD: Final = "proxy_spread"
EMBEDDING: Final = "proxy_embedding"
MODEL_FILE: Final = "model.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
WEIGHTS_FILE: Final = "model.safetensors"
BANK_FILE: Final = "bank.safetensors"
CARD_FILE: Final = "card.json"
MAX_CARD_BYTES: Final = 4_000_000
MAX_TOKENIZER_BYTES: Final = 64_000_000  # the largest vocabularies take half of that
MAX_MODEL_BYTES: Final = 2_000_000_000  # of an ONNX file without external data
MAX_BANK_BYTES: Final = 512_000_000
MAX_NEIGHBOURS: Final = 1000


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From a score to ln(output tokens), by straight lines between knots, flat beyond them.

    All five have a number per knot; `scores` ascend strictly, `log_tokens` do not descend.
    ln p50 = log_tokens + spread x p50, ln p90 likewise, ln mean = log_tokens + log_mean_ratio.
    """

    scores: tuple[float, ...]
    log_tokens: tuple[float, ...]
    log_mean_ratio: tuple[float, ...]
    p50: tuple[float, ...]
    p90: tuple[float, ...]

    def log_quantiles(self, score: float, spread: float) -> tuple[float, float, float]:
        """ln of mean, median and 90 % quantile of the tokens. A score that is not finite: NaN."""
        if not (math.isfinite(score) and math.isfinite(spread)):
            return math.nan, math.nan, math.nan
        middle, ratio, p50, p90 = (
            float(np.interp(score, self.scores, values))
            for values in (self.log_tokens, self.log_mean_ratio, self.p50, self.p90)
        )
        return middle + ratio, middle + spread * p50, middle + spread * p90

    def check(self) -> None:
        """Raise ArtefactError unless all numbers are finite and in the order promised."""
        columns = (self.scores, self.log_tokens, self.log_mean_ratio, self.p50, self.p90)
        if not self.scores or len({len(column) for column in columns}) != 1:
            raise ArtefactError(f"calibration columns of lengths {[len(c) for c in columns]}")
        if not all(math.isfinite(number) for column in columns for number in column):
            raise ArtefactError("calibration holds numbers that are not finite")
        if np.any(np.diff(self.scores) <= 0) or np.any(np.diff(self.log_tokens) < 0):
            raise ArtefactError("calibration knots are not in ascending order")


class Figures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a proxy did on prompts it was not trained on; None: too few of them to say."""

    prompts: int
    tau_b: float | None  # Kendall's, per model, then the mean over models
    mae_tokens: float | None
    coverage_p50: float | None
    coverage_p90: float | None


class Retrieval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How neighbours in the bank outvote the score: at most so many, at least so alike (cosine)."""

    neighbours: int
    min_similarity: float

    def check(self) -> None:
        """Raise ArtefactError naming the number that is out of bounds."""
        if not 1 <= self.neighbours <= MAX_NEIGHBOURS:
            raise ArtefactError(
                f"retrieval.neighbours is {self.neighbours}; allowed: 1 to {MAX_NEIGHBOURS}"
            )
        if not -1.0 <= self.min_similarity <= 1.0:
            raise ArtefactError(
                f"retrieval.min_similarity is {self.min_similarity}; allowed: -1 to 1, a cosine"
            )


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model card for machines and people.

    `bins` are the length classes' cuts in tokens (empty: the head has none); `offsets` are ln
    ratios of the models in the training data to their mean on the same prompts; `licences` are
    those of the training rows; `onnx_gap` is the largest difference of a score between torch and
    the served file on validation prompts, in standard deviations of the score.
    """

    format_version: int
    head: str
    base: str
    max_tokens: int
    seed: int
    bins: tuple[float, ...] = ()
    calibration: Calibration
    offsets: dict[str, float] = {}
    retrieval: Retrieval | None = None
    licences: tuple[str, ...] = ()
    prompts: dict[str, int] = {}  # per split
    validation: dict[str, Figures] = {}  # per source of the split `val`
    test: dict[str, Figures] = {}  # per source of the split `test`, read once after training
    frozen_layers: int = 0
    epochs: int = 0
    seconds: float = 0.0
    onnx_gap: float | None = None
    tau_int8: float | None = None  # Kendall's tau-b between torch's scores and the served file's


def read_card(directory: Path) -> Card:
    """The card of a proxy's directory. Raises OSError, or ArtefactError naming what is wrong."""
    path = directory / CARD_FILE
    try:
        card = msgspec.json.decode(read_bounded(path, max_bytes=MAX_CARD_BYTES), type=Card)
    except msgspec.DecodeError as error:
        raise ArtefactError(f"{path}: {error}") from error
    if card.format_version != FORMAT:
        raise ArtefactError(
            f"{path}: format_version is {card.format_version}; this version reads {FORMAT}"
        )
    if card.max_tokens < 8:
        raise ArtefactError(f"{path}: max_tokens is {card.max_tokens}; allowed: 8 and more")
    card.calibration.check()
    if card.retrieval is not None:
        card.retrieval.check()
    return card


def read_bounded(path: Path, *, max_bytes: int) -> bytes:
    """All of a file. Raises OSError, or ArtefactError when there is more than expected."""
    with path.open("rb") as file:
        size = path.stat().st_size
        payload = b"" if size > max_bytes else file.read(max_bytes + 1)
    if max(size, len(payload)) > max_bytes:
        raise ArtefactError(f"{path} has {size} bytes; allowed: at most {max_bytes}")
    return payload


def write_card(directory: Path, card: Card) -> None:
    """Write `card.json` into a directory that exists."""
    text = msgspec.json.format(msgspec.json.encode(card), indent=1)
    (directory / CARD_FILE).write_bytes(text + b"\n")
