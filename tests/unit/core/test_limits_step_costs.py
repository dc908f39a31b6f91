"""What a token takes, learned from noisy observations."""

from __future__ import annotations

import math
import random

import pytest
from llmservice_sidecar.core.step_costs import Line, StepCosts


def test_nothing_is_known_at_first() -> None:
    costs = StepCosts()
    assert not costs.known
    assert costs.s_per_prefill_token is None
    assert (costs.token_s(8), costs.s_per_token_in_flight) == (0, 0)


def test_it_finds_step_and_slope_behind_the_noise() -> None:
    costs, rng = StepCosts(), random.Random(1)
    for _ in range(8000):
        in_flight = rng.randint(1, 32)
        took_s = (7e-3 + 0.1e-3 * in_flight) * rng.lognormvariate(-0.02, 0.2)
        costs.observe_decode(took_s, in_flight=in_flight)
    assert costs.known
    assert costs.token_s(0) == pytest.approx(7e-3, rel=0.05)
    assert costs.token_s(32) == pytest.approx(10.2e-3, rel=0.05)
    assert costs.s_per_token_in_flight == pytest.approx(0.1e-3, rel=0.2)


def test_a_number_in_flight_that_never_varies_gives_the_line_through_the_origin() -> None:
    costs = StepCosts()
    for _ in range(1000):
        costs.observe_decode(8e-3, in_flight=16)
    assert costs.token_s(16) == pytest.approx(8e-3)
    assert costs.s_per_token_in_flight == pytest.approx(0.5e-3)


def test_the_slope_is_never_negative_nor_steeper_than_through_the_origin() -> None:
    falling, steep = StepCosts(), StepCosts()
    for in_flight in [1, 8, 16, 32] * 500:
        falling.observe_decode(10e-3 / in_flight, in_flight=in_flight)
        steep.observe_decode(1e-6 * in_flight**3, in_flight=in_flight)
    assert falling.s_per_token_in_flight == 0
    assert 0 < steep.s_per_token_in_flight * 32 <= steep.token_s(32) * 1.5
    assert steep.token_s(0) >= 0


def test_a_hiccup_of_seconds_moves_little() -> None:
    costs = StepCosts()
    for _ in range(2000):
        costs.observe_decode(8e-3, in_flight=8)
    assert costs.observe_decode(5.0, in_flight=8) < 16e-3
    assert costs.token_s(8) == pytest.approx(8e-3, rel=0.01)


def test_a_lasting_change_is_believed_in_the_end() -> None:
    costs = StepCosts()
    for _ in range(2000):
        costs.observe_decode(8e-3, in_flight=8)
    for _ in range(10_000):
        costs.observe_decode(80e-3, in_flight=8)
    assert costs.token_s(8) == pytest.approx(80e-3, rel=0.05)


def test_a_fast_engine_after_a_slow_one_is_believed_at_once() -> None:
    costs = StepCosts()
    for _ in range(1000):
        costs.observe_decode(80e-3, in_flight=8)
    assert costs.observe_decode(8e-3, in_flight=8) == pytest.approx(8e-3)


@pytest.mark.parametrize(("took_s", "in_flight"), [(0.0, 4), (-1.0, 4), (0.01, 0), (math.nan, 4)])
def test_what_cannot_be_is_no_observation(took_s: float, in_flight: int) -> None:
    costs = StepCosts()
    for _ in range(100):
        costs.observe_decode(took_s, in_flight=in_flight)
    assert not costs.known


def test_the_time_of_a_prompt_token_is_the_slope_of_the_time_to_first_token() -> None:
    costs, rng = StepCosts(), random.Random(2)
    for _ in range(1000):
        prompt = rng.randint(10, 4000)
        waits_s = 0.02 + 20e-6 * prompt + rng.expovariate(1 / 0.01)
        costs.observe_first_token(waits_s, prefill_tokens=prompt)
    assert costs.s_per_prefill_token == pytest.approx(20e-6, rel=0.1)


def test_a_first_token_that_waited_in_the_engine_does_not_make_prompts_dear() -> None:
    costs = StepCosts()
    for prompt in [100, 200, 300, 400] * 100:
        costs.observe_first_token(0.01 + 20e-6 * prompt, prefill_tokens=prompt)
    costs.observe_first_token(60.0, prefill_tokens=400)
    assert costs.s_per_prefill_token == pytest.approx(20e-6, rel=0.3)


@pytest.mark.parametrize(("seconds", "prompt"), [(0.0, 5), (-1.0, 5), (1.0, 0)])
def test_no_time_and_no_prompt_say_nothing(seconds: float, prompt: int) -> None:
    costs = StepCosts()
    for _ in range(100):
        costs.observe_first_token(seconds, prefill_tokens=prompt)
    assert costs.s_per_prefill_token is None


def test_a_line_without_doubt_and_variation_is_flat() -> None:
    line = Line(window=10)
    assert line.slope == 0
    line.add(2.0, 4.0)
    line.add(2.0, 4.0)
    assert (line.slope, line.at(100)) == (0, 4.0)


def test_old_points_fade() -> None:
    line = Line(window=10)
    for _ in range(100):
        line.add(1.0, 1.0)
    for _ in range(100):
        line.add(1.0, 3.0)
    assert line.mean_y == pytest.approx(3.0, rel=1e-3)
