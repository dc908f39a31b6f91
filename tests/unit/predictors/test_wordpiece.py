"""Cutting text into vocabulary entries: the quick way for plain text cuts like the usual one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmservice_sidecar.adapters.predictors.shipped.wordpiece import UNKNOWN, WordPiece

VOCABULARY = (UNKNOWN, "write", "a", "story", "##s", "##ab", ".", "(", ")", "b", "c")
PIECES = WordPiece(VOCABULARY)
FOREIGN = "\u4e2d"  # makes a text one that is not plain, and is one unknown piece


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_text_is_cut_as_it_is_within_any_text(text: str) -> None:
    assert np.array_equal(PIECES.ids(text), PIECES.ids(f"{text} {FOREIGN}")[:-1])


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Write a STORY.", "write a story ."),
        ("stories (b)", "[UNK] ( b )"),
        ("wri\x00te\tstorys\x0b\nc\x7f", "write story ##s c"),
        ("", ""),
    ],
    ids=["case", "marks and an unknown word", "control characters", "empty"],
)
def test_pieces_of_plain_text(text: str, pieces: str) -> None:
    assert [VOCABULARY[place] for place in PIECES.ids(text)] == pieces.split()


def test_a_vocabulary_without_unknown_or_with_an_entry_twice_is_refused() -> None:
    for vocabulary in (("a", "b"), (UNKNOWN, "a", "a")):
        with pytest.raises(ValueError, match="distinct"):
            WordPiece(vocabulary)
