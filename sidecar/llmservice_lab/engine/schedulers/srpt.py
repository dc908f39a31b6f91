"""Shortest remaining processing time first, preemptive at every iteration."""

# pyright: basic, reportMissingImports=false
# vllm exists in the engine's environment only.

from __future__ import annotations

from vllm.v1.request import Request

from llmservice_lab.engine.schedulers.hints import predicted_tokens
from llmservice_lab.engine.schedulers.preemptive import PreemptiveScheduler


class SrptScheduler(PreemptiveScheduler):
    """Rank = predicted output tokens less those that came out (Schrage, 1968).

    With the true lengths as predictions this is the oracle. What a preemption costs is recomputed
    by the engine: everything with `--no-enable-prefix-caching`, little with it.
    """

    def rank(self, request: Request) -> float:
        """Tokens to come; 0 for an answer that has outlived its prediction."""
        return max(predicted_tokens(request) - request.num_output_tokens, 0.0)
