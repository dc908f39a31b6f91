"""Baselines on a made-up table, and what embeddings need."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from fakes.lengths import answers, write_lengths
from llmservice_lab.predictors.baselines import Baseline, Mean, Spread, fit_baseline
from llmservice_lab.predictors.dataset import Sample, read_lengths
from llmservice_lab.predictors.embedding_trees import fit_trees
from llmservice_lab.predictors.figures import tau_b
from llmservice_lab.predictors.targets import prompt_targets
from llmservice_lab.pretrain import query_for


class FirstWord:
    """Embeds a text by a hash of its first word."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        seeds = [hashlib.sha256(text.split()[0].encode()).digest()[0] for text in texts]
        return np.array([[seed, -seed] for seed in seeds], dtype=np.float32)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Sample]]:
    path = write_lengths(tmp_path_factory.mktemp("baselines") / "l.jsonl", answers(300))
    return {split: read_lengths(path, splits=(split,)) for split in ("train", "val", "test")}


def ranks(baseline: Baseline, samples: Sequence[Sample]) -> float | None:
    said = baseline.predict_batch([query_for(each.prompt, model="") for each in samples])
    means = [0.0 if each is None else each.output_tokens for each in said]
    actual = [float(each.output_tokens) for each in samples]
    return tau_b(np.array(means), np.array(actual))


def test_words_know_stories_from_questions(parts: dict[str, list[Sample]]) -> None:
    words = fit_baseline("tfidf-ridge", parts["train"], parts["val"])
    assert (ranks(words, parts["test"]) or 0) > 0.5
    without_val = fit_baseline("tfidf-ridge", parts["train"], [])
    assert (ranks(without_val, parts["test"]) or 0) > 0.5


def test_prompt_length_never_falls(parts: dict[str, list[Sample]]) -> None:
    shortest_first = fit_baseline("prompt-length", parts["train"], parts["val"])
    said = shortest_first.predict_batch([query_for("a" * n, model="") for n in (4, 40, 400)])
    means = [each.output_tokens for each in said if each is not None]
    assert means == sorted(means)
    assert len(set(means)) == 3


@pytest.mark.parametrize("name", ["constant", "prompt-length"])
def test_quantiles_are_those_of_val(parts: dict[str, list[Sample]], name: str) -> None:
    baseline = fit_baseline(name, parts["train"], parts["val"])
    said = baseline.predict_batch([query_for(each.prompt, model="") for each in parts["val"]])
    pairs = zip(said, parts["val"], strict=True)
    within = [each is not None and one.output_tokens <= each.p90_tokens for each, one in pairs]
    assert np.mean(within) == pytest.approx(0.9, abs=0.05)


def test_trees_on_embeddings_rank_and_stop_by_val(parts: dict[str, list[Sample]]) -> None:
    train, val = prompt_targets(parts["train"]), prompt_targets(parts["val"])
    for known in (val, []):
        trees = fit_trees(train, known, encoder=FirstWord())
        assert (ranks(Baseline("trees", trees, Spread()), parts["test"]) or 0) > 0.4


def test_a_served_baseline_says_the_same(parts: dict[str, list[Sample]]) -> None:
    words = fit_baseline("tfidf-ridge", parts["train"], parts["val"])
    assert ranks(words.served(), parts["test"]) == ranks(words, parts["test"])
    both = Baseline("both", Mean(words.score, words.score), words.spread)
    assert ranks(both.served(), parts["test"]) == pytest.approx(ranks(words, parts["test"]))


def test_a_mean_of_scores_is_between_them(parts: dict[str, list[Sample]]) -> None:
    first, second = (
        fit_baseline(name, parts["train"], parts["val"]).score
        for name in ("constant", "prompt-length")
    )
    queries = [query_for(each.prompt, model="") for each in parts["test"]]
    both = Mean(first, second)(queries)
    assert both == pytest.approx((first(queries) + second(queries)) / 2)


def test_a_baseline_can_be_sent_to_another_process(parts: dict[str, list[Sample]]) -> None:
    baseline = fit_baseline("tfidf-ridge", parts["train"], parts["val"])
    again: Baseline = pickle.loads(pickle.dumps(baseline))
    assert ranks(again, parts["test"]) == ranks(baseline, parts["test"])


def test_an_unknown_baseline_is_named() -> None:
    with pytest.raises(ValueError, match="'clever' is not known; known: constant"):
        fit_baseline("clever", [], [])
