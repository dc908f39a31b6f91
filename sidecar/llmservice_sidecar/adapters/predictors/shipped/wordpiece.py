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
# What normalising leaves of control characters: nothing; of these three, space.
_NO_CONTROLS: Final = {code: None for code in (*range(32), 127) if chr(code) not in "\t\n\r"}


class WordPiece:
    """Cuts text into entries of a vocabulary; a word that it cannot make up is `[UNK]`."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """`vocabulary`: distinct entries in the order of their ids. Raises ValueError if not."""
        ids = {entry: place for place, entry in enumerate(vocabulary)}
        if len(ids) != len(vocabulary) or UNKNOWN not in ids:
            raise ValueError(f"vocabulary of {len(vocabulary)}: must be distinct, with {UNKNOWN}")
        model = WordPieceModel(ids, unk_token=UNKNOWN)
        self._normal = _tokenizer(model)  # of text that is normalised
        self._tokenizer = _tokenizer(model)
        self._tokenizer.normalizer = BertNormalizer(lowercase=True)

    def ids(self, text: str) -> npt.NDArray[np.int64]:
        """Places in the vocabulary, in text order. Any text is fine, lone surrogates too."""
        if text.isascii():  # normalising comes to this, at a third of the whole cost
            sound, tokenizer = text.translate(_NO_CONTROLS).lower(), self._normal
        else:
            sound, tokenizer = text.encode("utf-8", "replace").decode(), self._tokenizer
        # The fast variant leaves out where in the text each token was.
        (found,) = tokenizer.encode_batch_fast([sound], add_special_tokens=False)
        return np.array(found.ids, dtype=np.int64)


def _tokenizer(model: WordPieceModel) -> Tokenizer:
    made = Tokenizer(model)
    made.pre_tokenizer = BertPreTokenizer()
    return made
