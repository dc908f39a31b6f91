"""Invented prompts: filled, distinct, as long as their kind says."""

from __future__ import annotations

import math
import re

from llmservice_lab.predictors.augment import SOURCE, invented, templates

PASSAGE = (
    "A long enough text about nothing at all that goes on for a while so that it may be cut. " * 4
)


def test_there_are_templates_and_every_slot_has_words() -> None:
    found = templates()
    assert len(found.kinds) > 5
    assert all(words for words in found.slots.values())


def test_every_slot_is_filled_and_no_prompt_comes_twice() -> None:
    made = invented([PASSAGE], variants=2, seed=1)
    prompts = [target.prompt for target in made]
    assert len(set(prompts)) == len(prompts) > 300
    assert not any("{" in prompt for prompt in prompts)
    assert {target.source for target in made} == {SOURCE}


def test_more_items_and_longer_passages_make_longer_answers() -> None:
    made = invented([PASSAGE], variants=8, seed=1)

    def mean(pattern: str) -> float:
        found = [target.log_tokens for target in made if re.search(pattern, target.prompt)]
        return sum(found) / len(found)

    assert mean(r"\b(?:12|15|20) (?:paragraph|sentence)") > mean(r"\b[2-5] (?:paragraph|sentence)")
    assert mean(r"Keep it short\.") < mean(r"Go into detail\.")


def test_lengths_are_those_of_answers() -> None:
    made = invented([PASSAGE], variants=4, seed=1)
    assert all(0.0 < target.log_tokens < math.log(4000) for target in made)


def test_without_passages_the_slot_stays_empty() -> None:
    assert invented([], variants=1, seed=1)
    assert len(invented(["too short", "Human: a\n\nAssistant: b " * 20], variants=1, seed=1)) > 100
