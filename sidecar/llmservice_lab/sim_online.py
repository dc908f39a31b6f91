"""The deployed predictor inside a simulated run: it learns from each answer that finishes."""

from __future__ import annotations

from llmservice_sidecar.adapters.predictors.online import OnlinePredictor
from llmservice_sidecar.core.request import UNPREDICTED_TOKENS, Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

from llmservice_lab.workload import WorkloadRequest


class Online:
    """Sees of a row what a deployed predictor sees: the prompt and its parameters, never a length.

    `trained`: it comes with knowledge, so the guard trusts it from the start.
    """

    def __init__(self, model: OnlinePredictor, *, trained: bool) -> None:
        self._model = model
        self._trained = trained

    @property
    def starts_trusted(self) -> bool:
        return self._trained

    def predict(self, index: int, row: WorkloadRequest) -> Prediction:  # noqa: ARG002 - protocol
        predicted = self._model.predict(_query(row))
        if predicted is not None:
            return predicted
        prior = UNPREDICTED_TOKENS if row.max_tokens is None else float(row.max_tokens)
        return Prediction(prior, prior, "prior")

    def observe(self, index: int, row: WorkloadRequest) -> None:  # noqa: ARG002 - protocol
        limit = row.max_tokens
        censored = limit is not None and row.output_tokens >= limit
        tokens = row.output_tokens if limit is None else min(row.output_tokens, limit)
        self._model.observe(_query(row), output_tokens=tokens, censored=censored)


def _query(row: WorkloadRequest) -> PredictionQuery:
    return PredictionQuery(
        text=row.prompt or "",
        prompt_tokens=row.prompt_tokens,
        endpoint="chat",
        model=row.model or "",
        max_tokens=row.max_tokens,
    )
