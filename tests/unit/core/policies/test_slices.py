"""Sliced orders: levels, slices and what a slice that is over changes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fakes.queue_values import request, view
from llmservice_sidecar.core.policies import make_policy
from llmservice_sidecar.core.policies.fast_serve import FastServe
from llmservice_sidecar.core.policies.laps_sd import LapsSd
from llmservice_sidecar.core.policies.timely_llm import TimelyLlm
from llmservice_sidecar.core.policy import SlicingPolicy


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("ELIS", 50), ("SCLS", 128), ("LAPSSD", 32), ("TimelyLLM", 64), ("OracleSRPT", 16)],
)
def test_slices_are_as_long_as_published(name: str, tokens: int) -> None:
    policy = make_policy(name)
    assert isinstance(policy, SlicingPolicy)
    assert policy.slice_tokens(request(), view()) == tokens


def test_elis_orders_by_what_is_left() -> None:
    asked = request(tokens=30.0, prompt=900, generated_tokens=500)
    assert make_policy("ELIS").key(asked, view()) == (30.0,)


@pytest.mark.parametrize(
    ("prompt", "generated", "level", "left"),
    [
        pytest.param(0, 0, 0, 16, id="a short prompt joins the first level"),
        pytest.param(160, 0, 0, 16, id="prefill of 16 decode tokens just fits"),
        pytest.param(161, 0, 1, 32, id="a longer one skips it"),
        pytest.param(5000, 0, 5, 512, id="500 decode tokens join the sixth"),
        pytest.param(0, 10, 0, 6, id="a started quantum is finished"),
        pytest.param(0, 16, 1, 32, id="a spent one demotes"),
        pytest.param(0, 50, 2, 62, id="and again"),
        pytest.param(161, 32, 2, 64, id="demotion counts from where it joined"),
        pytest.param(0, 10_000, 7, 2048 - (10_000 - 16 * 127) % 2048, id="the last level is round"),
        pytest.param(10**7, 0, 7, 2048, id="nothing joins below the last"),
    ],
)
def test_fast_serve_joins_by_prefill_and_demotes_by_quantum(
    prompt: int, generated: int, level: int, left: int
) -> None:
    # Prefill costs a tenth of a decode token.
    asked = request(prompt=prompt, generated_tokens=generated, arrived_at=3.0)
    assert FastServe().key(asked, view()) == (level, 3.0)
    assert FastServe().slice_tokens(asked, view()) == left


@pytest.mark.parametrize(
    ("generated", "tokens", "key"),
    [
        pytest.param(0, 900.0, (0.0, 0.0, 3.0), id="a new one in the first level"),
        pytest.param(32, 900.0, (1.0, 0.0, 3.0), id="after a slice one level down"),
        pytest.param(64, 20.0, (0.0, 1.0, 20.0), id="understood and short: back up"),
        pytest.param(64, 300.0, (4.0, 1.0, 300.0), id="understood and long: down"),
    ],
)
def test_laps_sd_goes_by_service_then_by_what_is_left(
    generated: int, tokens: float, key: tuple[float, ...]
) -> None:
    asked = request(tokens=tokens, generated_tokens=generated, arrived_at=3.0)
    assert LapsSd().key(asked, view()) == key


@pytest.mark.parametrize(
    ("more", "key"),
    [
        # 2 s of work, now is 10.
        pytest.param({}, (0.0, -0.5), id="no deadline"),
        pytest.param({"deadline_at": 30.0}, (1.0, -0.5), id="18 s of slack can wait"),
        pytest.param({"deadline_at": 16.0}, (0.0, -0.5), id="4 s cannot"),
        pytest.param({"deadline_at": 7.0}, (0.0, -0.25), id="5 s late is half as useful"),
        pytest.param({"deadline_at": -9.0}, (0.0, 0.0), id="too late for any use"),
        pytest.param({"deadline_at": math.inf}, (0.0, -0.5), id="no end is no deadline"),
    ],
)
def test_timely_llm_weighs_utility_against_time(
    more: dict[str, Any], key: tuple[float, ...]
) -> None:
    assert TimelyLlm().key(request(tokens=200.0, **more), view(10.0)) == pytest.approx(key)
