"""Streams of requests to one service, drawn from a table of answer lengths."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Final

from llmservice_lab.predictors.dataset import Sample

# What a source is for a service; a source that is not named here is a kind of its own.
KINDS: Final = {
    "alpaca_eval": "chat",
    "arena_hard_v0.1": "chat",
    "flask": "chat",
    "oasst_1k_multisample": "chat",
    "mmlu_pro_cot": "exam",
    "lawbench_zh": "legal",
    "lrm_token_economy": "reasoning",
    "hh_harmless": "adversarial",
}


def kind_of(source: str) -> str:
    """The kind of work that a source's prompts are."""
    return KINDS.get(source, source)


class Services:
    """Services that each have one model per source, the same in as many sources as possible."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._rows: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
        for sample in samples:
            self._rows[sample.source][sample.model].append(sample)
        sources_of: dict[str, int] = defaultdict(int)
        for models in self._rows.values():
            for model in models:
                sources_of[model] += 1
        most = max(sources_of.values(), default=0)
        wide = min(3, most)
        self.models = sorted(model for model, sources in sources_of.items() if sources >= wide)

    def stream(
        self,
        seed: int,
        *,
        length: int,
        kinds: Collection[str] | None = None,
        model: str | None = None,
    ) -> list[Sample]:
        """At most `length` shuffled requests, kinds of work in equal parts as far as they reach.

        `model`: the main model; None: drawn. Sources that lack it get one drawn from theirs.
        """
        rng = random.Random(seed)  # noqa: S311 - shuffles, no secrets
        main = rng.choice(self.models) if model is None else model
        by_kind: dict[str, list[Sample]] = defaultdict(list)
        for source, models in sorted(self._rows.items()):
            other = rng.choice(sorted(models))
            if kinds is None or kind_of(source) in kinds:
                by_kind[kind_of(source)].extend(models[main if main in models else other])
        for rows in by_kind.values():
            rng.shuffle(rows)
        chosen = _in_equal_parts(list(by_kind.values()), length)
        rng.shuffle(chosen)
        return chosen


def _in_equal_parts(parts: list[list[Sample]], total: int) -> list[Sample]:
    """The same number of each part; what a short one lacks comes from the others."""
    chosen: list[Sample] = []
    left = total
    for position, rows in enumerate(sorted(parts, key=len)):
        share = left // (len(parts) - position)
        chosen.extend(rows[:share])
        left = total - len(chosen)
    return chosen
