"""What heads learned as bytes: shared between replicas, kept over restarts, strictly checked."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llmservice_lab.predictors.online_trials import Described
from llmservice_lab.pretrain import pretrain, query_for
from llmservice_lab.workload import WorkloadRequest, load_workload
from llmservice_sidecar.adapters.predictors.learned import sharing, snapshot
from llmservice_sidecar.adapters.predictors.learned.lesson import INPUTS
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor, head_key
from llmservice_sidecar.adapters.predictors.learned.sharing import PayloadError
from llmservice_sidecar.adapters.predictors.shipped.base import Description, default_base
from llmservice_sidecar.core.rank_correlation import rank_correlation
from llmservice_sidecar.runtime.ports import PredictionQuery
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialise

BASE = Described(default_base())  # each prompt once in all tests
WORKLOADS = Path(__file__).parents[3] / "examples" / "workloads"
KEY = head_key("tiny")


@pytest.fixture(scope="module")
def train() -> list[WorkloadRequest]:
    return list(load_workload(WORKLOADS / "demo-train.jsonl"))


@pytest.fixture(scope="module")
def taught(train: list[WorkloadRequest]) -> OnlinePredictor:
    return teach(OnlinePredictor(BASE), train[:300])


def teach(predictor: OnlinePredictor, rows: list[WorkloadRequest]) -> OnlinePredictor:
    for row in rows:
        predictor.observe(ask(row), output_tokens=row.output_tokens, censored=False)
    return predictor


def ask(row: WorkloadRequest, model: str = "tiny") -> PredictionQuery:
    return query_for(row.prompt or "", model=model)


def tau(predictor: OnlinePredictor, rows: list[WorkloadRequest]) -> float:
    predicted = [predictor.predict(ask(row)).output_tokens for row in rows]
    return rank_correlation(predicted, [float(row.output_tokens) for row in rows]).tau


def agree(one: OnlinePredictor, other: OnlinePredictor, rows: list[WorkloadRequest]) -> None:
    for row in rows:
        expected = one.predict(ask(row)).output_tokens
        assert other.predict(ask(row)).output_tokens == pytest.approx(expected, rel=0.03)


def test_a_snapshot_predicts_and_learns_like_the_original(train: list[WorkloadRequest]) -> None:
    original = teach(OnlinePredictor(BASE), train[:300])
    copy = snapshot.load(snapshot.save(original), base=BASE)
    assert copy.samples == original.samples
    agree(original, copy, train[400:420])
    for predictor in (original, copy):
        teach(predictor, train[300:400])
    agree(original, copy, train[400:420])


def test_a_snapshot_keeps_how_far_quantiles_were_put_right(train: list[WorkloadRequest]) -> None:
    original = OnlinePredictor(BASE)
    for row in train[:60]:
        original.observe(ask(row), output_tokens=1 + row.output_tokens // 9, censored=False)
        original.observe(ask(row, "other"), output_tokens=row.output_tokens, censored=False)
    copy = snapshot.load(snapshot.save(original), base=BASE)
    for key, head in original.heads.items():
        kept = copy.heads[key].calibration
        assert np.array_equal(kept.offsets, head.calibration.offsets)
        assert kept.offsets.any()
        assert np.allclose(kept.assumed, head.calibration.assumed)
        assert np.allclose(kept.recent(), head.calibration.recent(), atol=0.01)


def test_a_snapshot_after_a_change_of_the_world_is_faithful(train: list[WorkloadRequest]) -> None:
    original = teach(OnlinePredictor(BASE), train[:200])
    original.heads[KEY].restart()
    teach(original, train[200:240])
    copy = snapshot.load(snapshot.save(original), base=BASE)
    agree(original, copy, train[400:420])


def test_payloads_are_small_and_hold_no_text_and_no_name(
    taught: OnlinePredictor, train: list[WorkloadRequest]
) -> None:
    for payload, most in ((snapshot.save(taught), 200_000), (taught.own_statistics(), 150_000)):
        assert len(payload) < most
        assert (train[0].prompt or "")[:20].encode() not in payload
        assert b"tiny" not in payload


def test_the_same_state_gives_the_same_bytes(train: list[WorkloadRequest]) -> None:
    one, other = (teach(OnlinePredictor(BASE), train[:50]) for _ in range(2))
    other.replica = one.replica
    assert snapshot.save(one) == snapshot.save(other)
    assert one.own_statistics() == other.own_statistics()


def test_replicas_that_share_know_nearly_what_one_would(train: list[WorkloadRequest]) -> None:
    alone = teach(OnlinePredictor(BASE), train[:1200])
    replicas = [teach(OnlinePredictor(BASE), train[start:1200:3]) for start in range(3)]
    for other in replicas[1:]:
        replicas[0].merge(other.own_statistics())
    unseen = train[1200:]
    assert tau(replicas[0], unseen) > tau(replicas[1], unseen)
    assert tau(replicas[0], unseen) > tau(alone, unseen) - 0.03


def test_a_replica_that_has_seen_nothing_learns_from_its_peers(
    taught: OnlinePredictor, train: list[WorkloadRequest]
) -> None:
    fresh = OnlinePredictor(BASE)
    fresh.merge(taught.own_statistics())
    assert fresh.samples == 0
    agree(taught, fresh, train[300:320])


def test_telling_twice_is_telling_once(
    taught: OnlinePredictor, train: list[WorkloadRequest]
) -> None:
    once, twice = OnlinePredictor(BASE), OnlinePredictor(BASE)
    for times, predictor in ((1, once), (2, twice)):
        for _ in range(times):
            predictor.merge(taught.own_statistics())
    agree(once, twice, train[:10])


def test_what_peers_told_is_never_sent_back(
    taught: OnlinePredictor, train: list[WorkloadRequest]
) -> None:
    fresh = OnlinePredictor(BASE)
    fresh.merge(taught.own_statistics())
    echo = OnlinePredictor(BASE)
    echo.merge(fresh.own_statistics())
    for row in train[:10]:
        untaught = OnlinePredictor(BASE).predict(ask(row)).output_tokens
        assert echo.predict(ask(row)).output_tokens == pytest.approx(untaught, rel=0.01)


def test_another_process_is_inherited_not_repeated(
    taught: OnlinePredictor, train: list[WorkloadRequest]
) -> None:
    heir = snapshot.load(snapshot.save(taught), base=BASE, inherit=True)
    assert (heir.samples, heir.heads[KEY].samples) == (300, 0)
    assert heir.replica != taught.replica
    assert tau(heir, train[300:600]) == pytest.approx(tau(taught, train[300:600]), abs=0.02)
    assert heir.heads[KEY].lesson().samples == 0
    teach(heir, train[300:340])
    grandchild = snapshot.load(snapshot.save(heir), base=BASE, inherit=True)
    told = grandchild.heads[KEY].told
    for name, samples in ((heir.replica, 40), (taught.replica, 300)):
        packed = told.by(name)
        assert packed is not None
        assert packed.samples == samples
    agree(heir, snapshot.load(snapshot.save(heir), base=BASE), train[400:420])


def test_what_is_inherited_again_and_again_does_not_grow(
    monkeypatch: pytest.MonkeyPatch, taught: OnlinePredictor, train: list[WorkloadRequest]
) -> None:
    monkeypatch.setattr(snapshot, "MOST_INHERITED", 100)
    heir = taught
    for _ in range(4):
        heir = snapshot.load(snapshot.save(heir), base=BASE, inherit=True)
        assert heir.heads[KEY].told.outcomes == pytest.approx(100, abs=1)
        assert len(heir.heads[KEY].told) <= snapshot.GENERATIONS
        teach(heir, train[300:310])


def changed(payload: bytes, name: str, value: Any) -> bytes:
    tensors = parse(payload)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = np.asarray(value)
    return serialise(tensors)


@pytest.mark.parametrize(
    ("name", "value", "said_why"),
    [
        ("version", np.array([1, 2, 3, 4]), "version"),
        ("base", np.zeros(8, np.uint8), "base"),
        ("base", None, "lacks base"),
        ("base", np.arange(250_000, dtype=np.uint8), r"shape \(250000,\)"),
        ("replica", np.zeros((2, 8), np.uint8), "1 to 1 identities"),
        (f"{KEY}.count", np.array([-1, 0]), "count -1"),
        (f"{KEY}.count", None, "lacks"),
        (f"{KEY}.errors", np.full((1, 3), np.nan, np.float16), "errors"),
        (f"{KEY}.errors", np.ones(1, np.float16), "shape"),
        (f"{KEY}.errors", np.ones((1, 3)), "expected float16"),
        (f"{KEY}.totals", np.array([-1.0, 1.0]), "totals"),
        (f"{KEY}.norm", np.ones(1, np.float32), "norm"),
        (f"{KEY}.mix_norm", np.array([-1.0, 1.0, 1.0, 1.0], np.float32), "mix_norm"),
        (f"{KEY}.mix_norm", np.full(4, 1e4, np.float32), "mix: a precision"),
        (f"{KEY}.weights", np.full((INPUTS, 2), 90.0, np.float32), "dense: a shift"),
        (f"{KEY}.order", np.zeros(INPUTS, np.uint16), "not every input once"),
        (f"{KEY}.bins", np.zeros(2, np.uint16), "ascending"),
        (f"{KEY}.bias", np.array([-1.0, 1.0]), "hashed: a precision"),
        (f"{KEY}.bias", np.array([1e12, 1.0]), "hashed: a precision"),
        (f"{KEY}.bias", np.array([np.inf, 1.0]), "finite"),
        (f"{KEY}.more", np.ones(1), "not known"),
        ("readable name.count", np.array([1, 0]), "16 hex digits"),
    ],
)
def test_a_payload_that_we_would_not_have_sent_is_refused_by_name(
    taught: OnlinePredictor, name: str, value: Any, said_why: str
) -> None:
    payload = changed(taught.own_statistics(), name, value)
    predictor = OnlinePredictor(BASE)
    with pytest.raises(sharing.PayloadError, match=said_why) as error:
        predictor.merge(payload)
    assert not predictor.heads
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("payload", "said_why"),
    [
        (b"", "not readable"),
        (b"PK\x03\x04 nothing", "not readable"),
        (b"x" * (snapshot.MAX_BYTES + 1), "at most"),
    ],
    ids=["empty", "another format", "too large"],
)
def test_what_is_no_snapshot_is_refused(payload: bytes, said_why: str) -> None:
    with pytest.raises(PayloadError, match=said_why):
        snapshot.load(payload)


def test_cut_or_flipped_bytes_raise_nothing_but_a_payload_error(taught: OnlinePredictor) -> None:
    payload = taught.own_statistics()
    rng = random.Random(8)
    for _ in range(60):
        broken = bytearray(payload)
        for _ in range(4):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        predictor = OnlinePredictor(BASE)
        try:
            predictor.merge(bytes(broken[: rng.randrange(1, len(broken) + 1)]))
            predictor.merge(bytes(broken))
        except sharing.PayloadError:
            assert not predictor.heads


def test_a_snapshot_of_another_base_model_is_refused(taught: OnlinePredictor) -> None:
    class Other:
        def describe(self, query: PredictionQuery) -> Description:
            known = BASE.describe(query)
            return Description(
                -known.dense, known.bins, known.values, known.log_tokens, known.log_deviation
            )

    with pytest.raises(PayloadError, match="base"):
        snapshot.load(snapshot.save(taught), base=Other())


def test_pretraining_writes_a_snapshot_that_has_learned_the_rows(
    tmp_path: Path, train: list[WorkloadRequest]
) -> None:
    file = pretrain(WORKLOADS / "demo-train.jsonl", tmp_path / "new" / "it.bin", model="tiny")
    predictor = snapshot.load(file.read_bytes())
    assert predictor.samples == len(train)
