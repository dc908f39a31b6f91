"""`llmservice eval`: how well predictors know the lengths of answers to prompts they have not met.

A predictor is `default` (as shipped), a baseline by name, or the path of an artefact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

from llmservice_lab.predictors.asking import OnStep, ask, ask_online
from llmservice_lab.predictors.baselines import BASELINES, fit_baseline
from llmservice_lab.predictors.counted import PROMPT_LENGTH, counted
from llmservice_lab.predictors.dataset import SPLITS, Sample, read_lengths
from llmservice_lab.predictors.judging import EvalRow, SourceMean, means_of, rows_of
from llmservice_lab.predictors.loading import Candidate, learned, load
from llmservice_lab.provenance import commit

EVALUATED: Final = (*SPLITS, "all")


class EvalDocument(TypedDict):
    """The result of an evaluation as it stands in JSON."""

    commit: str
    seed: int
    lengths: str
    split: str
    rows: list[EvalRow]
    sources: list[SourceMean]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalPlan:
    """What to evaluate on what. `online`: each predictor learns the answers as it meets them.

    `train` is the table that baselines are fitted to; None: the train rows of `lengths`.
    """

    lengths: Path
    predictors: Sequence[str]
    split: str = "test"
    train: Path | None = None
    online: bool = False
    seed: int = 1


def evaluate(plan: EvalPlan, *, on_step: Callable[[str, int, int], None]) -> EvalDocument:
    """Rows for every predictor, in argument order; `on_step` gets (predictor, done, answers).

    Raises OSError or ValueError: what cannot be read, is not known or not allowed.
    """
    if plan.split not in EVALUATED:
        raise ValueError(f"split {plan.split!r} is not known; known: {', '.join(EVALUATED)}")
    splits = SPLITS if plan.split == "all" else (plan.split,)
    samples = read_lengths(plan.lengths, splits=splits)
    if not samples:
        raise ValueError(f"{plan.lengths} has no complete answers of chat models in {plan.split}")
    candidates = [_candidate(name, plan, samples) for name in plan.predictors]
    rows: list[EvalRow] = []
    sources: list[SourceMean] = []
    for candidate in candidates:

        def step(done: int, total: int, name: str = candidate.name) -> None:
            on_step(name, done, total)

        more, means = _judged(candidate, samples, plan=plan, on_step=step)
        rows += more
        sources += means
    return EvalDocument(
        commit=commit(),
        seed=plan.seed,
        lengths=str(plan.lengths),
        split=plan.split,
        rows=rows,
        sources=sources,
    )


def _judged(
    candidate: Candidate, samples: Sequence[Sample], *, plan: EvalPlan, on_step: OnStep
) -> tuple[list[EvalRow], list[SourceMean]]:
    if plan.online:
        said = ask_online(learned(candidate), samples, seed=plan.seed, on_step=on_step)
    else:
        said = ask(candidate.make(), samples, by_model=candidate.by_model, on_step=on_step)
    rows = rows_of(candidate.name, samples, said)
    return rows, means_of(candidate.name, samples, said, rows)


def _candidate(name: str, plan: EvalPlan, samples: Sequence[Sample]) -> Candidate:
    if name not in BASELINES:
        return load(name)
    table = plan.train or plan.lengths
    train = read_lengths(table, splits=("train",))
    val = read_lengths(table, splits=("val",)) if train else []
    fitted = fit_baseline(name, train, val)
    if name == PROMPT_LENGTH:
        return Candidate(name, lambda: counted(fitted, samples), by_model=False)
    return Candidate(name, fitted.served, by_model=False)
