"""The default predictor: the shipped model, and a head per served model that learns from requests.

Keeps no text: heads are known by the hash of their model's name.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from llmservice_sidecar.adapters.predictors import sharing
from llmservice_sidecar.adapters.predictors.base import Description, default_base
from llmservice_sidecar.adapters.predictors.calibration import Calibration, Kind
from llmservice_sidecar.adapters.predictors.estimate import Estimate
from llmservice_sidecar.adapters.predictors.head import Head
from llmservice_sidecar.adapters.predictors.request_cues import request_cues
from llmservice_sidecar.adapters.predictors.sharing import Describes
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

MAX_HEADS: Final = 16  # served models and adapters; the longest unused head is forgotten
MAX_PEERS: Final = 16  # replicas whose evidence counts; the longest silent is forgotten

_UNTAUGHT: Final = Calibration()


class OnlinePredictor:
    """Lengths from the shipped model, corrected by what requests taught. Not thread-safe.

    Deterministic: the same outcomes in the same order give the same predictions in any process.
    """

    def __init__(self, base: Describes | None = None) -> None:
        """`base`: what describes prompts; None: the one that comes with the program."""
        self.base: Describes = default_base() if base is None else base
        self.heads: OrderedDict[str, Head] = OrderedDict()
        self.origin = b""  # of what it began with: tells one configured start from another
        self._peers: OrderedDict[str, None] = OrderedDict()
        self._samples = 0

    @property
    def samples(self) -> int:
        """Outcomes behind what it knows: its own and inherited ones, not those of live replicas.

        A plain number, so that it may be read while another thread is learning.
        """
        return self._samples

    def predict(self, query: PredictionQuery) -> Prediction:
        """Mean, median and 90 % quantile of output tokens, within 1 and `max_tokens`."""
        description = self._describe(query)
        head = self.heads.get(head_key(query.model))
        if head is None:
            calibration = _UNTAUGHT
            estimate = Estimate(description.log_tokens, description.log_deviation)
        else:
            calibration, estimate = head.calibration, head.estimate(description)
        mean = calibration.mean(estimate.mean, estimate.deviation)
        median, upper = calibration.quantiles(
            estimate.mean, estimate.deviation, kind=Kind.of(description)
        )
        return _within(query.max_tokens, mean=mean, median=median, upper=upper)

    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        """One prediction per query, in their order."""
        return [self.predict(query) for query in queries]

    def observe(self, query: PredictionQuery, *, output_tokens: int, censored: bool) -> None:
        """Learn from a finished request; `censored`: the answer was cut at `output_tokens`."""
        description = self._describe(query)
        log_tokens = math.log(max(output_tokens, 1))
        self.head(head_key(query.model)).learn(
            description, log_tokens=log_tokens, censored=censored
        )
        self.recount()

    def _describe(self, query: PredictionQuery) -> Description:
        """The prompt as the base sees it, and what else the request says."""
        return replace(self.base.describe(query), cues=request_cues(query))

    def head(self, key: str) -> Head:
        """The head of a model; a new one starts like the most experienced there is."""
        found = self.heads.get(key)
        if found is None:
            found = Head()
            if self.heads:
                found.start_like(max(self.heads.values(), key=lambda head: head.samples))
            self.heads[key] = found
        self.heads.move_to_end(key)
        if len(self.heads) > MAX_HEADS:
            self.heads.popitem(last=False)
        return found

    def own_statistics(self) -> bytes:
        """What its own requests taught it, for other replicas: numbers only, bounded in size."""
        lessons = {key: head.lesson() for key, head in self.heads.items()}
        return sharing.encode(self.base, lessons)

    def merge(self, peer_id: str, payload: bytes) -> None:
        """Another replica's `own_statistics`, in place of what it had sent before.

        Raises PayloadError, with nothing changed, when it does not come from this version and base.
        """
        lessons = sharing.decode(self.base, payload)
        self._peers[peer_id] = None
        self._peers.move_to_end(peer_id)
        if len(self._peers) > MAX_PEERS:
            self.forget(next(iter(self._peers)))
        for key, lesson in lessons.items():
            self.head(key).absorb(peer_id, lesson)

    def forget(self, peer_id: str) -> None:
        """Unlearn what a replica had sent."""
        self._peers.pop(peer_id, None)
        for head in self.heads.values():
            head.absorb(peer_id, None)
        self.recount()

    def recount(self) -> None:
        """Bring `samples` up to date after its heads were changed."""
        self._samples = sum(head.experience for head in self.heads.values())


def head_key(model: str) -> str:
    """The name of a model's head: 16 hex digits that do not tell the model's name."""
    return hashlib.blake2b(model.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _within(max_tokens: int | None, *, mean: float, median: float, upper: float) -> Prediction:
    limit = math.inf if max_tokens is None else float(max(max_tokens, 1))

    def within(tokens: float) -> float:
        return max(1.0, min(tokens, limit))

    return Prediction(
        output_tokens=within(mean),
        p90_tokens=within(max(mean, upper)),
        source="model",
        p50_tokens=within(median),
    )
