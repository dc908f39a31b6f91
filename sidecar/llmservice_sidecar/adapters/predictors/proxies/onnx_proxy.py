"""A fine-tuned proxy model on onnxruntime: a directory made by `llmservice train`.

One prompt after the other: on one core a batch is no faster, and the scales of int8 activations
would make a prediction depend on its neighbours in the batch.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as parse

from llmservice_sidecar.adapters.predictors.errors import ArtefactError
from llmservice_sidecar.adapters.predictors.proxies.proxy_card import (
    BANK_FILE,
    EMBEDDING,
    MAX_BANK_BYTES,
    MAX_MODEL_BYTES,
    MODEL_FILE,
    SCORE,
    SPREAD,
    TOKENIZER_FILE,
    Card,
    read_bounded,
    read_card,
)
from llmservice_sidecar.adapters.predictors.proxies.proxy_text import ProxyText
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

REMEMBERED: Final = 2048  # scores by hash of the prompt: repeated prompts, and outcomes to come
MAX_MODELS: Final = 64  # served models with an offset of their own
PRIOR_OUTCOMES: Final = 8.0  # what the card's offset weighs against learned ones
MEMORY_OUTCOMES: Final = 500.0
SOURCE: Final = "proxy"

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Score:
    """What the network says of a prompt: larger is longer; the spread is 1 where it has none."""

    value: float
    spread: float


@dataclass(slots=True)
class _Offset:
    """ln ratio of a served model's answers to the proxy's idea of them, as a fading mean."""

    log_ratio: float
    weight: float = PRIOR_OUTCOMES

    def observe(self, log_ratio: float) -> None:
        self.weight = min(self.weight + 1.0, MEMORY_OUTCOMES)
        self.log_ratio += (log_ratio - self.log_ratio) / self.weight


@dataclass(frozen=True, slots=True)
class Bank:
    """Remembered prompts: unit vectors (prompts x width) and ln of their answers' tokens."""

    vectors: FloatArray
    log_tokens: FloatArray


class OnnxProxy:
    """A `LengthModel` that learns no more than how long-winded each served model is."""

    def __init__(self, session: Any, *, text: ProxyText, card: Card, bank: Bank | None) -> None:
        self._session = session
        self._text = text
        self._bank = bank
        self.card = card
        self._names = [output.name for output in session.get_outputs()]
        self._scores: OrderedDict[bytes, Score] = OrderedDict()
        self._offsets: OrderedDict[str, _Offset] = OrderedDict()
        self._samples = 0

    @classmethod
    def load(cls, directory: Path) -> OnnxProxy:
        """Read a directory with `card.json`, `model.onnx`, `tokenizer.json`.

        Raises OSError when a file cannot be read, ArtefactError when it is not what it should be.
        """
        card = read_card(directory)
        text = ProxyText.load(directory / TOKENIZER_FILE, max_tokens=card.max_tokens)
        bank = None if card.retrieval is None else _read_bank(directory / BANK_FILE)
        made = cls(open_session(directory / MODEL_FILE), text=text, card=card, bank=bank)
        made.check(str(directory))
        return made

    def check(self, where: str) -> None:
        """Raise ArtefactError when the network has not the outputs that card and bank ask for."""
        wanted = {SCORE, SPREAD} if self._bank is None else {SCORE, SPREAD, EMBEDDING}
        missing = wanted - set(self._names)
        if missing:
            raise ArtefactError(f"{where}: the network has no output {min(missing)}")
        if self._bank is not None:
            width = self._outputs("")[EMBEDDING].shape[-1]
            held = self._bank.vectors.shape[1]
            if held != width:
                raise ArtefactError(
                    f"{where}: the bank's vectors have {held} numbers; the network's {width}"
                )

    @property
    def samples(self) -> int:
        """Outcomes learned from since it was loaded."""
        return self._samples

    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        """Mean, median and 90 % quantile per query, never above its `max_tokens`.

        Raises ArtefactError when the network says NaN or infinity of one of them.
        """
        return [self._predict(query) for query in queries]

    def observe(self, query: PredictionQuery, *, output_tokens: int, censored: bool) -> None:
        """Learn the served model's offset; a prompt forgotten since its prediction teaches nothing.

        Of a censored answer only that it was longer than thought.
        """
        score = self._scores.get(_key(query.text))
        if score is None or output_tokens < 1:
            return
        _, median, _ = self.card.calibration.log_quantiles(score.value, score.spread)
        log_ratio = math.log(output_tokens) - median
        offset = self._offset(query.model)
        if math.isnan(log_ratio) or (censored and log_ratio < offset.log_ratio):
            return
        offset.observe(log_ratio)
        self._samples += 1

    def score(self, text: str) -> Score:
        """The network's word on a prompt, remembered for a while."""
        key = _key(text)
        known = self._scores.get(key)
        if known is None:
            known = self._scores[key] = self._run(text)
            if len(self._scores) > REMEMBERED:
                self._scores.popitem(last=False)
        return known

    def _predict(self, query: PredictionQuery) -> Prediction:
        score = self.score(query.text)
        offset = self._offset(query.model).log_ratio
        mean, p50, p90 = self.card.calibration.log_quantiles(score.value, score.spread)
        if math.isnan(mean):
            raise ArtefactError(f"the network gives score {score.value}, spread {score.spread}")
        limit = math.inf if query.max_tokens is None else math.log(max(query.max_tokens, 1))
        mean, p50, p90 = (
            math.exp(min(max(log_tokens + offset, 0.0), limit, 16.0))
            for log_tokens in (mean, p50, p90)
        )
        return Prediction(mean, max(mean, p90), SOURCE, p50_tokens=p50)

    def _offset(self, model: str) -> _Offset:
        known = self._offsets.get(model)
        if known is None:
            known = self._offsets[model] = _Offset(self.card.offsets.get(model, 0.0))
            if len(self._offsets) > MAX_MODELS:
                self._offsets.popitem(last=False)
        else:
            self._offsets.move_to_end(model)
        return known

    def _outputs(self, text: str) -> dict[str, Any]:
        ids = np.array([self._text.ids(text)], dtype=np.int64)
        outputs = self._session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return dict(zip(self._names, outputs, strict=True))

    def _run(self, text: str) -> Score:
        named = self._outputs(text)
        value, spread = float(named[SCORE][0]), float(named[SPREAD][0])
        if self._bank is not None:
            value = self._from_neighbours(named[EMBEDDING][0], otherwise=value)
        return Score(value, spread)

    def _from_neighbours(self, vector: FloatArray, *, otherwise: float) -> float:
        assert self._bank is not None
        assert self.card.retrieval is not None
        rule = self.card.retrieval
        near = nearest(self._bank, vector, neighbours=rule.neighbours)
        return near.mean(min_similarity=rule.min_similarity, otherwise=otherwise)


