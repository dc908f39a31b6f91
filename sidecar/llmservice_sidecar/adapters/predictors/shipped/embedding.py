"""What a prompt is about, as short vectors: sums of its tokens' vectors, from a table.

The table is distilled from a sentence encoder, so a look-up replaces the encoder's layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from llmservice_sidecar.adapters.predictors.shipped.features import Vector, ends
from llmservice_sidecar.adapters.predictors.shipped.wordpiece import WordPiece

READ_CHARS: Final = (700, 300)  # head and tail: about 220 tokens of English
DENSE_SCRIPT_SHARE: Final = 3  # where characters are tokens (Chinese), that much less is read
END_TOKENS: Final = 16  # at each end: there stands what is asked, the rest is what it is about
PARTS: Final = 3  # the whole, its first tokens, its last ones


class StaticEmbedding:
    """Sums of table rows, scaled to length sqrt(dimensions): entries are of order one."""

    def __init__(
        self,
        vocabulary: Sequence[str],
        codes: npt.NDArray[np.int8],
        scales: npt.NDArray[np.float32],
    ) -> None:
        """Row of token t: `codes[t] * scales[t]`. Raises ValueError when shapes do not fit."""
        rows = len(vocabulary)
        if codes.ndim != 2 or codes.shape[0] != rows or scales.shape != (rows,):
            raise ValueError(f"codes {codes.shape}, scales {scales.shape} for {rows} tokens")
        self._wordpiece = WordPiece(vocabulary)
        self._codes = codes
        self._scales = scales
        self.dimensions: int = codes.shape[1]

    def embed(self, text: str) -> Vector:
        """The vectors of a text, of its first and of its last tokens, one behind the other.

        Zeros when it has no token.
        """
        ids = self._wordpiece.ids(cut_for_embedding(text))
        rows, scales = self._codes[ids].astype(np.float32), self._scales[ids]
        first, last = slice(None, END_TOKENS), slice(-END_TOKENS, None)
        parts = (scales @ rows, scales[first] @ rows[first], scales[last] @ rows[last])
        return np.concatenate([self._unit(part) for part in parts])

    def _unit(self, total: npt.NDArray[np.float32]) -> Vector:
        norm = float(np.sqrt(total @ total))
        scale = math.sqrt(self.dimensions) / norm if norm > 0.0 else 0.0
        return total.astype(np.float64) * scale


def cut_for_embedding(text: str) -> str:
    """What of a text is embedded: its head and its tail."""
    head, tail = READ_CHARS
    start = text[:head]
    if not start.isascii() and 2 * len(start.encode("ascii", "ignore")) < len(start):
        head, tail = head // DENSE_SCRIPT_SHARE, tail // DENSE_SCRIPT_SHARE
    return ends(text, head, tail)
