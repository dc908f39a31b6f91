"""PARS: order by a score that was trained on pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.published import Published
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Pars(Published):
    """Key = predicted output tokens, prompt length aside (PARS, arXiv 2510.03243).

    Its idea is the predictor: a BERT scorer under a margin ranking loss on pairs of answers that
    differ by at least 20 %. The lab makes nearer predictions equal, in arrival order; deployed,
    the key takes the lengths of whatever predictor is loaded.
    """

    name: str = field(init=False, default="PARS")

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:  # noqa: ARG002 - protocol
        return (request.predicted_tokens,)
