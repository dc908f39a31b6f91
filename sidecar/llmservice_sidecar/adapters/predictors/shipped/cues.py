"""Wording that tells how an answer will look: the task, the format and the size asked for.

English mostly: of other languages only a few words that are common in exams. Patterns have no
nested repetition, so no text makes them slow.
"""

from __future__ import annotations

import math
import re
from typing import Final

_ASKED_SIZE: Final = re.compile(
    r"(\d\d{0,4})[ -]?(words?|sentences?|paragraphs?|pages?|lines?|points|items|steps|tokens)\b"
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
_COUNTS: Final = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "twelve": 12,
    "fifteen": 15,
    "twenty": 20,
    "thirty": 30,
    "fifty": 50,
    "hundred": 100,
}
_THINGS: Final = (
    "ideas ways tips examples reasons questions titles names things facts steps options topics"
    " suggestions points recipes books movies songs words places lines benefits strategies"
    " headlines advantages characteristics methods activities features types key main best top"
)
_COUNTABLE: Final = frozenset(_THINGS.split())
MOST_ITEMS: Final = 200
# Numbers as they are written, with leading zeros too; nobody asks for more things.
_ITEMS: Final = _COUNTS | {
    f"{number:0{digits}}": number for number in range(2, MOST_ITEMS + 1) for digits in (1, 2, 3)
}

# One yes-or-no feature each; the expensive ones only look where instructions stand.
_PATTERNS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"\?\s*\Z",
        r"\$[^$\n]{1,80}\$",
        r"\A(?:human|user):",
        r"\A.{0,60}\Z",
    )
)
# Each looked for in the words joined by spaces; punctuation marks are words. Beside each phrase its
# words: where one is missing nothing has to be searched, and that is nearly everywhere.
_PHRASES: Final = tuple(
    tuple((frozenset(phrase.split()), f" {phrase} ") for phrase in phrases.split("|"))
    for phrases in (
        (
            "step by step|step - by - step|in depth|in detail|explain your|show your work"
            "|show your reasoning|how you"
        ),
        "how much|how many|how far|how long|how old|how often|how tall",
        "which of the following|most likely|most nearly",
        "one word|one sentence|one line|one phrase|single word|single sentence|few words",
        (
            "answer with|respond with|output only|answer only|just answer|only answer|reply with"
            "|answer in|return only|only output|answer it either|output 1|output 0|respond only"
        ),
        (
            "yes or no|yes or|true or false|or not|correct or incorrect|positive or negative"
            "|is valid|true and false|reasonable or unreasonable|supports or refutes|whether or not"
        ),
        (
            "in this task|you are given|you will be given|your task|given a|given an|given the"
            "|will be given|following task|the given"
        ),
        (
            "identify whether|identify if|identify the|identify which|determine if"
            "|determine whether|determine the|decide if|decide whether|does this|does the"
        ),
        "main idea|main point|key points|tl dr",
        (
            "what is the name|what is the capital|what year|what date|the name of|who is the"
            "|who was|who wrote|who invented|when was|when did|when is|where is|where was"
            "|what was the"
        ),
        "difference between|differences between|pros and cons|compared to|compare and contrast",
        "act as|pretend to|imagine you|imagine that|act like|you are a|you are an",
        "fill in|complete the|the blank|the missing",
        "multiple choice",
        "i am|i'm|i have|my|i want|i need|i'd like",
    )
)
_PARTS: Final = tuple(
    tuple(parts.split("|"))
    for parts in (
        "```|<html|</|=>|();",
        "{\n|}\n|;\n|def |#include|):\n|import ",
        "___|[mask]",
        "\\frac|\\sum|\\int|\\begin|\\sqrt|\\left",
        "options:|choices:",
        (
            "input:|text:|sentence:|passage:|context:|paragraph:|premise:|question:|statement:|tweet:"
            "|article:|abstract:|review:|claim:"
        ),
        "classif|category|categorize|categorise|sentiment",
        "\u9009\u9879|\u5355\u9009|\u9009\u62e9|\u7b54\u6848",  # option, choose, answer (Chinese)
        "\u8bf7|\u56de\u7b54|\u89e3\u91ca|\u5206\u6790",  # please, reply, explain, analyse
    )
)
_OPENINGS: Final = tuple(
    frozenset(words.split())
    for words in (
        "write create generate compose draft design develop build implement make",
        "what who when where which",
        "how",
        "why explain describe discuss analyze analyse compare",
        "is are was were do does did can could should will has have",
        "hi hello hey thanks thank good",
        "give list suggest recommend provide name find tell show come help",
        "i i'm my we let if",
        "the a an in on for",
    )
)
_KEYWORDS: Final = tuple(
    frozenset(words.split())
    for words in (
        # The first is used by others: the answer repeats the text that it is given.
        "translate paraphrase rewrite rephrase proofread correct edit convert fix refactor improve",
        "calculate compute determine evaluate solve find",
        "prove derive proof theorem",
        "essay article report blog chapter script thesis paper speech",
        "story novel tale scene fanfic narrative dialogue plot",
        "poem haiku lyrics song joke limerick rap",
        "email letter message tweet caption bio slogan headline title",
        "detail detailed details comprehensive thorough elaborate",
        "brief briefly short concise concisely only tldr",
        "list table bullet enumerate examples ideas outline",
        "plan guide tutorial recipe itinerary schedule steps instructions curriculum lesson",
        "json yaml csv xml html",
        "function code program script python javascript java rust algorithm api c++ react",
        "translate translation",
        "summarize summarise summary",
        "extract entities keywords",
        "true false",
        "best except not",
        "history biography overview introduction describe",
        "word antonym synonym rhymes spell spelling",
        "probability equation integral triangle velocity percent",
        (
            "kill bomb steal rob murder drugs drug weapon racist hack illegal suicide porn gun "
            "cocaine meth poison stalk fuck shit killing stealing"
        ),
        "sql regex query command",
        "app website game server project system plugin",
        "continue more elaborate",
        "paragraphs pages sections chapters",
        "quiz exam question questions",
        "hello hi hey thanks thank",
        "company business marketing product customers strategy",
    )
)

