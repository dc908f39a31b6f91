"""Predictions beside the queue: the prior at once, the predictor's answer when it comes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from llmservice_api.status_report import ModelPredictionReport

from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.core.trust import Trust
from llmservice_sidecar.runtime import telemetry_names as names
from llmservice_sidecar.runtime.account import Account
from llmservice_sidecar.runtime.history import History
from llmservice_sidecar.runtime.ports import PredictionQuery, Predictor

_log = logging.getLogger(__name__)

READY: Final = "Ready"
DISABLED: Final = "Disabled"


class Predicting:
    """Asks the predictor without ever keeping a request waiting. None: no predictor is loaded."""

    def __init__(self, predictor: Predictor | None, *, kind: str) -> None:
        self._predictor = predictor
        self.kind = kind
        self.history = History()

    @property
    def state(self) -> str:
        """`Ready` or `Disabled`, as reported."""
        return DISABLED if self._predictor is None else READY

    async def predict(self, query: PredictionQuery) -> Prediction:
        """What the predictor says; the prior if none is loaded."""
        if self._predictor is None:
            return self.history.prior(query)
        return await self._predictor.predict(query)

    def start(
        self, account: Account, *, then: Callable[[Prediction], None]
    ) -> asyncio.Task[None] | None:
        """Predict in the background and hand the answer to `then`. None: nothing to ask."""
        if self._predictor is None:
            return None
        task = asyncio.create_task(self._ask(account, self._predictor, then))
        task.add_done_callback(_report_failure)
        return task

    def observe(self, account: Account, *, output_tokens: int, events: int, complete: bool) -> None:
        """An answer ended: learn from it. Not `complete`: cut by a cancel or a failure."""
        call = account.call
        if output_tokens <= 0:
            return
        each = max(1, round(output_tokens / call.slots))
        if complete:
            self.history.ended(output_tokens=output_tokens, answers=call.slots, events=events)
        if self._predictor is not None:
            limit = call.query.max_tokens
            cut = not complete or (limit is not None and each >= limit)
            self._predictor.observe(call.query, output_tokens=each, censored=cut)

    async def _ask(
        self, account: Account, predictor: Predictor, then: Callable[[Prediction], None]
    ) -> None:
        clock = account.telemetry.clock
        started_at = clock()
        span = account.child(names.SPAN_PREDICT)
        try:
            async with contextlib.aclosing(predictor.predictions(account.call.query)) as said:
                prediction = await anext(said)
                account.running_mean = predictor.running_mean(account.call.query)
                account.predicted(prediction, duration_s=clock() - started_at)
                span.end()  # what was predicted is on the SERVER span
                then(prediction)
                async for late in said:
                    account.prediction = late
                    then(late)
        finally:
            if span.is_recording():  # cancelled before there was a word
                span.end()


def model_reports(trust: Trust) -> dict[str, ModelPredictionReport]:
    """How well each model's answers have been foreseen, by its name."""
    return {
        name: ModelPredictionReport(
            samples=model.guard.samples,
            trusted=trust.in_model(name),
            tau=model.guard.tau,
            tau_lower=model.guard.tau_lower,
            tau_upper=model.guard.tau_upper,
            coverage_p50=model.p50.share,
            coverage_p90=model.p90.share,
        )
        for name, model in trust.models()
    }


def _report_failure(task: asyncio.Task[None]) -> None:
    # A predictor never fails a request: the prior stays, and the log says what is broken.
    if not task.cancelled() and (error := task.exception()) is not None:
        # Its type only: the text of a third party's error may quote the prompt.
        kind = type(error).__name__
        _log.error("the predictor failed with %s; the request keeps its prior", kind)
