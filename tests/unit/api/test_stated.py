"""What is left out of what other versions read: everything that has its default."""

from __future__ import annotations

import hashlib

import msgspec
from llmservice_api.sidecar_config import (
    EngineConfig,
    ModelConfig,
    StaticConfig,
    encode_config,
    static_config_hash,
)
from llmservice_api.stated import stated


class Inner(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    long_name: int = 5000
    words: tuple[str, ...] = ()


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = msgspec.field(default_factory=dict[str, Inner])


class LaterEngine(EngineConfig, frozen=True):
    what_is_new: float = 2.5


class LaterStatic(StaticConfig, frozen=True):
    engine: LaterEngine = LaterEngine()
    also_new: tuple[str, ...] = ("a",)


MODEL = ModelConfig(name="tiny")


def test_what_was_read_with_its_default_is_not_stated() -> None:
    text = b'{"name": "a", "inner": {"longName": 5000, "words": []}, "by_name": {}}'
    assert stated(msgspec.json.decode(text, type=Outer)) == {"name": "a"}


def test_what_differs_is_stated_by_its_encoded_name_however_deep() -> None:
    value = Outer(
        name="a",
        inner=Inner(long_name=1),
        many=(Inner(), Inner(words=("x",))),
        by_name={"k": Inner(long_name=2)},
    )
    assert stated(value) == {
        "name": "a",
        "inner": {"longName": 1},
        "many": [{}, {"words": ["x"]}],
        "by_name": {"k": {"longName": 2}},
    }
    assert msgspec.convert(stated(value), Outer) == value


def test_a_newer_version_writes_what_an_older_sidecar_can_read_and_replaces_no_pod() -> None:
    engine = EngineConfig(slots=8)
    older = StaticConfig(service="s", namespace="n", model=MODEL, engine=engine)
    newer = LaterStatic(service="s", namespace="n", model=MODEL, engine=LaterEngine(slots=8))
    assert encode_config(newer) == encode_config(older)
    assert static_config_hash(newer) == static_config_hash(older)
    assert msgspec.json.decode(encode_config(newer), type=StaticConfig) == older


def test_the_hash_tells_configurations_apart() -> None:
    one = StaticConfig(service="s", namespace="n", model=MODEL)
    other = StaticConfig(service="s", namespace="n", model=MODEL, drain_timeout_s=7.0)
    assert static_config_hash(one) != static_config_hash(other)
    assert len(static_config_hash(one)) == len(hashlib.sha256().hexdigest()) // 4
