"""Prompt lengths as they were counted when answers were recorded.

A door estimates them from bytes, which ranks some prompts (formulas, other scripts) quite
otherwise: who predicts from the length alone gets the better count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

from llmservice_lab.predictors.asking import BatchPredictor
from llmservice_lab.predictors.dataset import Sample

PROMPT_LENGTH: Final = "prompt-length"  # the baseline that has nothing else


@dataclass(frozen=True, slots=True)
class Counted:
    """A predictor that is told the recorded token counts of prompts."""

    inner: BatchPredictor
    tokens: dict[str, int]  # by text of the prompt

    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        """What the inner one says; a prompt without a count keeps its estimate."""
        return self.inner.predict_batch(
            [
                replace(query, prompt_tokens=self.tokens.get(query.text, query.prompt_tokens))
                for query in queries
            ]
        )


def counted(inner: BatchPredictor, *parts: Sequence[Sample]) -> Counted:
    """With the counts of these answers' prompts."""
    tokens = {sample.prompt: sample.prompt_tokens for part in parts for sample in part}
    return Counted(inner, tokens)
