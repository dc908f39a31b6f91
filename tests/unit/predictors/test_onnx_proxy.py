from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fakes.proxies import FakeSession, tokenizer
from hypothesis import given
from hypothesis import strategies as st
from llmservice_sidecar.adapters.predictors.errors import ArtefactError
from llmservice_sidecar.adapters.predictors.proxies.onnx_proxy import (
    MAX_MODELS,
    REMEMBERED,
    Bank,
    OnnxProxy,
)
from llmservice_sidecar.adapters.predictors.proxies.proxy_card import (
    BANK_FILE,
    FORMAT,
    MAX_BANK_BYTES,
    MAX_MODEL_BYTES,
    MAX_TOKENIZER_BYTES,
    MODEL_FILE,
    TOKENIZER_FILE,
    Calibration,
    Card,
    Retrieval,
    write_card,
)
from llmservice_sidecar.adapters.predictors.proxies.proxy_text import ProxyText
from llmservice_sidecar.core.request import Prediction
from llmservice_sidecar.runtime.ports import PredictionQuery
from safetensors.numpy import save

CARD = Card(
    format_version=FORMAT,
    head="regression-l1",
    base="somewhere/encoder",
    max_tokens=16,
    seed=1,
    offsets={"chatty": math.log(2.0)},
    calibration=Calibration(
        scores=(0.0, 10.0),
        log_tokens=(0.0, 10.0),
        log_mean_ratio=(math.log(1.1), math.log(1.1)),
        p50=(0.0, 0.0),
        p90=(1.0, 1.0),
    ),
)


def proxy(session: FakeSession, card: Card = CARD, bank: Bank | None = None) -> OnnxProxy:
    return OnnxProxy(session, text=ProxyText(tokenizer(), max_tokens=16), card=card, bank=bank)


def query(
    text: str = "a short answer", *, model: str = "m", max_tokens: int | None = None
) -> PredictionQuery:
    return PredictionQuery(
        text=text, prompt_tokens=3, endpoint="chat", model=model, max_tokens=max_tokens
    )


def said(model: OnnxProxy, asked: PredictionQuery) -> Prediction:
    (prediction,) = model.predict_batch([asked])
    assert prediction is not None
    return prediction


def test_a_score_becomes_mean_median_and_quantile() -> None:
    prediction = said(proxy(FakeSession()), query())  # three words between two marks: score 5
    assert prediction.p50_tokens == pytest.approx(math.exp(5))
    assert prediction.output_tokens == pytest.approx(1.1 * math.exp(5))
    assert prediction.p90_tokens == pytest.approx(math.exp(6))
    assert prediction.source == "proxy"


def test_a_model_of_the_training_data_brings_its_offset() -> None:
    model = proxy(FakeSession())
    plain, chatty = said(model, query()), said(model, query(model="chatty"))
    assert chatty.output_tokens == pytest.approx(2 * plain.output_tokens)


def test_no_prediction_is_above_max_tokens() -> None:
    prediction = said(proxy(FakeSession()), query(max_tokens=20))
    assert prediction.output_tokens == pytest.approx(20)
    assert prediction.p50_tokens == pytest.approx(20)
    assert prediction.p90_tokens == pytest.approx(20)


def test_a_repeated_prompt_runs_the_network_once() -> None:
    session = FakeSession()
    model = proxy(session)
    model.predict_batch([query(), query(), query("another")])
    assert session.runs == 2


def test_of_many_prompts_the_oldest_are_forgotten() -> None:
    session = FakeSession()
    model = proxy(session)
    model.predict_batch([query(f"prompt {index}") for index in range(REMEMBERED + 1)])
    model.predict_batch([query("prompt 0"), query(f"prompt {REMEMBERED}")])
    assert session.runs == REMEMBERED + 2


def test_outcomes_teach_how_long_winded_a_served_model_is() -> None:
    model = proxy(FakeSession())
    before = said(model, query())
    assert before.p50_tokens is not None
    for _ in range(200):
        model.observe(query(), output_tokens=round(3 * before.p50_tokens), censored=False)
    assert said(model, query()).output_tokens == pytest.approx(3 * before.output_tokens, rel=0.1)
    assert said(model, query(model="other")).output_tokens == before.output_tokens
    assert model.samples == 200


def test_a_cut_answer_teaches_only_that_it_was_longer() -> None:
    model = proxy(FakeSession())
    before = said(model, query())
    model.observe(query(), output_tokens=3, censored=True)
    assert said(model, query()) == before
    model.observe(query(), output_tokens=10_000, censored=True)
    assert said(model, query()).output_tokens > before.output_tokens


def test_an_outcome_of_a_prompt_never_asked_about_teaches_nothing() -> None:
    model = proxy(FakeSession())
    model.observe(query(), output_tokens=3, censored=False)
    assert model.samples == 0


def test_offsets_of_ever_new_models_stay_bounded() -> None:
    model = proxy(FakeSession())
    said(model, query())
    model.observe(query(), output_tokens=5000, censored=False)
    learned = said(model, query()).output_tokens
    for index in range(MAX_MODELS):
        said(model, query(model=f"m{index}"))
    assert said(model, query()).output_tokens < learned


def test_a_network_that_says_nan_is_refused() -> None:
    with pytest.raises(ArtefactError, match="score nan, spread 1"):
        proxy(FakeSession(score=lambda _: math.nan)).predict_batch([query()])


