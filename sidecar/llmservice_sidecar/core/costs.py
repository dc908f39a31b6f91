"""What a request costs in seconds of a slot, at rates that are observed, never configured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llmservice_sidecar.core.request import Request


@dataclass(frozen=True, slots=True)
class ServiceCosts:
    """Seconds of one slot for a predicted output token, and for a prompt token to be computed.

    `step_s` are the seconds of one real output token: what an engine step takes.
    """

    s_per_token: float
    s_per_prefill_token: float
    step_s: float

    def cost_s(self, request: Request) -> float:
        """Predicted slot-seconds of the whole request: uncached prefill and decode."""
        return (
            self.s_per_token * request.predicted_tokens
            + self.s_per_prefill_token * request.prefill_tokens
        )


# A prefill token delays every running sequence: with published 7B/H100 costs (19.5 us a prefill
# token, step 7.05 ms + 25.4 us a sequence) that is 0.02 of a decode token's slot time at 8 slots,
# 0.08 at 32, 0.24 at 128; a tiny CPU model 0.05 at 8.
PREFILL_WEIGHT: Final = 0.05

# Before anything was observed sizes still compare; their unit is a decode token, not a second.
PRIOR_COSTS: Final = ServiceCosts(s_per_token=1.0, s_per_prefill_token=PREFILL_WEIGHT, step_s=1.0)