@dataclass(frozen=True, slots=True)
class Near:
    """Remembered prompts near another one: ln tokens of their answers, and their cosines to it."""

    log_tokens: FloatArray
    likeness: FloatArray

    def mean(self, *, min_similarity: float, otherwise: float) -> float:
        """Mean ln tokens weighted by cosine; `otherwise` when none is alike enough."""
        alike = self.likeness >= min_similarity
        if not alike.any():
            return otherwise
        return float(np.average(self.log_tokens[alike], weights=self.likeness[alike]))


def nearest(bank: Bank, vector: FloatArray, *, neighbours: int) -> Near:
    """The prompts nearest to a unit vector (ALISE, arXiv 2410.23537)."""
    likeness = bank.vectors @ vector
    near = np.argsort(likeness, kind="stable")[-neighbours:]
    return Near(bank.log_tokens[near], likeness[near])


def open_session(path: Path) -> Any:
    """An onnxruntime session with one thread. Raises OSError, or ArtefactError for no ONNX file."""
    runtime = importlib.import_module("onnxruntime")
    payload = read_bounded(path, max_bytes=MAX_MODEL_BYTES)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no common base but this
        raise ArtefactError(f"{path} is no model that onnxruntime can run: {error}") from error


def _read_bank(path: Path) -> Bank:
    payload = read_bounded(path, max_bytes=MAX_BANK_BYTES)
    try:
        arrays = parse(payload)
        vectors, log_tokens = arrays["vectors"], arrays["log_tokens"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise ArtefactError(f"{path} holds no neighbours: {error}") from error
    if vectors.ndim != 2 or log_tokens.shape != vectors.shape[:1]:
        raise ArtefactError(f"{path}: shapes {vectors.shape} and {log_tokens.shape} do not agree")
    if not len(vectors):
        raise ArtefactError(f"{path}: vectors has no rows; allowed: 1 and more")
    for name, values in (("vectors", vectors), ("log_tokens", log_tokens)):
        if not np.isfinite(values).all():
            raise ArtefactError(f"{path}: {name} holds numbers that are not finite")
    return Bank(vectors.astype(np.float32), log_tokens.astype(np.float32))


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
