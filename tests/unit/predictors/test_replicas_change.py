"""Replicas that share while what they serve changes: for one of them, for all."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
from llmservice_sidecar.adapters.predictors.cache import CachedDescriptions
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.shipped.base import default_base
from llmservice_sidecar.runtime.ports import PredictionQuery

BASE = CachedDescriptions(default_base(), entries=20_000)
LEARNED, AFTER, EVERY = 500, 700, 100  # outcomes before and after the change, between exchanges

Draw = Callable[[int], tuple[PredictionQuery, float]]


def worlds() -> Draw:
    """A prompt and the log length of its answer, in the world 0 or 1."""
    rng = random.Random(5)
    words = ["".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(600)]
    topics = [rng.sample(words, 30) for _ in range(20)]
    means = [[rng.gauss(5.0 + world, 1.0) for _ in topics] for world in range(2)]

    def draw(world: int) -> tuple[PredictionQuery, float]:
        topic = rng.randrange(len(topics))
        text = " ".join(rng.choices(topics[topic], k=12))
        query = PredictionQuery(text=text, prompt_tokens=9, endpoint="chat", model="tiny")
        return query, means[world][topic] + rng.gauss(0.0, 0.4)

    return draw


def serve(predictor: OnlinePredictor, draw: Draw, world: int) -> float:
    """One request; by how much its log length was missed."""
    query, log_tokens = draw(world)
    error = abs(math.log(predictor.predict(query).p50_tokens or 1.0) - log_tokens)
    predictor.observe(query, output_tokens=max(1, round(math.exp(log_tokens))), censored=False)
    return error


def after_a_change(*, busy: int, idle: int, share: bool) -> tuple[float, list[int]]:
    """Mean error of those that stay busy once it is over, and how often each began anew."""
    draw = worlds()
    replicas = [OnlinePredictor(BASE) for _ in range(busy + idle)]
    errors: list[float] = []
    for number in range(LEARNED + AFTER):
        changed = number >= LEARNED
        for replica in replicas[: busy if changed else None]:
            error = serve(replica, draw, int(changed))
            if number >= LEARNED + AFTER // 4:
                errors.append(error)
        if share and number % EVERY == 0:
            payloads = [replica.own_statistics() for replica in replicas]
            for replica in replicas[:busy]:
                for payload in payloads:
                    replica.merge(payload)
    return float(np.mean(errors)), [replica.restarts for replica in replicas[:busy]]


def test_what_an_idle_replica_told_of_the_old_world_does_not_come_back() -> None:
    """It tells the same for hours: that must not end in restart after restart."""
    alone, _ = after_a_change(busy=1, idle=1, share=False)
    shared, restarts = after_a_change(busy=1, idle=1, share=True)
    assert max(restarts) <= 2
    assert shared < 1.1 * alone


def test_replicas_that_meet_the_same_change_learn_the_new_world_together() -> None:
    alone, _ = after_a_change(busy=3, idle=0, share=False)
    shared, restarts = after_a_change(busy=3, idle=0, share=True)
    assert max(restarts) <= 2
    assert shared < alone
