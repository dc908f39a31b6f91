"""What a token costs: learned from completions, compared with full lists of them."""

from __future__ import annotations

import random
from dataclasses import astuple

import pytest
from fakes.naive_rates import NaiveRates
from llmservice_sidecar.core.costs import PREFILL_WEIGHT, PRIOR_COSTS, ServiceCosts
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.rules import Running
from llmservice_sidecar.core.service_rates import ServiceRates


def running(
    *,
    first_token_at: float | None = None,
    slots: int = 1,
    tokens: float = 100.0,
    prompt_tokens: int = 0,
) -> Running:
    request = Request(
        id=RequestId("r"),
        arrived_at=0.0,
        prompt_tokens=prompt_tokens,
        prediction=Prediction(tokens, tokens, "test"),
        slots=slots,
    )
    return Running(request=request, admitted_at=0.0, first_token_at=first_token_at)


def figures(rates: ServiceRates) -> tuple[float, ...]:
    """Seconds for a predicted token, a prompt token, a step."""
    assert rates.costs is not None
    return astuple(rates.costs)


def taught(rates: ServiceRates, *, service_s: float, count: int = 8) -> ServiceCosts:
    for _ in range(count):
        rates.observe(service_s, predicted_tokens=100.0, output_tokens=50.0)
    assert rates.costs is not None
    return rates.costs


def test_costs_are_unknown_until_eight_completions() -> None:
    rates = ServiceRates()
    for _ in range(7):
        rates.observe(1.0, predicted_tokens=100.0, output_tokens=50.0)
        assert rates.costs is None
    rates.observe(1.0, predicted_tokens=100.0, output_tokens=50.0)
    assert figures(rates) == pytest.approx((0.01, PREFILL_WEIGHT * 0.02, 0.02))


def test_costs_stay_unknown_while_answers_take_no_time() -> None:
    rates = ServiceRates()
    for _ in range(24):
        rates.observe(-1.0, predicted_tokens=100.0, output_tokens=50.0)
    assert rates.costs is None


def test_costs_follow_the_last_few_hundred_completions() -> None:
    rates = ServiceRates()
    assert taught(rates, service_s=1.0).s_per_token == pytest.approx(0.01)
    later = taught(rates, service_s=2.0, count=2000)
    assert later.s_per_token == pytest.approx(0.02, rel=1e-3)


def test_a_constant_bias_of_predictions_cancels_in_costs() -> None:
    biased, honest = ServiceRates(), ServiceRates()
    for _ in range(8):
        biased.observe(1.0, predicted_tokens=1000.0, output_tokens=100.0)
        honest.observe(1.0, predicted_tokens=100.0, output_tokens=100.0)
    assert biased.costs is not None
    assert honest.costs is not None
    assert biased.costs.cost_s(running(tokens=500.0).request) == pytest.approx(
        honest.costs.cost_s(running(tokens=50.0).request)
    )
    assert biased.costs.step_s == honest.costs.step_s


@pytest.mark.parametrize(
    ("first_token_at", "slots", "s_per_token"),
    [
        pytest.param(1.0, 1, 0.02, id="service counts from the first token"),
        pytest.param(None, 1, 0.03, id="without a sign of it from admission"),
        pytest.param(1.0, 2, 0.04 / 2, id="in all slots of the request"),
    ],
)
def test_a_finished_answer_teaches(
    first_token_at: float | None, slots: int, s_per_token: float
) -> None:
    rates = ServiceRates()
    for _ in range(8):
        done = running(first_token_at=first_token_at, slots=slots)
        rates.finished(done, output_tokens=100, now=3.0)
    assert rates.costs is not None
    assert rates.costs.s_per_token == pytest.approx(s_per_token)


def test_a_prompt_token_costs_towards_what_it_delays_all_beside() -> None:
    rates, rng = ServiceRates(), random.Random(1)
    for _ in range(2000):
        prompt_tokens = rng.randrange(1, 1000)
        delay_s = 0.05 + 300e-6 * prompt_tokens
        rates.first_token(running(prompt_tokens=prompt_tokens), now=delay_s, beside=10)
    costs = taught(rates, service_s=1.0)
    prior, shown = PREFILL_WEIGHT * costs.step_s, 300e-6 * 10
    assert (prior + shown) / 2 < costs.s_per_prefill_token < shown


def test_a_prompt_token_costs_nothing_less_than_zero() -> None:
    rates = ServiceRates()
    for number in range(1000):
        rates.first_token(running(prompt_tokens=number), now=50.0 - number / 20, beside=8)
    assert taught(rates, service_s=1.0).s_per_prefill_token == 0.0


def test_a_prompt_token_costs_at_most_a_step() -> None:
    rates = ServiceRates()
    for number in range(1000):
        rates.first_token(running(prompt_tokens=number), now=number / 2, beside=8)
    costs = taught(rates, service_s=1.0)
    assert costs.s_per_prefill_token == costs.step_s


def test_empty_prompts_leave_the_prior() -> None:
    rates = ServiceRates()
    for _ in range(300):
        rates.first_token(running(), now=7.0, beside=4)
    costs = taught(rates, service_s=1.0)
    assert costs.s_per_prefill_token == pytest.approx(PREFILL_WEIGHT * costs.step_s)


@pytest.mark.parametrize("seed", range(5))
def test_costs_are_those_of_the_full_lists(seed: int) -> None:
    rng, rates, plain = random.Random(seed), ServiceRates(), NaiveRates()
    for _ in range(400):
        done = running(
            tokens=rng.uniform(1, 500),
            prompt_tokens=rng.choice((0, 10, 300)),
            slots=rng.choice((1, 2)),
        )
        first_at, beside = rng.uniform(0.0, 0.5), rng.randrange(1, 9)
        if rng.random() < 0.7:
            rates.first_token(done, now=first_at, beside=beside)
            plain.first_token(done.request.prefill_tokens, first_at, beside)
            done.first_token_at = first_at
        now, output = first_at + rng.expovariate(1.0), rng.randrange(200)
        rates.finished(done, output_tokens=output, now=now)
        service_s = (now - (done.first_token_at or 0.0)) * done.request.slots
        plain.finished(service_s, done.request.predicted_tokens, output)
        if plain.costs is None:
            assert rates.costs is None
            continue
        assert figures(rates) == pytest.approx(astuple(plain.costs))


def test_a_request_costs_its_decode_and_its_prompt() -> None:
    costs = ServiceCosts(s_per_token=0.01, s_per_prefill_token=0.001, step_s=0.01)
    request = running(tokens=50.0, slots=2, prompt_tokens=200).request
    assert costs.cost_s(request) == pytest.approx(50 * 2 * 0.01 + 200 * 0.001)
    assert PRIOR_COSTS.cost_s(request) == pytest.approx(100 + 0.05 * 200)
