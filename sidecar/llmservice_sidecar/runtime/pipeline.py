"""The way of a request: offer, predict beside the queue, call the engine, account for its end."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from llmservice_api.sidecar_config import LiveConfig
from llmservice_api.status_report import PredictorReport, QueueReport
from opentelemetry.context import Context

from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.call import InferenceCall, OnQueued, Served
from llmservice_sidecar.runtime.ports import PredictionQuery

__all__ = ["InferenceCall", "OnQueued", "Pipeline", "Served"]


class Pipeline:
    """Serves calls of all doors through one gate."""

    def serve(
        self,
        call: InferenceCall,
        *,
        parent: Context | None = None,
        door: str,
        on_queued: OnQueued | None = None,
    ) -> AbstractAsyncContextManager[Served]:
        """Wait for a turn and call the engine; the slot is held until the block ends.

        `door` names the SERVER span, `parent` is the caller's trace context. `on_queued` is awaited
        once if the call has to wait. Raises the errors of `core.errors`.
        """
        raise NotImplementedError

    async def predict(self, query: PredictionQuery) -> Prediction:
        """What the predictor says of a query, with its fallbacks. Queues nothing."""
        raise NotImplementedError

    def snapshot(self) -> QueueReport:
        """The gate now."""
        raise NotImplementedError

    def predictor_report(self) -> PredictorReport:
        """The predictor's state and how well it has ranked."""
        raise NotImplementedError

    def apply_live(self, live: LiveConfig) -> None:
        """Take over a new live configuration; queued requests are ordered anew."""
        raise NotImplementedError
