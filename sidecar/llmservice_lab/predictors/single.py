"""`llmservice predict`: one prompt, one prediction, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import TypedDict

from llmservice_sidecar.adapters.predictors.sanity import sane
from llmservice_sidecar.core.remaining import remaining
from llmservice_sidecar.core.request import UNPREDICTED_TOKENS, Prediction

from llmservice_lab.predictors.loading import load
from llmservice_lab.pretrain import query_for


class PredictDocument(TypedDict):
    """A prediction as it stands in JSON. Tokens are of what is still to come."""

    predictor: str
    source: str
    mean_tokens: float
    p50_tokens: float | None
    p90_tokens: float
    prompt_tokens: int
    generated_tokens: int
    latency_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictPlan:
    """What to predict. `generated` tokens of the answer are there already."""

    prompt: str
    predictor: str
    model: str = ""
    max_tokens: int | None = None
    generated: int = 0


def predict_one(plan: PredictPlan) -> PredictDocument:
    """Ask once for warming up, once for the time.

    Raises ValueError: the predictor is not known or not readable, or nothing is left to generate.
    """
    if plan.max_tokens is not None and plan.generated >= plan.max_tokens:
        raise ValueError(
            f"generated is {plan.generated}; with max-tokens {plan.max_tokens} nothing is left"
        )
    predictor = load(plan.predictor).make()
    query = query_for(plan.prompt, model=plan.model)
    query = replace(query, max_tokens=plan.max_tokens)
    # Warm up with another text as long: a predictor may remember prompts.
    predictor.predict_batch([replace(query, text=query.text[::-1])])
    started = perf_counter()
    said = predictor.predict_batch([query])[0]
    latency_ms = 1e3 * (perf_counter() - started)
    tokens = UNPREDICTED_TOKENS if plan.max_tokens is None else float(plan.max_tokens)
    said = sane(said or Prediction(tokens, tokens, "prior"), query)
    if plan.generated:
        left = None if plan.max_tokens is None else plan.max_tokens - plan.generated
        said = sane(remaining(said, plan.generated), replace(query, max_tokens=left))
    return PredictDocument(
        predictor=plan.predictor,
        source=said.source,
        mean_tokens=said.output_tokens,
        p50_tokens=said.p50_tokens,
        p90_tokens=said.p90_tokens,
        prompt_tokens=query.prompt_tokens,
        generated_tokens=plan.generated,
        latency_ms=latency_ms,
    )
