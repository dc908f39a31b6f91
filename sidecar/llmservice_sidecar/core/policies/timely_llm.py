"""TimelyLLM: the segment with the most utility for its time goes first; who has slack can wait."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from llmservice_sidecar.core.policies.parameters import number, whole
from llmservice_sidecar.core.policies.published import Published, positive_size
from llmservice_sidecar.core.policy import QueueView
from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelyLlm(Published):
    """Key = (has slack, -utility / remaining time) (TimelyLLM, arXiv 2412.18695).

    Utility is 1 for an answer in time and falls to 0 over 10 s of delay; slack = deadline - now -
    remaining time, and 5 s of it let a request wait behind those that have less. A request without
    a deadline has utility 1 and no slack: without deadlines this is shortest remaining first. Their
    segments end where a robot's command is complete; here they are 64 tokens. The figures in
    seconds are ours. Keys are remade every 100 ms.
    """

    name: str = field(init=False, default="TimelyLLM")
    keys_last_s: float = field(init=False, default=0.1)
    segment_tokens: int = whole(64, at_least=1)
    decline_s: float = number(10.0, at_least=0.001, at_most=86400)
    slack_s: float = number(5.0, at_least=0, at_most=86400)

    def key(self, request: Request, view: QueueView) -> tuple[float, ...]:
        remaining = positive_size(request, view)
        deadline = request.deadline_at
        if deadline is None or view.costs is None or not math.isfinite(deadline):
            return (0.0, -1 / remaining)
        slack = deadline - view.now - remaining / request.slots
        utility = min(max(1 + slack / self.decline_s, 0.0), 1.0)
        return (float(slack > self.slack_s), -utility / remaining)

    def slice_tokens(self, request: Request, view: QueueView) -> int | None:  # noqa: ARG002 - protocol
        return self.segment_tokens