FLAGS: Final = sum(map(len, (_PATTERNS, _PHRASES, _PARTS, _OPENINGS, _KEYWORDS)))


def flags(lowered: str, words: list[str]) -> list[float]:
    """`FLAGS` zeros and ones, the first for a text to rewrite. `words`: those of `lowered`."""
    first, seen = words[0] if words else "", set(words)
    plain = f" {' '.join(words)} "
    return [
        *(float(not keywords.isdisjoint(seen)) for keywords in _KEYWORDS),
        *(float(first in opening) for opening in _OPENINGS),
        *(float(_says(phrases, plain, seen)) for phrases in _PHRASES),
        *(float(any(part in lowered for part in parts)) for parts in _PARTS),
        *(float(pattern.search(lowered) is not None) for pattern in _PATTERNS),
    ]


def _says(phrases: tuple[tuple[frozenset[str], str], ...], plain: str, seen: set[str]) -> bool:
    return any(needed <= seen and phrase in plain for needed, phrase in phrases)


def asked_tokens(lowered: str) -> float:
    """Log tokens of the answer as the prompt asks for it ("500 words"); 0 if it does not."""
    match = _ASKED_SIZE.search(lowered)
    if match is None:
        return 0.0
    return math.log1p(int(match[1]) * _TOKENS_PER[match[2].removesuffix("s")])


def asked_items(words: list[str]) -> float:
    """Log of how many things it asks for ("ten good ideas"), in units of 2; 0 if it does not."""
    for place, word in enumerate(words):
        if word in _ITEMS and not _COUNTABLE.isdisjoint(words[place + 1 : place + 4]):
            return math.log1p(_ITEMS[word]) / 2.0
    return 0.0
