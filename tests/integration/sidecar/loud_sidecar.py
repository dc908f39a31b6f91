"""The sidecar at its most talkative: every log level, a predictor and a door that break.

Run as a program. What breaks raises errors whose text is the prompt, as third parties' errors are.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from llmservice_sidecar import __main__ as program
from llmservice_sidecar.adapters.openai_request import CallContext, OpenAIRequests
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.call import InferenceCall
from llmservice_sidecar.runtime.ports import PredictionQuery

FAULT = "make the door fail"  # as the field `user`
_turns = itertools.count()
_predict_batch, _parse = OnlinePredictor.predict_batch, OpenAIRequests.parse


def predict_batch(
    self: OnlinePredictor, queries: Sequence[PredictionQuery]
) -> list[Prediction | None]:
    """Breaks every third time."""
    if next(_turns) % 3 == 0:
        raise ValueError(f"cannot read {queries[0].text!r}")
    return _predict_batch(self, queries)


def parse(self: OpenAIRequests, path: str, body: Any, context: CallContext) -> InferenceCall:
    """Breaks on request."""
    asked = cast("dict[str, Any]", body if isinstance(body, dict) else {})
    if asked.get("user") == FAULT:
        raise RuntimeError(f"cannot parse {asked}") from KeyError(str(asked))
    return _parse(self, path, cast("object", body), context)


if __name__ == "__main__":
    OnlinePredictor.predict_batch = predict_batch
    OpenAIRequests.parse = parse
    program.configure_logging = partial(program.configure_logging, logging.DEBUG)
    sys.exit(program.main())
