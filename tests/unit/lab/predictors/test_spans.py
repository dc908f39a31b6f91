"""Short texts beside whole prompts: many different ones, the same ones again, none of them long."""

from __future__ import annotations

from llmservice_lab.predictors.spans import LONGEST_WORD, spans

PROMPTS = [" ".join(f"word{place}of{text}" for place in range(60)) for text in range(20)]
VOCABULARY = ["[UNK]", "##ing", "whale", "essay", "peru", "of", "capital", "mountain"]


def test_the_same_seed_gives_the_same_spans_and_another_one_does_not() -> None:
    first, same, other = (spans(PROMPTS, VOCABULARY, count=200, seed=seed) for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_spans_are_short_and_differ() -> None:
    found = spans(PROMPTS, VOCABULARY, count=500, seed=1)
    assert len(set(found)) == len(found) <= 500
    cut = [text for text in found if "of" in text and "word" in text]
    assert all(len(text.split()) <= 48 for text in cut)


def test_most_spans_are_cut_from_prompts_and_some_are_of_words_alone() -> None:
    found = spans(PROMPTS, VOCABULARY, count=500, seed=1)
    whole = " ".join(PROMPTS)
    assert sum(text in whole for text in found) > 150
    assert any(set(text.split()) <= set(VOCABULARY) for text in found)


def test_pieces_of_words_and_marks_are_not_thrown_together() -> None:
    found = spans(PROMPTS, VOCABULARY, count=500, seed=1)
    assert not any("##ing" in text or "[UNK]" in text for text in found)


def test_blank_prompts_give_nothing_and_an_endless_word_is_cut() -> None:
    found = spans(["", " \n", "x" * 5000], VOCABULARY, count=100, seed=1)
    assert max(map(len, (text for text in found if text.startswith("x")))) <= 2 * LONGEST_WORD + 1
