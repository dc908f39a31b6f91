"""ASRHRRN: response ratio with the size read off the input, no predictor."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.published import Published, waited_s
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class AsrHrrn(Published):
    """Key = -(wait / length of the input) (Duration-aware scheduling for ASR, arXiv 2603.11273).

    In speech recognition the duration of the audio tells the work; the length of the prompt stands
    for it here, so this is only as good as prompts tell answers. Their SJF by duration is
    `PromptCost`. Keys are remade every 100 ms.
    """

    name: str = field(init=False, default="ASRHRRN")
    keys_last_s: float = field(init=False, default=0.1)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        return (-waited_s(request, view) / max(request.prompt_tokens, 1),)
