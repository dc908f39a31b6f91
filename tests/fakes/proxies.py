"""Proxies without a network: a tokenizer of a few words, and sessions that count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from llmservice_sidecar.adapters.predictors.proxies.proxy_card import EMBEDDING, SCORE, SPREAD
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "short", "long", "answer", "please", "essay")


def tokenizer() -> Tokenizer:
    """Words and marks of their own, dressed as BERT does."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue] - its stubs know getters only
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))  # pyright: ignore[reportAttributeAccessIssue] - as above
    return made


@dataclass(frozen=True, slots=True)
class _Output:
    name: str


@dataclass(slots=True)
class FakeSession:
    """Scores a prompt by its token ids; the embedding is one of two directions."""

    score: Callable[[Sequence[int]], float] = len
    spread: float = 1.0
    runs: int = field(default=0, init=False)

    def get_outputs(self) -> list[_Output]:
        """As onnxruntime names them."""
        return [_Output(SCORE), _Output(SPREAD), _Output(EMBEDDING)]

    def run(self, names: None, feed: Mapping[str, Any]) -> list[Any]:
        """All outputs for a batch of one."""
        self.runs += 1
        (row,) = feed["input_ids"].tolist()
        unit = [1.0, 0.0] if WORDS.index("long") in row else [0.0, 1.0]
        return [
            np.array([self.score(row)], dtype=np.float32),
            np.array([self.spread], dtype=np.float32),
            np.array([unit], dtype=np.float32),
        ]
