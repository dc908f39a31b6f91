"""Length models from files inside a simulated run: they see prompts, never lengths."""

from __future__ import annotations

from dataclasses import replace

from llmservice_sidecar.core.request import UNPREDICTED_TOKENS, Prediction

from llmservice_lab.predictors.asking import BatchPredictor
from llmservice_lab.predictors.loading import learned, load
from llmservice_lab.pretrain import query_for
from llmservice_lab.sim_online import Online
from llmservice_lab.sim_predictors import SimPredictor
from llmservice_lab.workload import WorkloadRequest


class Told:
    """A model that learns nothing from outcomes. Each prompt is put to it once and remembered."""

    def __init__(self, model: BatchPredictor) -> None:
        self._model = model
        self._said: dict[tuple[str | None, str | None, int | None], Prediction] = {}

    @property
    def starts_trusted(self) -> bool:
        return True

    def predict(self, index: int, row: WorkloadRequest) -> Prediction:  # noqa: ARG002 - protocol
        key = row.prompt, row.model, row.max_tokens
        if key not in self._said:
            self._said[key] = self._ask(row)
        return self._said[key]

    def observe(self, index: int, row: WorkloadRequest) -> None:
        """Nothing to learn."""

    def _ask(self, row: WorkloadRequest) -> Prediction:
        query = query_for(row.prompt or "", model=row.model or "")
        known = query.prompt_tokens if row.prompt else row.prompt_tokens
        query = replace(query, prompt_tokens=known, max_tokens=row.max_tokens)
        prior = UNPREDICTED_TOKENS if row.max_tokens is None else float(row.max_tokens)
        return self._model.predict_batch([query])[0] or Prediction(prior, prior, "prior")


def trained(path: str) -> SimPredictor:
    """What is at a path: a proxy model as it is, the default predictor learning during the run.

    Raises ValueError naming what cannot be read.
    """
    candidate = load(path)
    if candidate.learns:
        return Online(learned(candidate)(), trained=True)
    return Told(candidate.make())
