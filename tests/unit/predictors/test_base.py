"""The shipped model: any text has a description, and no broken file is taken for a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llmservice_sidecar.adapters.predictors.errors import ArtefactError
from llmservice_sidecar.adapters.predictors.shipped import artefact, features
from llmservice_sidecar.adapters.predictors.shipped.base import (
    ARTEFACT,
    DENSE,
    DEVIATION_BOUNDS,
    FORMAT,
    LARGEST_DENSE,
    LOG_BOUNDS,
    SEEN,
    BaseModel,
    default_base,
)
from llmservice_sidecar.runtime.ports import PredictionQuery

CARD = {"format": FORMAT, "feature_set": features.FEATURE_SET}


def query(text: str, *, model: str = "m") -> PredictionQuery:
    tokens = len(text) // 4
    return PredictionQuery(text=text, prompt_tokens=tokens, endpoint="chat", model=model)


def shipped() -> Path:
    return Path(artefact.__file__).with_name(ARTEFACT)


def tensors(**changed: Any) -> dict[str, Any]:
    _, found = artefact.read(shipped())
    return {name: value for name, value in (found | changed).items() if value is not None}


@settings(deadline=None)  # the first example loads the model
@given(st.text(st.characters(), max_size=300))
def test_any_text_has_a_bounded_description(text: str) -> None:
    found = default_base().describe(query(text))
    assert found.dense.shape == (DENSE,)
    assert np.abs(found.dense).max() <= LARGEST_DENSE
    assert LOG_BOUNDS[0] <= found.log_tokens <= LOG_BOUNDS[1]
    assert DEVIATION_BOUNDS[0] <= found.log_deviation <= DEVIATION_BOUNDS[1]
    assert len(found.bins) == len(found.values)


@pytest.mark.parametrize(
    "text",
    ["", "\x00", "\ud800", "x" * 1_000_000, "\u4f60\u597d" * 50_000, "{" * 9000, " \n" * 9000],
    ids=["empty", "control", "lone surrogate", "one long word", "chinese", "braces", "blanks"],
)
def test_hostile_texts_are_described_too(text: str) -> None:
    assert np.isfinite(default_base().describe(query(text)).dense).all()


def test_the_middle_of_a_long_text_is_not_read() -> None:
    head, tail = "Summarise this. " * 400, "That was all. " * 400
    one = default_base().describe(query(f"{head}{'a' * 5000}{tail}"))
    other = default_base().describe(query(f"{head}{'b' * 5000}{tail}"))
    assert np.array_equal(one.dense, other.dense)


def test_a_description_is_the_same_every_time_and_for_every_model() -> None:
    one = default_base().describe(query("Why is the sky blue?"))
    other = BaseModel.load(shipped().parent).describe(query("Why is the sky blue?", model="other"))
    assert np.array_equal(one.dense, other.dense)
    assert np.array_equal(one.bins, other.bins)
    assert one.log_tokens == other.log_tokens


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        ("What is the capital of Peru?", "Write a long essay about the history of Peru."),
        ("Is this review positive? Answer yes or no: I loved it", "Write a review of a book."),
        ("Hi!", "Write a Python program for a chess game with a graphical interface."),
    ],
)
def test_it_knows_which_of_two_plain_requests_is_longer(shorter: str, longer: str) -> None:
    base = default_base()
    assert base.describe(query(shorter)).log_tokens < base.describe(query(longer)).log_tokens


def test_it_is_loaded_once_per_process() -> None:
    assert default_base() is default_base()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bias": None}, "lacks the tensor 'bias'"),
        ({"bias": np.array([np.nan])}, "bias"),
        ({"dense.mean": np.zeros(3)}, "dense.mean"),
        ({"dense.scale": np.zeros(SEEN)}, "must be positive"),
        ({"spread.feature": np.array([0])}, "trees"),
        ({"embedding.codes": np.zeros((3, 128), dtype=np.int8)}, "3, 128"),
        ({"vocabulary": np.frombuffer(b"a\na", dtype=np.uint8)}, "tokens"),
        ({"vocabulary": np.frombuffer(b"\xff", dtype=np.uint8)}, "decode"),
        ({"trees.root": np.array([10**9])}, "trees"),
        ({"trees.value": None}, "lacks the tensor 'trees.value'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tensors_that_make_no_model_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        BaseModel(tensors(**changed))


def test_a_table_of_another_width_is_refused() -> None:
    codes = tensors()["embedding.codes"][:, :64]
    with pytest.raises(ArtefactError, match="64 dimensions, expected 128"):
        BaseModel(tensors(**{"embedding.codes": codes}))


@pytest.mark.parametrize("card", [{}, {**CARD, "format": 99}, {**CARD, "feature_set": 0}])
def test_a_file_of_another_format_is_refused(tmp_path: Path, card: dict[str, int]) -> None:
    file = tmp_path / "model.safetensors"
    artefact.write(file, card=card, tensors={"bias": np.zeros(1)})
    with pytest.raises(ArtefactError, match=r"format .* this version reads .* train it again"):
        BaseModel.load(file)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"not a model")
    with pytest.raises(ArtefactError, match="not a model file"):
        BaseModel.load(file)


def test_a_card_that_is_no_object_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    artefact.write(file, card=[], tensors={"bias": np.zeros(1)})  # pyright: ignore[reportArgumentType] - on purpose
    with pytest.raises(ArtefactError, match="not a model file"):
        BaseModel.load(file)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with file.open("wb") as opened:
        opened.truncate(artefact.MAX_BYTES + 1)
    with pytest.raises(ArtefactError, match="at most"):
        BaseModel.load(file)


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    written: list[bytes] = []
    for name in ("a", "b"):
        artefact.write(tmp_path / name, card=CARD, tensors=tensors())
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_the_card_says_what_the_model_was_made_from() -> None:
    card, _ = artefact.read(shipped())
    assert card["licence"] == "Apache-2.0"
    assert {"seed", "data", "teacher"} <= card.keys()
