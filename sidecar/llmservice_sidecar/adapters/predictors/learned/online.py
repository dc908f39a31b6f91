"""The default predictor: the shipped model, and a head per served model that learns from requests.

Keeps no text: heads are known by the hash of their model's name.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from llmservice_sidecar.adapters.predictors.learned import sharing
from llmservice_sidecar.adapters.predictors.learned.calibration import Calibration, Kind
from llmservice_sidecar.adapters.predictors.learned.estimate import LONGEST_LOG, Estimate
from llmservice_sidecar.adapters.predictors.learned.head import Head
from llmservice_sidecar.adapters.predictors.learned.packing import Packed
from llmservice_sidecar.adapters.predictors.learned.request_cues import request_cues
from llmservice_sidecar.adapters.predictors.learned.sharing import (
    IDENTITY_BYTES,
    MAX_HEADS,
    Describes,
    Encoded,
    PayloadError,
)
from llmservice_sidecar.adapters.predictors.learned.turns import finish
from llmservice_sidecar.adapters.predictors.shipped.base import Description, default_base
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

MAX_PEERS: Final = 16  # replicas whose evidence counts; the longest silent is forgotten

_UNTAUGHT: Final = Calibration()


class OnlinePredictor:
    """Lengths from the shipped model, corrected by what requests taught. Not thread-safe.

    Deterministic: the same outcomes in the same order give the same predictions in any process.
    """

    def __init__(self, base: Describes | None = None) -> None:
        """`base`: what describes prompts; None: the one that comes with the program."""
        self.base: Describes = default_base() if base is None else base
        self.replica = secrets.token_hex(IDENTITY_BYTES)  # by which others know it again
        self.elders: list[str] = []  # replicas of which it has inherited, the latest first
        self.origin = b""  # of what it began with: tells one configured start from another
        self.heads: OrderedDict[str, Head] = OrderedDict()
        self._peers: OrderedDict[str, None] = OrderedDict()
        self._samples = 0
        self._restarts = 0

    @property
    def samples(self) -> int:
        """Outcomes behind what it knows: its own and inherited ones, not those of live replicas.

        A plain number, so that it may be read while another thread is learning.
        """
        return self._samples

    @property
    def restarts(self) -> int:
        """Changes of the world that its heads noticed."""
        return self._restarts

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
        """The head of a model, for an outcome; a new one starts like the most experienced there is.

        Where there are too many, one that only peers know goes first, then the longest unused.
        """
        found = self.heads.get(key) or self._new(key)
        self.heads.move_to_end(key)
        if len(self.heads) > MAX_HEADS:
            others = (name for name in self.heads if name != key)
            unused = next((name for name in others if not self.heads[name].samples), None)
            del self.heads[unused or next(iter(self.heads))]
        return found

    def own_statistics(self) -> bytes:
        """What its own requests taught it, for other replicas: numbers only, bounded in size."""
        return finish(self.telling()).payload

    def telling(self) -> Generator[None, None, Encoded]:
        """`own_statistics`, a head a step."""
        lessons: dict[str, Packed] = {}
        for key, head in list(self.heads.items()):
            if head.since_restart:
                lessons[key] = head.packed()
                yield
        return (yield from sharing.encoding(self.base, self.replica, lessons))

    def merge(self, payload: bytes) -> str:
        """Another replica's `own_statistics`, in place of what it had sent before: its identity.

        Its own come back change nothing. Raises PayloadError, with nothing changed, when it does
        not come from this version and base.
        """
        told = finish(sharing.decoding(self.base, payload))
        finish(self.merging({told.replica: told.lessons}))
        return told.replica

    def merging(self, told: Mapping[str, Mapping[str, Packed] | None]) -> Generator[None]:
        """What replicas told, by identity, a lesson of one head a step; None: forget that one.

        Lessons are decoded, so checked: errors of arithmetic are left. These are raised as
        PayloadError at the end, the heads that they concern unchanged.
        """
        failed: list[str] = []
        for key, lessons in self._by_head(told).items():
            head = self._for_peers(key)
            try:
                if head is not None:
                    yield from head.absorbing(lessons)
            except ValueError as error:
                failed.append(f"{key}: {error}")
            if head is not None and not (head.samples or head.believed or len(head.told)):
                self.heads.pop(key, None)
        self.recount()
        if failed:
            raise PayloadError(failed[0])

    def forget(self, replica: str) -> None:
        """Unlearn what a replica had sent."""
        finish(self.merging({replica: None}))

    def recount(self) -> None:
        """Bring `samples` and `restarts` up to date after its heads were changed."""
        self._samples = sum(head.experience for head in self.heads.values())
        self._restarts = sum(head.epoch for head in self.heads.values())

    def _by_head(
        self, told: Mapping[str, Mapping[str, Packed] | None]
    ) -> dict[str, dict[str, Packed | None]]:
        found: dict[str, dict[str, Packed | None]] = {}
        for replica, lessons in self._bounded(told).items():
            if lessons is None:
                for key, head in self.heads.items():
                    if replica in head.told:
                        found.setdefault(key, {})[replica] = None
            else:
                for key, packed in lessons.items():
                    found.setdefault(key, {})[replica] = packed
        return found

    def _bounded(
        self, told: Mapping[str, Mapping[str, Packed] | None]
    ) -> dict[str, Mapping[str, Packed] | None]:
        """`told` by others, and the longest silent of too many replicas forgotten."""
        found = {replica: told for replica, told in told.items() if replica != self.replica}
        for replica, lessons in found.items():
            self._peers.pop(replica, None)
            if lessons is not None:
                self._peers[replica] = None
        while len(self._peers) > MAX_PEERS:
            silent, _ = self._peers.popitem(last=False)
            found[silent] = None
        return found

    def _for_peers(self, key: str) -> Head | None:
        """The head of a model that peers know; None: there is no room for models of theirs."""
        found = self.heads.get(key)
        if found is None and len(self.heads) < MAX_HEADS:
            found = self._new(key)
            self.heads.move_to_end(key, last=False)
        return found

    def _new(self, key: str) -> Head:
        head = Head()
        if self.heads:
            head.start_like(max(self.heads.values(), key=lambda head: head.samples))
        self.heads[key] = head
        return head


def head_key(model: str) -> str:
    """The name of a model's head: 16 hex digits that do not tell the model's name."""
    return hashlib.blake2b(model.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _within(max_tokens: int | None, *, mean: float, median: float, upper: float) -> Prediction:
    # Learned from wild lengths, a quantile may lie beyond anything that is ever learned from.
    limit = min(math.exp(LONGEST_LOG), math.inf if max_tokens is None else max(max_tokens, 1))

    def within(tokens: float) -> float:
        return max(1.0, min(tokens, limit))

    return Prediction(
        output_tokens=within(mean),
        p90_tokens=within(max(mean, upper)),
        source="model",
        p50_tokens=within(median),
    )
