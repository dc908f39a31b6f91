"""The configured predictor: what is loaded, from where, and what serves when that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from llmservice_api.sidecar_config import KeepConfig, PredictorConfig
from llmservice_lab.pretrain import pretrain
from llmservice_sidecar.adapters.predictors import keeping, make_predictor
from llmservice_sidecar.adapters.predictors.errors import ArtefactError
from llmservice_sidecar.adapters.predictors.learned import snapshot
from llmservice_sidecar.adapters.predictors.learned.online import OnlinePredictor
from llmservice_sidecar.adapters.predictors.shipped.base import BaseModel
from llmservice_sidecar.runtime.ports import PredictionQuery

QUERY = PredictionQuery(text="Why?", prompt_tokens=1, endpoint="chat", model="tiny", max_tokens=100)


def taught(outcomes: int, *, tokens: int = 10) -> OnlinePredictor:
    model = OnlinePredictor()
    for _ in range(outcomes):
        model.observe(QUERY, output_tokens=tokens, censored=False)
    return model


async def test_the_shipped_model_predicts_and_is_trusted_from_the_first_request() -> None:
    predictor = make_predictor(PredictorConfig(timeout_s=10.0), enabled=True)
    assert (predictor.state, predictor.message, predictor.starts_trusted) == ("Ready", "", True)
    said = await predictor.predict(QUERY)
    assert said.source == "model"
    assert said.p50_tokens is not None
    assert said.p50_tokens <= said.p90_tokens
    await predictor.aclose()


async def test_a_disabled_predictor_loads_nothing() -> None:
    predictor = make_predictor(PredictorConfig(uri="file:///nowhere"), enabled=False)
    assert (predictor.state, predictor.starts_trusted, predictor.samples) == ("Disabled", False, 0)
    assert (await predictor.predict(QUERY)).source == "prior"
    await predictor.aclose()


async def test_a_saved_state_is_taken_up(tmp_path: Path) -> None:
    train = Path(__file__).parents[3] / "examples" / "workloads" / "demo-train.jsonl"
    path = pretrain(train, tmp_path / "a b" / "state", model="tiny")
    predictor = make_predictor(PredictorConfig(uri=path.as_uri(), timeout_s=10.0), enabled=True)
    assert (predictor.state, predictor.message, predictor.starts_trusted) == ("Ready", "", True)
    assert predictor.samples > 1000
    await predictor.aclose()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (PredictorConfig(kind="Crystal"), "allowed: Default, FineTuned"),
        (PredictorConfig(uri="hf://org/name"), "only file:///path is supported"),
        (PredictorConfig(uri="file:///nowhere/state"), "No such file"),
        (PredictorConfig(uri=Path(__file__).as_uri()), "test_make_predictor.py: not readable"),
        (PredictorConfig(uri="file:///models/%2e%2e/state"), "must not contain '..'"),
        (PredictorConfig(uri="file:///models/a#b"), "must not contain '?' or '#'"),
        (PredictorConfig(uri="file:///models/a?b"), "must not contain '?' or '#'"),
        (PredictorConfig(kind="FineTuned"), "needs a uri"),
        (PredictorConfig(kind="FineTuned", uri="file:///nowhere"), "No such file"),
    ],
    ids=[
        "unknown kind", "unsupported scheme", "missing file", "another file", "encoded dots",
        "a fragment", "a query", "no directory", "missing directory",
    ],
)  # fmt: skip
async def test_what_cannot_be_loaded_is_reported_and_the_shipped_model_serves(
    config: PredictorConfig, said: str
) -> None:
    predictor = make_predictor(config, enabled=True)
    assert predictor.state == "Failed"
    assert said in predictor.message
    assert (await predictor.predict(QUERY)).output_tokens >= 1
    await predictor.aclose()


async def said_of_the_query(config: KeepConfig) -> float:
    predictor = make_predictor(PredictorConfig(keep=config, timeout_s=10.0), enabled=True)
    said = (await predictor.predict(QUERY)).output_tokens
    await predictor.aclose()
    return said


async def test_after_a_restart_the_own_state_goes_before_what_is_inherited(tmp_path: Path) -> None:
    own, inherited = tmp_path / "learned" / "state", tmp_path / "inherited"
    keeping.keep(snapshot.save(taught(40, tokens=90)), own)
    keeping.keep(snapshot.save(taught(70, tokens=3)), inherited)
    keep = KeepConfig(state_path=str(own), inherited_path=str(inherited))
    assert await said_of_the_query(keep) > 60
    own.unlink()
    assert await said_of_the_query(keep) < 10


def test_what_is_inherited_is_never_passed_on_as_own_evidence(tmp_path: Path) -> None:
    keeping.keep(snapshot.save(taught(70)), tmp_path / "inherited")
    heir = keeping.restore(
        KeepConfig(inherited_path=str(tmp_path / "inherited")), OnlinePredictor().base
    )
    assert heir is not None
    other = OnlinePredictor()
    other.merge(heir.own_statistics())
    assert other.samples == 0


async def test_a_state_that_cannot_be_read_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, inherited = tmp_path / "state", tmp_path / "inherited"
    own.write_bytes(b"half a file")
    keeping.keep(snapshot.save(taught(70, tokens=3)), inherited)
    keep = KeepConfig(state_path=str(own), inherited_path=str(inherited))
    assert await said_of_the_query(keep) < 10
    assert str(own) in caplog.text
    inherited.write_bytes(b"\x00" * 3_000_000)
    begun_anew = make_predictor(PredictorConfig(keep=keep), enabled=True)
    assert (begun_anew.state, begun_anew.samples) == ("Ready", 0)


async def served(
    uri: str | None, keep: KeepConfig, *, online_learning: bool = True
) -> tuple[str, float]:
    """State of a predictor with something kept, and what it says of the query."""
    config = PredictorConfig(uri=uri, keep=keep, timeout_s=10.0, online_learning=online_learning)
    predictor = make_predictor(config, enabled=True)
    said = (await predictor.predict(QUERY)).output_tokens
    state = predictor.state
    await predictor.aclose()
    return state, said


async def test_a_new_start_takes_effect_although_something_was_learned(tmp_path: Path) -> None:
    short, long = tmp_path / "short", tmp_path / "long"
    keeping.keep(snapshot.save(taught(70, tokens=3)), short)
    keeping.keep(snapshot.save(taught(70, tokens=90)), long)
    state = tmp_path / "state"
    keep = KeepConfig(state_path=str(state))
    learner = make_predictor(PredictorConfig(uri=short.as_uri(), timeout_s=10.0), enabled=True)
    for _ in range(70):
        learner.observe(QUERY, output_tokens=30, censored=False)
    await learner.settled()
    assert isinstance(learner.model, OnlinePredictor)
    keeping.keep(snapshot.save(learner.model), state)
    await learner.aclose()
    _, learned = await served(short.as_uri(), keep)
    assert 10 < learned < 40
    assert (await served(long.as_uri(), keep))[1] > 60
    short.write_bytes(long.read_bytes())  # another content at the same place
    assert (await served(short.as_uri(), keep))[1] > 60


@pytest.mark.parametrize("uri", ["file:///nowhere/state", "s3://bucket/state"])
async def test_a_start_that_cannot_be_read_is_reported_although_something_was_learned(
    uri: str, tmp_path: Path
) -> None:
    keeping.keep(snapshot.save(taught(70, tokens=3)), tmp_path / "state")
    state, said = await served(uri, KeepConfig(state_path=str(tmp_path / "state")))
    assert state == "Failed"
    assert said < 10, "what was learned serves"


async def test_without_learning_nothing_that_was_learned_is_taken_up(tmp_path: Path) -> None:
    own, inherited = tmp_path / "own", tmp_path / "inherited"
    keeping.keep(snapshot.save(taught(70, tokens=3)), own)
    keeping.keep(snapshot.save(taught(70, tokens=3)), inherited)
    keep = KeepConfig(state_path=str(own), inherited_path=str(inherited))
    assert await served(None, keep, online_learning=False) == await served(None, KeepConfig())


def test_what_is_inherited_counts_as_experience(tmp_path: Path) -> None:
    keeping.keep(snapshot.save(taught(70)), tmp_path / "inherited")
    keep = KeepConfig(inherited_path=str(tmp_path / "inherited"))
    heir = keeping.restore(keep, OnlinePredictor().base)
    assert heir is not None
    assert heir.samples == 70
    heir.observe(QUERY, output_tokens=10, censored=False)
    assert heir.samples == 71
    keeping.keep(snapshot.save(heir), tmp_path / "inherited")
    later = keeping.restore(keep, heir.base)
    assert later is not None
    assert later.samples == 71


def test_a_state_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "state"
    keeping.keep(snapshot.save(taught(5)), path)
    keeping.keep(snapshot.save(taught(9)), path)
    assert snapshot.load(path.read_bytes()).samples == 9
    assert [file.name for file in tmp_path.iterdir()] == ["state"], "nothing unfinished is left"


def test_pretraining_names_what_it_cannot_read(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "output_tokens": 3}\n{oops\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.jsonl:2"):
        pretrain(bad, tmp_path / "state")
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"prompt": null, "output_tokens": 3}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="no row with a prompt"):
        pretrain(empty, tmp_path / "state")


def broken() -> BaseModel:
    raise ArtefactError("lacks a tensor")


async def test_without_even_the_shipped_model_requests_get_their_running_mean() -> None:
    predictor = make_predictor(PredictorConfig(), enabled=True, shipped=broken)
    assert (predictor.state, predictor.starts_trusted) == ("Failed", False)
    assert "lacks a tensor" in predictor.message
    assert (await predictor.predict(QUERY)).source == "prior"
    await predictor.aclose()
