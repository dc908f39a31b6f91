"""OpenAI request bodies to inference calls: an allow-list, so nothing unknown reaches the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmservice_api.sidecar_config import ModelConfig

from llmservice_sidecar.core.request import RequestId
from llmservice_sidecar.runtime.call import InferenceCall


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What a door knows of a call beside its body."""

    request_id: RequestId
    timeout_s: float | None = None
    tenant: str | None = None


class OpenAIRequests:
    """Validates bodies for one served model and its adapters."""

    def __init__(self, *, model: ModelConfig, allowed_extra_args: Sequence[str]) -> None:
        raise NotImplementedError

    def parse(self, path: str, body: object, context: CallContext) -> InferenceCall:
        """The call that `body` (a decoded JSON value) asks for at an OpenAI `path`.

        Raises InvalidRequest naming the field (code `unsupported_parameter`, `invalid_type`,
        `invalid_value`, `missing_required_parameter` or `model_not_found`).
        """
        raise NotImplementedError
