"""What each predictor of the table says of every test answer, kept between renderings.

Asking a fine-tuned encoder takes minutes, so results are kept by everything that they depend on:
the table of lengths, the artefact, and the code that fits or asks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import llmservice_sidecar.adapters.predictors as served
import numpy as np
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.learned.sharing import Describes
from llmservice_sidecar.adapters.predictors.shipped.base import Description
from llmservice_sidecar.runtime.ports import PredictionQuery

import llmservice_lab.predictors as lab
from llmservice_lab.predictors.asking import BatchPredictor, ask, ask_online
from llmservice_lab.predictors.baselines import BASELINES, fit_baseline
from llmservice_lab.predictors.counted import PROMPT_LENGTH, counted
from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.predictors.judging import Said
from llmservice_lab.predictors.loading import Candidate, learned, load
from llmservice_lab.predictors.memory import resident_mib
from llmservice_lab.predictors.store import Store, digest_of

SERVED: Final = Path(served.__path__[0])
LAB: Final = Path(lab.__path__[0])
SEED: Final = 1  # of the order of answers, and of which prompts are timed
TIMED: Final = 500  # answers whose prompts show what a baseline costs

# The code that an answer depends on, beside its artefact.
_ASKING: Final = (LAB / "asking.py", LAB / "dataset.py", LAB / "memory.py")
_FITTING: Final = (LAB / "baselines.py", LAB / "targets.py")
_EMBEDDING: Final = (
    LAB / "embedding_trees.py",
    LAB / "teacher.py",
    SERVED / "shipped" / "features.py",
    SERVED / "shipped" / "cues.py",
)
_MORE: Final = {
    "embedding-lightgbm": _EMBEDDING,
    "blend": _EMBEDDING,
    PROMPT_LENGTH: (LAB / "counted.py",),
}
_PROXIES: Final = tuple(
    SERVED / "proxies" / f"{name}.py" for name in ("onnx_proxy", "proxy_card", "proxy_text")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The table of lengths, parted. `digest` names its file's content."""

    train: Sequence[Sample]
    val: Sequence[Sample]
    test: Sequence[Sample]
    digest: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What one contestant said of the val and test answers, and the memory of its process.

    The memory is None where several processes said it together.
    """

    val: Said
    test: Said
    resident_mib: float | None


def measure(spec: str, answers: Answers, store: Store, *, online: bool = False) -> Measured:
    """Kept, or asked now. `spec`: as `llmservice eval` takes it. ValueError: it cannot be had."""
    key = key_of(spec, answers, online=online)
    kept = store.get(*key)
    if kept is None:
        kept = _asked(spec, answers, online=online)
        store.put(*key, value=kept)
    val, test = (_unpacked(kept[part]) for part in ("val", "test"))
    return Measured(val, test, kept["resident_mib"])


def key_of(spec: str, answers: Answers, *, online: bool) -> tuple[object, ...]:
    """Everything that what it says depends on."""
    return spec, online, answers.digest, *depends_on(spec)


def _asked(spec: str, answers: Answers, *, online: bool) -> dict[str, Any]:
    if spec in BASELINES:
        return _baseline(spec, answers)
    candidate = load(spec)
    parts: tuple[Sequence[Sample], ...] = (answers.val, answers.test)
    if online:
        return _document(_online(candidate, answers), resident_mib(candidate.make))
    predictor = candidate.make()
    said = [ask(predictor, part, by_model=candidate.by_model, on_step=_silent) for part in parts]
    return _document(said, resident_mib(candidate.make))


def _online(candidate: Candidate, answers: Answers) -> list[Said]:
    """Of val nothing: it learns a model's level by itself.

    Hundreds of models meet the same prompts; each is described once, so that nothing is timed.
    """
    base = _Once(learned(candidate)().base)
    make = partial(OnlinePredictor, base)
    said = [ask_online(make, part, seed=SEED, on_step=_silent) for part in ((), answers.test)]
    for each in said:
        each.seconds[:] = np.nan
    return said


class _Once:
    """Describes each text once: the served model makes no difference to a description."""

    def __init__(self, base: Describes) -> None:
        self._base = base
        self._known: dict[str, Description] = {}

    def describe(self, query: PredictionQuery) -> Description:
        if query.text not in self._known:
            self._known[query.text] = self._base.describe(query)
        return self._known[query.text]


def _baseline(spec: str, answers: Answers) -> dict[str, Any]:
    """Sentence embeddings that are kept spare minutes; what one costs is seen of a few prompts."""
    fitted = fit_baseline(spec, answers.train, answers.val)
    asked: BatchPredictor = fitted
    if spec == PROMPT_LENGTH:
        asked = counted(fitted, answers.val, answers.test)
    val, test = (
        ask(asked, part, by_model=False, on_step=_silent) for part in (answers.val, answers.test)
    )
    timed = random.Random(SEED).sample(  # noqa: S311 - a choice of prompts, no secret
        range(len(answers.test)), min(TIMED, len(answers.test))
    )
    served = fitted.served()
    some = ask(served, [answers.test[place] for place in timed], by_model=False, on_step=_silent)
    test.seconds[:] = np.nan
    test.seconds[timed] = some.seconds
    return _document([val, test], resident_mib(partial(_same, served)))


def _document(said: Sequence[Said], resident: float) -> dict[str, Any]:
    val, test = map(_packed, said)
    return {"val": val, "test": test, "resident_mib": resident}


def combined(parts: Sequence[Measured]) -> Measured:
    """The mean of logarithms of what several said; the time of all."""
    return Measured(_mean([part.val for part in parts]), _mean([part.test for part in parts]), None)


def _mean(parts: Sequence[Said]) -> Said:
    mean, p50, p90 = (
        np.exp(np.mean([np.log(getattr(said, name)) for said in parts], axis=0))
        for name in ("mean", "p50", "p90")
    )
    return Said(mean, p50, p90, np.sum([said.seconds for said in parts], axis=0))


def depends_on(spec: str) -> list[str]:
    """Digests of the artefact and of the code that makes what it says."""
    if spec in BASELINES:
        files = (*_ASKING, *_FITTING, *_MORE.get(spec, ()))
    elif Path(spec).is_dir():
        files = (*_ASKING, *_PROXIES, Path(spec))
    else:
        own = [Path(spec)] if Path(spec).exists() else []
        files = (
            *_ASKING,
            *sorted(SERVED.rglob("*.py")),
            *sorted(SERVED.rglob("*.safetensors")),
            *own,
        )
    return [digest_of(path) for path in files]


def _same(predictor: BatchPredictor) -> BatchPredictor:
    """A predictor that is there already, as a function that can be sent to another process."""
    return predictor


def _silent(done: int, total: int) -> None:
    """Contestants are told of as a whole."""


def _packed(said: Said) -> list[list[float]]:
    columns = (said.mean, said.p50, said.p90, 1e3 * said.seconds)
    return [np.round(column, 4).tolist() for column in columns]


def _unpacked(columns: Sequence[Sequence[float]]) -> Said:
    mean, p50, p90, milliseconds = (np.array(column, dtype=np.float64) for column in columns)
    return Said(mean, p50, p90, milliseconds / 1e3)
