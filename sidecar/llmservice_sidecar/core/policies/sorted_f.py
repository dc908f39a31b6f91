"""SortedF: batches with little decode work for their number, under a budget of KV memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class SortedF(Published):
    """Key = o (s + o): the F of a full batch of requests like this (arXiv 2508.06133).

    Of a known backlog they repeatedly pick the batch with the least F = sum of o / size^2
    that fits the KV memory M (s prompt, o output tokens). Here requests come and leave one by one,
    so each stands for a batch of its like: M / (s + o) of them fit, whence F = o (s + o) / M. The
    memory bound itself is the rule `core.admission.sorted_f`.
    """

    name: str = field(init=False, default="SortedF")

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        output = request.predicted_tokens / request.slots
        held = request.prompt_tokens + request.generated_tokens
        return (request.slots * output * (held + output),)
