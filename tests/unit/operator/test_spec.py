"""Parsing a spec: defaults, refusals with their path, and what is accepted but not acted on."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.manifests import resource
from llmservice_api.spec import SpecError, parse_spec
from llmservice_operator.service import parse_service

_MODEL = {"uri": "file:///models/m"}


def test_a_minimal_spec_has_the_documented_defaults() -> None:
    spec = parse_spec({"model": _MODEL})
    assert (spec.engine.device, spec.engine.max_num_seqs) == ("GPU", 128)
    assert (spec.queue.policy, spec.queue.max_queued_requests) == ("SSJF", 1024)
    assert (spec.predictor.mode, spec.predictor.timeout_milliseconds) == ("Enforce", 5)
    assert spec.replicas is None


@pytest.mark.parametrize(
    ("change", "path"),
    [
        pytest.param({"engin": {}}, "engin", id="an unknown field"),
        pytest.param({"engine": {"maxNumSeq": 4}}, "spec.engine", id="an unknown nested field"),
        pytest.param({"engine": {"maxNumSeqs": 0}}, "spec.engine.maxNumSeqs", id="out of bounds"),
        pytest.param({"engine": {"device": "TPU"}}, "spec.engine.device", id="a wrong word"),
        pytest.param({"engine": {"args": "--x"}}, "spec.engine.args", id="a wrong type"),
        pytest.param({"model": {}}, "spec.model", id="a missing field"),
        pytest.param({"queue": {"tailWeightPercent": 1.5}}, "tailWeightPercent", id="a float"),
    ],
)
def test_a_refusal_names_the_path(change: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as refusal:
        parse_spec({"model": _MODEL} | change)
    assert path in str(refusal.value)


def test_another_kind_is_refused() -> None:
    with pytest.raises(SpecError, match="LLMService"):
        parse_service({"apiVersion": "v1", "kind": "Pod"})


def test_a_manifest_without_a_name_is_refused() -> None:
    with pytest.raises(SpecError, match=r"metadata\.name"):
        parse_service(resource() | {"metadata": {}})


def test_a_manifest_without_a_spec_is_refused() -> None:
    with pytest.raises(SpecError, match=r"spec\.model\.uri"):
        parse_service(resource() | {"spec": None})
