"""What the default model learns: how long the answer to a prompt is, whichever model answers."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from llmservice_lab.predictors.dataset import Sample

ROUNDS: Final = 5  # of alternating means; they converge geometrically
SOURCE_POWER: Final = 0.5  # a source of 100 times the prompts weighs 10 times as much
CERTAIN_ANSWERS: Final = 2.0  # a prompt with so many answers weighs half of one with very many

Key: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """A prompt's mean ln(output tokens) over models, each model's own offset taken out.

    `scatter`: variance of its answers' ln(output tokens) around it, offsets included, tokens^2
    in logs. `weight` is relative, about 1.
    """

    source: str
    group: str
    prompt: str
    log_tokens: float
    scatter: float
    weight: float


def prompt_targets(samples: Sequence[Sample]) -> list[Target]:
    """One target per source and prompt, in order of first appearance.

    ln(tokens) = prompt + model within a source, fitted by alternating means: prompts that were
    answered by talkative models only must not look long. A source's own level is the mean over its
    models, so kinds of work keep their difference.
    """
    answers: dict[Key, list[tuple[Key, float]]] = defaultdict(list)
    first: dict[Key, Sample] = {}
    for sample in samples:
        key = (sample.source, sample.prompt)
        first.setdefault(key, sample)
        log_tokens = math.log(max(sample.output_tokens, 1))
        answers[key].append(((sample.source, sample.model), log_tokens))
    offsets = _model_means(answers, dict.fromkeys(answers, 0.0))
    for _ in range(ROUNDS):
        effects = _prompt_effects(answers, offsets)
        offsets = _model_means(answers, effects)
    effects = _prompt_effects(answers, offsets)
    levels = _source_levels(offsets)
    prompts = Counter(source for source, _ in answers)
    targets: list[Target] = []
    for key, given in answers.items():
        value = effects[key] + levels[key[0]]
        scatter = sum((log_tokens - value) ** 2 for _, log_tokens in given) / len(given)
        certain = len(given) / (len(given) + CERTAIN_ANSWERS)
        weight = certain * prompts[key[0]] ** -SOURCE_POWER
        targets.append(Target(key[0], first[key].group, key[1], value, scatter, weight))
    return targets


def _model_means(
    answers: Mapping[Key, Sequence[tuple[Key, float]]], effects: Mapping[Key, float]
) -> dict[Key, float]:
    sums: dict[Key, float] = defaultdict(float)
    counts = Counter[Key]()
    for key, given in answers.items():
        for model, log_tokens in given:
            sums[model] += log_tokens - effects[key]
            counts[model] += 1
    return {model: total / counts[model] for model, total in sums.items()}


def _prompt_effects(
    answers: Mapping[Key, Sequence[tuple[Key, float]]], offsets: Mapping[Key, float]
) -> dict[Key, float]:
    return {
        key: sum(log_tokens - offsets[model] for model, log_tokens in given) / len(given)
        for key, given in answers.items()
    }


def _source_levels(offsets: Mapping[Key, float]) -> dict[str, float]:
    by_source: dict[str, list[float]] = defaultdict(list)
    for (source, _), offset in offsets.items():
        by_source[source].append(offset)
    return {source: sum(values) / len(values) for source, values in by_source.items()}
