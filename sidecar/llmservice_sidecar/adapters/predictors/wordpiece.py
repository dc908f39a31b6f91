"""Text to vocabulary entries, the way uncased BERT models cut it; `tokenizers` does the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import WordPiece as WordPieceModel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

UNKNOWN: Final = "[UNK]"


class WordPiece:
    """Cuts text into entries of a vocabulary; a word that it cannot make up is `[UNK]`."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """`vocabulary`: distinct entries in the order of their ids. Raises ValueError if not."""
        ids = {entry: place for place, entry in enumerate(vocabulary)}
        if len(ids) != len(vocabulary) or UNKNOWN not in ids:
            raise ValueError(f"vocabulary of {len(vocabulary)}: must be distinct, with {UNKNOWN}")
        self._tokenizer = Tokenizer(WordPieceModel(ids, unk_token=UNKNOWN))
        self._tokenizer.normalizer = BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = BertPreTokenizer()

    def ids(self, text: str) -> npt.NDArray[np.int64]:
        """Places in the vocabulary, in text order. Any text is fine, lone surrogates too."""
        sound = text.encode("utf-8", "replace").decode()
        # The fast variant leaves out where in the text each token was.
        (found,) = self._tokenizer.encode_batch_fast([sound], add_special_tokens=False)
        return np.array(found.ids, dtype=np.int64)
