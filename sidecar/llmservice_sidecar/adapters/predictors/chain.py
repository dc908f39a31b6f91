"""The predictor that requests meet: a model with a deadline, and what to say without it.

The model runs in one thread of its own, a batch at a time; outcomes are learned in the same thread
between predictions, so the model needs no lock. Late, failing or absurd: the request gets the
fallback at once, and the trouble is counted, logged and reported instead of raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import traceback
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

from llmservice_sidecar.adapters.predictors.batching import BatchSize
from llmservice_sidecar.adapters.predictors.health import Health
from llmservice_sidecar.adapters.predictors.history import History
from llmservice_sidecar.adapters.predictors.sanity import sane
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery

MAX_WAITING: Final = 1024  # predictions behind a stuck model; more get the fallback at once
MAX_UNLEARNED: Final = 2048  # outcomes not learned yet; the oldest are dropped
OUTCOMES_PER_TURN: Final = 4  # learned before predictions get their turn again
LOG_EVERY: Final = 1000  # failures: one line each would drown the log

# Why a request got the running mean, or a guess before there is one.
LATE: Final = "late"  # after the deadline; the model's word may still come
NO_ANSWER: Final = "no_answer"  # the model failed, or had no opinion
OVERLOADED: Final = "overloaded"  # MAX_WAITING others were waiting for the model
NO_MODEL: Final = "no_model"
FALLBACK_REASONS: Final[tuple[str, ...]] = (LATE, NO_ANSWER, OVERLOADED, NO_MODEL)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_Asked = tuple[PredictionQuery, "Future[Prediction | None]"]


class LengthModel(Protocol):
    """A length model as the chain runs it: blocking, in one thread. May raise.

    `predict_batch` answers in the order of the queries, one each; None: no opinion on that one.
    """

    @property
    def samples(self) -> int: ...

    def predict_batch(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]: ...

    def observe(self, query: PredictionQuery, *, output_tokens: int, censored: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """What the chain was made from, for the status report."""

    kind: str
    state: str  # Ready | Failed | Disabled
    message: str = ""
    trained: bool = False  # the model comes from a loaded artefact


@dataclass(frozen=True, slots=True)
class _Outcome:
    query: PredictionQuery
    output_tokens: int
    censored: bool


class ChainedPredictor:
    """A `Predictor`: model, then history, then a guess from `max_tokens`; never later than its
    deadline, never raising, always finite and within 1 and `max_tokens`.
    """

    def __init__(
        self,
        model: LengthModel | None,
        *,
        origin: Origin,
        timeout_s: float,
        learns: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model = model
        self._origin = origin
        self._timeout_s = timeout_s
        self._learns = learns and model is not None
        self._history = History()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predictor")
        self._clock = clock
        self._batch_size = BatchSize(within_s=timeout_s / 2)
        self._waiting: deque[_Asked] = deque()
        self._unlearned: deque[_Outcome] = deque(maxlen=MAX_UNLEARNED)
        self._turn_planned = False
        self._closed = False
        self._failures = 0
        self._fallbacks: Counter[str] = Counter(dict.fromkeys(FALLBACK_REASONS, 0))
        self._health = Health(timeout_s=timeout_s)

    @property
    def origin(self) -> Origin:
        """Kind, state and message for the status report."""
        return self._origin

    @property
    def state(self) -> str:
        """Ready, Disabled, or Failed: not what was asked for serves, or it mostly fails."""
        return "Failed" if self._health.broken else self._origin.state

    @property
    def message(self) -> str:
        """Why it is not Ready, or what is remarkable although it is; else empty."""
        said = (self._origin.message, self._health.broken or self._health.slow)
        return "; ".join(part for part in said if part)

    @property
    def starts_trusted(self) -> bool:
        """Whether the guard may let it order from the first request: a loaded artefact."""
        return self._origin.trained

    @property
    def model(self) -> LengthModel | None:
        """What it asks; to be touched in its thread alone (`run_in_thread`)."""
        return self._model

    @property
    def learns(self) -> bool:
        """Whether finished requests teach the model."""
        return self._learns

    @property
    def samples(self) -> int:
        """Outcomes that the model has learned from."""
        return 0 if self._model is None else self._model.samples

    @property
    def failures(self) -> int:
        """Predictions and lessons in which the model raised or answered nonsense."""
        return self._failures

    @property
    def timeouts(self) -> int:
        """Predictions that came after the deadline."""
        return self._fallbacks[LATE]

    @property
    def fallbacks(self) -> Mapping[str, int]:
        """Requests that got the running mean or a guess, by FALLBACK_REASONS."""
        return self._fallbacks

    async def predict(self, query: PredictionQuery) -> Prediction:
        """Output tokens of a request, within the deadline."""
        async with contextlib.aclosing(self.predictions(query)) as said:
            return await anext(said)

    async def predictions(self, query: PredictionQuery) -> AsyncGenerator[Prediction]:
        """Output tokens within the deadline; then, if only the model was late, its word as well.

        In a burst all but the first are late, and just then the order of the queue matters.
        """
        if self._model is None or self._closed:
            yield self._fall_back(query, NO_MODEL)
            return
        if len(self._waiting) >= MAX_WAITING:
            yield self._fall_back(query, OVERLOADED)
            return
        answer: Future[Prediction | None] = Future()
        self._waiting.append((query, answer))
        self._plan_turn()
        coming = asyncio.wrap_future(answer)
        try:
            in_time, _ = await asyncio.wait({coming}, timeout=self._timeout_s)
            self._health.asked(late=not in_time)
            if not in_time:
                yield self._fall_back(query, LATE)
            said = await coming
            if said is not None or in_time:
                yield said or self._fall_back(query, NO_ANSWER)
        finally:
            answer.cancel()  # nobody waits any more; no effect on one that is here

    def running_mean(self, query: PredictionQuery) -> Prediction:
        """The fallback's word, at once."""
        return self._history.predict(query)

    def observe(self, query: PredictionQuery, *, output_tokens: int, censored: bool) -> None:
        """A finished request: the fallback learns at once, the model soon, in its own thread."""
        self._history.observe(query, output_tokens=output_tokens, censored=censored)
        if self._learns and not self._closed:
            self._unlearned.append(_Outcome(query, output_tokens, censored))
            self._plan_turn()

    async def run_in_thread(self, action: Callable[[], _T]) -> _T:
        """Run something that must not meet the model at work, such as saving its state."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, action)

    async def settled(self) -> None:
        """Wait until all outcomes so far are learned."""
        while True:
            self._plan_turn()
            await self.run_in_thread(lambda: None)  # behind every turn planned so far
            if not (self._waiting or self._unlearned or self._turn_planned):
                return

    async def aclose(self) -> None:
        """Stop the thread; predictions from now on are fallbacks. Safe to call twice."""
        self._closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _fall_back(self, query: PredictionQuery, reason: str) -> Prediction:
        self._fallbacks[reason] += 1
        return self._history.predict(query)

    def _plan_turn(self) -> None:
        if not self._turn_planned and not self._closed:
            self._turn_planned = True
            self._thread.submit(self._turn)

    def _turn(self) -> None:
        """In the thread: all waiting predictions, then a few outcomes, then the next turn."""
        self._turn_planned = False  # before looking: whoever comes after the look plans anew
        while batch := self._next_batch():
            started_at = self._clock()
            said = self._ask([query for query, _ in batch])
            self._batch_size.took(self._clock() - started_at, queries=len(batch))
            for (_, answer), prediction in zip(batch, said, strict=True):
                answer.set_result(prediction)
        for _ in range(min(OUTCOMES_PER_TURN, len(self._unlearned))):
            outcome = self._unlearned.popleft()
            self._guarded(lambda outcome=outcome: self._teach(outcome), told=False)
        if self._unlearned:
            self._plan_turn()

    def _next_batch(self) -> list[_Asked]:
        """Those who have waited longest; whoever waits no more is left out."""
        batch: list[_Asked] = []
        while self._waiting and len(batch) < self._batch_size.queries:
            asked = self._waiting.popleft()
            if asked[1].set_running_or_notify_cancel():
                batch.append(asked)
        return batch

    def _ask(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        if len(queries) == 1:
            return [self._guarded(partial(self._answer_one, queries[0]))]
        try:
            return [
                None if said is None else self._guarded(partial(sane, said, query))
                for query, said in zip(queries, self._answers(queries), strict=True)
            ]
        except Exception as error:
            # One of them may have broken the batch: the others must not pay for it.
            _log.debug("a batch of %d failed with %s", len(queries), type(error).__name__)
            return [answer for query in queries for answer in self._ask([query])]

    def _answer_one(self, query: PredictionQuery) -> Prediction | None:
        (said,) = self._answers([query])
        return None if said is None else sane(said, query)

    def _answers(self, queries: Sequence[PredictionQuery]) -> list[Prediction | None]:
        assert self._model is not None
        said = self._model.predict_batch(queries)
        if len(said) != len(queries):
            raise ValueError(f"{len(said)} predictions for {len(queries)} queries; one for each")
        return said

    def _teach(self, outcome: _Outcome) -> None:
        assert self._model is not None
        self._model.observe(
            outcome.query, output_tokens=outcome.output_tokens, censored=outcome.censored
        )

    def _guarded(self, step: Callable[[], _T], *, told: bool = True) -> _T | None:
        """The one place where a model's error ends: a prediction must never fail a request.

        `told`: the step is a prediction, which says something about the model's health.
        """
        failure: str | None = None
        try:
            return step()
        except Exception as error:
            failure = type(error).__name__
            if self._failures % LOG_EVERY == 0:
                # Not its text: a third party's may quote the prompt.
                place = traceback.format_tb(error.__traceback__)[-1]
                kind = self._origin.kind
                _log.error("the %s predictor failed with %s at\n%s", kind, failure, place)
            self._failures += 1
            return None
        finally:
            if told:
                self._health.answered(failure)