def test_neighbours_outvote_the_network_and_strangers_do_not() -> None:
    card = msgspec.structs.replace(CARD, retrieval=Retrieval(neighbours=2, min_similarity=0.5))
    bank = Bank(
        np.array([[1.0, 0.0], [1.0, 0.0], [0.8, -0.6]], dtype=np.float32),
        np.array([8.0, 6.0, 1.0], dtype=np.float32),
    )
    model = proxy(FakeSession(), card, bank)
    assert said(model, query("a long essay")).p50_tokens == pytest.approx(math.exp(7))
    assert said(model, query("a short essay")).p50_tokens == pytest.approx(math.exp(5))


@given(text=st.text(st.characters(exclude_categories=()), max_size=300))
def test_any_text_gets_a_finite_prediction(text: str) -> None:
    prediction = said(proxy(FakeSession()), query(text))
    assert math.isfinite(prediction.p90_tokens)
    assert 1.0 <= prediction.output_tokens <= prediction.p90_tokens


def test_a_long_prompt_is_read_head_and_tail() -> None:
    text = ProxyText(tokenizer(), max_tokens=10)
    ids = text.ids("long " + "a " * 5000 + "please")
    assert len(ids) == 10
    assert (ids[0], ids[1], ids[-2], ids[-1]) == (2, 6, 8, 3)


def test_an_empty_prompt_has_its_marks() -> None:
    assert ProxyText(tokenizer(), max_tokens=10).ids("") == [2, 3]


def test_too_few_tokens_to_read_are_refused() -> None:
    with pytest.raises(ArtefactError, match="max_tokens is 3"):
        ProxyText(tokenizer(), max_tokens=3)


def test_a_directory_without_a_card_is_missing_and_not_broken(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        OnnxProxy.load(tmp_path)


@pytest.mark.parametrize("broken", [TOKENIZER_FILE, BANK_FILE, MODEL_FILE])
def test_a_broken_file_is_refused_by_name(tmp_path: Path, broken: str) -> None:
    retrieval = Retrieval(neighbours=2, min_similarity=0.5)
    write_card(tmp_path, msgspec.structs.replace(CARD, retrieval=retrieval))
    tokenizer().save(str(tmp_path / TOKENIZER_FILE))
    arrays = {"vectors": np.zeros((1, 2)), "log_tokens": np.zeros(1)}
    (tmp_path / BANK_FILE).write_bytes(save(arrays))
    (tmp_path / broken).write_bytes(b"nonsense")
    with pytest.raises(ArtefactError, match=broken):
        OnnxProxy.load(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        pytest.param((np.zeros((1, 2)), np.zeros(3)), "do not agree", id="other shapes"),
        pytest.param((np.zeros((0, 2)), np.zeros(0)), "no rows", id="empty"),
        pytest.param((np.full((1, 2), np.nan), np.zeros(1)), "vectors holds", id="NaN"),
        pytest.param((np.zeros((1, 2)), np.full(1, np.inf)), "log_tokens holds", id="infinity"),
    ],
)
def test_a_bank_without_sense_is_refused(
    tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray], said: str
) -> None:
    retrieval = Retrieval(neighbours=2, min_similarity=0.5)
    write_card(tmp_path, msgspec.structs.replace(CARD, retrieval=retrieval))
    tokenizer().save(str(tmp_path / TOKENIZER_FILE))
    vectors, log_tokens = arrays
    (tmp_path / BANK_FILE).write_bytes(save({"vectors": vectors, "log_tokens": log_tokens}))
    with pytest.raises(ArtefactError, match=said):
        OnnxProxy.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "max_bytes"),
    [
        (TOKENIZER_FILE, MAX_TOKENIZER_BYTES),
        (BANK_FILE, MAX_BANK_BYTES),
        (MODEL_FILE, MAX_MODEL_BYTES),
    ],
)
def test_a_huge_file_is_not_even_read(tmp_path: Path, name: str, max_bytes: int) -> None:
    retrieval = Retrieval(neighbours=2, min_similarity=0.5)
    write_card(tmp_path, msgspec.structs.replace(CARD, retrieval=retrieval))
    tokenizer().save(str(tmp_path / TOKENIZER_FILE))
    arrays = {"vectors": np.zeros((1, 2)), "log_tokens": np.zeros(1)}
    (tmp_path / BANK_FILE).write_bytes(save(arrays))
    with (tmp_path / name).open("wb") as file:
        file.truncate(max_bytes + 1)  # takes no room on the disk
    with pytest.raises(ArtefactError, match=f"{name} has {max_bytes + 1} bytes"):
        OnnxProxy.load(tmp_path)


def test_a_bank_of_another_width_than_the_networks_is_refused() -> None:
    card = msgspec.structs.replace(CARD, retrieval=Retrieval(neighbours=2, min_similarity=0.5))
    three = Bank(np.zeros((1, 3), dtype=np.float32), np.zeros(1, dtype=np.float32))
    with pytest.raises(ArtefactError, match="vectors have 3 numbers; the network's 2"):
        proxy(FakeSession(), card, three).check("here")
    two = Bank(np.zeros((1, 2), dtype=np.float32), np.zeros(1, dtype=np.float32))
    proxy(FakeSession(), card, two).check("here")


def test_a_network_without_the_output_that_neighbours_need_is_refused() -> None:
    class Scoring(FakeSession):
        def get_outputs(self) -> list[Any]:
            return super().get_outputs()[:2]

    card = msgspec.structs.replace(CARD, retrieval=Retrieval(neighbours=2, min_similarity=0.5))
    bank = Bank(np.zeros((1, 2), dtype=np.float32), np.zeros(1, dtype=np.float32))
    proxy(Scoring()).check("here")
    with pytest.raises(ArtefactError, match="no output proxy_embedding"):
        proxy(Scoring(), card, bank).check("here")
