"""The deployed predictor inside a simulated run: it learns from each answer that finishes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llmservice_sidecar.adapters.predictors.cache import CachedDescriptions
from llmservice_sidecar.adapters.predictors.learned import snapshot
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.learned.sharing import PayloadError
from llmservice_sidecar.adapters.predictors.shipped.base import default_base
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

from llmservice_lab.pretrain import query_for
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
        return self._model.predict(_query(row))

    def observe(self, index: int, row: WorkloadRequest) -> None:  # noqa: ARG002 - protocol
        limit = row.max_tokens
        censored = limit is not None and row.output_tokens >= limit
        tokens = row.output_tokens if limit is None else min(row.output_tokens, limit)
        self._model.observe(_query(row), output_tokens=tokens, censored=censored)


def online(trained_file: Path | None) -> Online:
    """The default predictor, as shipped or with what it has learned.

    Raises ValueError naming a file that is no snapshot.
    """
    base = CachedDescriptions(default_base())
    if trained_file is None:
        return Online(OnlinePredictor(base), trained=True)
    try:
        model = snapshot.load(trained_file.read_bytes(), base=base)
    except (OSError, PayloadError) as error:
        raise ValueError(f"predictor {trained_file}: {error}") from error
    return Online(model, trained=True)


def _query(row: WorkloadRequest) -> PredictionQuery:
    """As a door would build it. Without recorded text only the prompt's size is known."""
    query = query_for(row.prompt or "", model=row.model or "")
    known = query.prompt_tokens if row.prompt else row.prompt_tokens
    return replace(query, prompt_tokens=known, max_tokens=row.max_tokens)
