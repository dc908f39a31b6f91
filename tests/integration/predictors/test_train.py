"""`llmservice train` with real torch on tiny random models, and the loading of what it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from integration.predictors.trained import LONG, REFUSED, SHORT, Run
from llmservice_lab.predictors.proxies.options import HEADS
from llmservice_sidecar.adapters.predictors.proxies.onnx_proxy import OnnxProxy
from llmservice_sidecar.adapters.predictors.proxies.proxy_card import read_card
from llmservice_sidecar.runtime.ports import PredictionQuery

pytestmark = pytest.mark.timeout(600)


def _predicted(proxy: OnnxProxy, text: str) -> float:
    query = PredictionQuery(text=text, prompt_tokens=8, endpoint="chat", model="m")
    (prediction,) = proxy.predict_batch([query])
    assert prediction is not None
    return prediction.output_tokens


@pytest.mark.parametrize("head", [*HEADS, "decoder"])
def test_what_was_trained_is_served(head: str, runs: Mapping[str, Run]) -> None:
    run = runs[head]
    assert run.code == 0, run.stderr
    assert json.loads(run.stdout)["tau_int8"] > 0.8
    figures = read_card(run.out).validation["answers"]
    assert figures.tau_b is not None
    assert figures.tau_b > 0.4
    proxy = OnnxProxy.load(run.out)
    assert _predicted(proxy, f"{LONG} whales") > 4 * _predicted(proxy, f"{SHORT} whales")


def test_the_float_weights_lie_beside_the_served_ones(runs: Mapping[str, Run]) -> None:
    names = {path.name for path in runs["retrieval"].out.iterdir()}
    assert names == {
        *("model.onnx", "model.safetensors", "tokenizer.json", "card.json"),
        "bank.safetensors",
    }


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_in_two_lines(name: str, runs: Mapping[str, Run]) -> None:
    assert runs[name].code == 1
    assert REFUSED[name][1] in runs[name].stderr
    assert "next:" in runs[name].stderr


def test_a_resumed_run_ends_as_one_that_was_never_interrupted(runs: Mapping[str, Run]) -> None:
    assert runs["interrupted"].code == 130
    assert runs["resumed"].code == 0, runs["resumed"].stderr
    resumed, whole = (runs[name].out / "model.safetensors" for name in ("resumed", "log-t"))
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_run_with_other_options_is_not_resumed(runs: Mapping[str, Run]) -> None:
    assert runs["resumed with another seed"].code == 1
    assert "is of another run, with {'seed': 1}" in runs["resumed with another seed"].stderr
