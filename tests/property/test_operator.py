"""Laws of the operator's pure parts, on any input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fakes.manifests import SETTINGS, resource
from hypothesis import given
from hypothesis import strategies as st
from llmservice_api.spec import encode_spec, parse_spec
from llmservice_operator.conditions import (
    Finding,
    Truth,
    Verdict,
    encode_conditions,
    merge,
    parse_conditions,
)
from llmservice_operator.desired import desired
from llmservice_operator.service import parse_service

TYPES = ("Ready", "ModelReady", "Stalled")
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12)
findings = st.builds(Finding, words, st.text(max_size=40))
times = st.datetimes(timezones=st.just(UTC), min_value=datetime(2026, 1, 1))  # noqa: DTZ001 - Hypothesis wants naive bounds


@st.composite
def verdicts(draw: st.DrawFn) -> tuple[Verdict, ...]:
    return tuple(Verdict(kind, draw(st.sampled_from(Truth)), draw(findings)) for kind in TYPES)


small = st.integers(1, 64)
texts = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def required(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(fields)


models = st.builds(
    dict[str, Any],
    required(uri=st.sampled_from(["file:///m", "pvc://c/p", "hf://a/b"])),
    name=texts,
)
specs: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict[str, Any],
    optional(
        engine=optional(
            maxNumSeqs=small,
            device=st.sampled_from(["GPU", "CPU"]),
            args=st.lists(st.sampled_from(["--a", "--b=1"]), max_size=2),
            allowedExtraArgs=st.lists(texts, max_size=3, unique=True),
            env=st.lists(required(name=texts, value=texts), max_size=2),
        ),
        parallelism=optional(tensor=small, data=small),
        replicas=st.integers(0, 9),
        queue=optional(
            policy=st.sampled_from(["FCFS", "SSJF"]),
            tailWeightPercent=st.integers(0, 300),
            maxQueuedTokens=small,
        ),
        predictor=optional(mode=st.sampled_from(["Disabled", "Shadow", "Enforce"])),
        tracing=optional(exporterEndpoint=st.just("http://c:4317")),
        drainTimeoutSeconds=small,
        suspend=st.booleans(),
        template=optional(spec=optional(nodeSelector=st.dictionaries(texts, texts, max_size=2))),
    ),
    model=models,
)


@given(verdicts(), verdicts(), times, times)
def test_a_condition_moves_in_time_exactly_when_its_status_moves(
    first: tuple[Verdict, ...], second: tuple[Verdict, ...], then: datetime, now: datetime
) -> None:
    before = merge((), first, generation=1, now=then)
    after = merge(before, second, generation=2, now=now)
    for old, new in zip(before, after, strict=True):
        same = old.status is new.status
        assert new.since == (old.since if same else now.replace(microsecond=0))


@given(verdicts(), times)
def test_merging_the_same_judgement_again_changes_nothing(
    judged: tuple[Verdict, ...], now: datetime
) -> None:
    once = merge((), judged, generation=1, now=now)
    assert merge(once, judged, generation=1, now=now + timedelta(days=1)) == once


@given(verdicts(), times)
def test_conditions_survive_the_api_server(judged: tuple[Verdict, ...], now: datetime) -> None:
    conditions = merge((), judged, generation=1, now=now)
    assert parse_conditions(encode_conditions(conditions)) == conditions


@given(specs)
def test_a_spec_survives_encoding(raw: dict[str, Any]) -> None:
    spec = parse_spec(raw)
    assert parse_spec(encode_spec(spec)) == spec


@given(specs)
def test_desired_is_a_function_of_the_spec(raw: dict[str, Any]) -> None:
    one, other = (parse_service(resource(**raw)) for _ in range(2))
    assert desired(one, SETTINGS) == desired(other, SETTINGS)


@given(specs)
def test_every_desired_object_has_a_name_of_its_own(raw: dict[str, Any]) -> None:
    made = desired(parse_service(resource(**raw)), SETTINGS)
    assert len({(one["kind"], one["metadata"]["name"]) for one in made}) == len(made)
