"""Step costs found again in the times that they made."""

from __future__ import annotations

import random
from dataclasses import astuple, replace

import msgspec
import pytest
from fakes.simulated_traces import COSTS, Simulated, traces_of
from llmservice_lab.analysis.record import TracedRequest
from llmservice_lab.cost_model import CostModel
from llmservice_lab.replay.fit import costs_of, fit_costs

LOAD = Simulated(count=1500, load=0.7)


@pytest.mark.parametrize(
    "costs",
    [
        COSTS,
        CostModel(step_s=0.02, per_decode_s=0.0, per_prefill_token_s=0.0001),
        CostModel(step_s=0.001, per_decode_s=0.003, per_prefill_token_s=0.00002),
    ],
    ids=["mixed", "nothing a decode", "nearly all a decode"],
)
def test_streamed_answers_tell_what_steps_cost(costs: CostModel) -> None:
    fit = fit_costs("chat-0", traces_of(replace(LOAD, costs=costs)))
    found = costs_of(fit)
    assert found.step_s + 8 * found.per_decode_s == pytest.approx(
        costs.step_s + 8 * costs.per_decode_s, rel=0.03
    )
    assert found.step_s + found.per_decode_s == pytest.approx(
        costs.step_s + costs.per_decode_s, rel=0.1
    )
    assert found.per_prefill_token_s == pytest.approx(costs.per_prefill_token_s, rel=0.2)
    assert fit["decode_error"] is not None
    assert fit["decode_error"] < 0.02


def test_answers_in_one_piece_tell_it_too() -> None:
    fit = fit_costs("chat-0", traces_of(replace(LOAD, stream=False)))
    assert fit["first_token_error"] is None
    found = costs_of(fit)
    assert found.step_s + 6 * found.per_decode_s == pytest.approx(
        COSTS.step_s + 6 * COSTS.per_decode_s, rel=0.1
    )


def test_pauses_of_the_machine_bend_nothing() -> None:
    plain = traces_of(LOAD)
    rng = random.Random(3)
    paused = [_paused(one, 20.0) if rng.random() < 0.03 else one for one in plain]
    found, wanted = (astuple(costs_of(fit_costs("chat-0", each))) for each in (paused, plain))
    assert found[0] + 8 * found[1] == pytest.approx(wanted[0] + 8 * wanted[1], rel=0.1)


def _paused(one: TracedRequest, by_s: float) -> TracedRequest:
    return msgspec.structs.replace(
        one, engine_ended_s=(one.engine_ended_s or 0.0) + by_s, ended_s=one.ended_s + by_s
    )


def test_what_lies_between_engine_and_sidecar_is_no_cost_of_a_step() -> None:
    late = [
        msgspec.structs.replace(
            one,
            called_s=(one.called_s or 0.0) - 0.2,
            left_queue_s=(one.left_queue_s or 0.0) - 0.2,
        )
        for one in traces_of(LOAD)
    ]
    fit = fit_costs("chat-0", late)
    assert fit["per_prefill_token_s"] == pytest.approx(COSTS.per_prefill_token_s, rel=0.3)
    assert fit["late_s"] == pytest.approx(0.2, rel=0.1)
    assert fit_costs("chat-0", traces_of(LOAD))["late_s"] == pytest.approx(0.0, abs=0.01)


def test_an_engine_that_was_slower_for_a_while_is_noticed() -> None:
    calm = fit_costs("chat-0", traces_of(LOAD))
    assert calm["slowest"] < 1.05 * calm["fastest"]
    requests = traces_of(LOAD)
    middle = [
        _paused(one, one.decode_s or 0.0) if 600 < number < 900 else one
        for number, one in enumerate(requests)
    ]
    fit = fit_costs("chat-0", middle)
    assert fit["slowest"] > 1.5 * fit["fastest"]


def test_too_few_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="29 complete answers of two tokens or more"):
        fit_costs("chat-0", traces_of(LOAD)[:29])
