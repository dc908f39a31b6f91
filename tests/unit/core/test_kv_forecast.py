"""Who fits into the KV cache beside what runs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmservice_sidecar.core.admission import kv_forecast
from llmservice_sidecar.core.admission.kv_forecast import KvForecast
from llmservice_sidecar.core.request import Prediction, Request, RequestId
from llmservice_sidecar.core.rules import Running


def request(
    mean: float = 100.0,
    *,
    p90: float | None = None,
    prompt: int = 100,
    slots: int = 1,
    max_tokens: int | None = None,
    earlier: int = 0,
) -> Request:
    return Request(
        id=RequestId("r"),
        arrived_at=0.0,
        prompt_tokens=prompt,
        prediction=Prediction(mean, mean if p90 is None else p90, "test"),
        max_tokens=max_tokens,
        slots=slots,
        generated_tokens=earlier,
    )


def running(generated: int, of: Request) -> Running:
    return Running(request=of, admitted_at=0.0, generated=generated)


def needs(candidate: Request, *others: Running) -> int:
    """The smallest capacity, without margin, at which the candidate is admitted."""
    low, high = 0, 1 << 20
    while low < high:
        middle = (low + high) // 2
        rule = KvForecast(capacity_tokens=middle, deviations=0)
        if rule.admits(candidate, others):
            high = middle
        else:
            low = middle + 1
    return low


def test_everything_is_admitted_while_the_capacity_is_unknown() -> None:
    assert KvForecast().admits(request(1e6), [running(0, request(1e6))])


def test_a_request_that_finds_nothing_running_is_admitted_however_large() -> None:
    assert KvForecast(capacity_tokens=10).admits(request(1e6), [])


def test_two_of_a_kind_need_both_prompts_and_both_answers() -> None:
    assert needs(request(100, prompt=50), running(0, request(100, prompt=50))) == 300


def test_a_short_one_beside_a_long_one_is_gone_before_the_peak() -> None:
    # 50 + 10 and 50 + 10 when the short one ends; 50 + 1000 when the long one does.
    assert needs(request(10, prompt=50), running(0, request(1000, prompt=50))) == 1050


def test_what_has_come_out_is_held_and_is_no_longer_to_come() -> None:
    fresh = needs(request(100), running(0, request(100)))
    half = needs(request(100), running(50, request(100)))
    assert fresh == 400
    assert half == 350  # the half one ends first: 150 + 100 and then 50 each


def test_the_margin_keeps_a_share_free() -> None:
    others = [running(0, request(100))]
    assert KvForecast(capacity_tokens=400, margin=0).admits(request(100), others)
    assert not KvForecast(capacity_tokens=400, margin=0.1).admits(request(100), others)
    assert KvForecast(capacity_tokens=450, margin=0.1).admits(request(100), others)


def test_lengths_that_vary_do_not_all_grow_to_their_end_together() -> None:
    sure = needs(request(100), *(running(0, request(100)) for _ in range(9)))
    # p90 / mean = 2.3 is exponential: 10 (100 + t) e^(-t / 100) is largest at once.
    vague = needs(request(100, p90=230), *(running(0, request(100, p90=230)) for _ in range(9)))
    assert sure == 2000
    assert vague == 1000


def test_the_more_certain_a_length_the_closer_to_its_end_is_the_peak() -> None:
    def need(p90: float) -> int:
        others = [running(0, request(100, p90=p90, prompt=10)) for _ in range(9)]
        return needs(request(100, p90=p90, prompt=10), *others)

    assert [need(p90) for p90 in (230, 150, 120, 105, 100)] == sorted(
        need(p90) for p90 in (230, 150, 120, 105, 100)
    )
    assert need(230) < 600
    assert 900 < need(105) <= need(100) == 1100


def test_deviations_keep_room_for_what_is_not_expected() -> None:
    others = [running(0, request(100, p90=200)) for _ in range(9)]
    bold = KvForecast(capacity_tokens=1200, deviations=0)
    careful = KvForecast(capacity_tokens=1200, deviations=1.28)
    assert bold.admits(request(100, p90=200), others)
    assert not careful.admits(request(100, p90=200), others)


def test_one_that_outlives_its_prediction_is_expected_to_go_on() -> None:
    many = request(25, prompt=0, slots=50)  # 1250 tokens in 25 steps
    late = running(101, request(100, prompt=100))
    assert needs(many, running(99, request(100, prompt=100))) == 1250
    assert needs(many, late) == 1250 + math.ceil((201 + 25) / math.e ** (25 / 25.25))


def test_no_more_than_max_tokens_is_expected() -> None:
    many = request(25, prompt=0, slots=50)
    assert needs(many, running(399, request(100, max_tokens=400))) == 1250  # it is gone by then
    assert needs(many, running(399, request(100, max_tokens=4000))) > 1450


def test_n_answers_share_one_prompt_and_grow_together() -> None:
    assert needs(request(100, prompt=10, slots=4), running(0, request(100, prompt=0))) == 510


def test_what_earlier_slices_made_is_held_again() -> None:
    assert needs(request(10, earlier=300), running(0, request(10))) == 520


@pytest.mark.parametrize("wild", [math.nan, math.inf, -math.inf, -5.0])
def test_a_wild_prediction_is_bounded_by_max_tokens(wild: float) -> None:
    odd = request(wild, p90=wild, max_tokens=50)
    assert 200 <= needs(odd, running(0, request(50))) <= 300


def test_a_predictor_that_is_off_by_ten_is_scaled_by_what_came() -> None:
    rule = KvForecast(capacity_tokens=1000, margin=0)
    others = [running(0, request(1000, prompt=0, p90=1200))]
    assert not rule.admits(request(1000, prompt=0, p90=1200), others)
    for _ in range(8):
        rule.observe(request(1000), output_tokens=100)
    assert rule.bias == pytest.approx(0.1)
    assert rule.admits(request(1000, prompt=0, p90=1200), others)


def test_a_few_answers_scale_nothing() -> None:
    rule = KvForecast()
    rule.observe(request(1000), output_tokens=1)
    assert rule.bias == 1


def test_it_tells_whether_it_has_refused() -> None:
    rule = KvForecast(capacity_tokens=100)
    others = [running(0, request(100))]
    assert not rule.blocked
    rule.admits(request(100), others)
    assert rule.blocked
    rule.admits(request(100), [])
    assert not rule.blocked


@pytest.mark.parametrize("margin", [-0.1, 1.0, math.nan])
def test_a_margin_outside_its_range_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        KvForecast(margin=margin)


@pytest.mark.parametrize("deviations", [-0.1, math.inf, math.nan])
def test_deviations_outside_their_range_are_refused(deviations: float) -> None:
    with pytest.raises(ValueError, match="deviations"):
        KvForecast(deviations=deviations)


@given(
    lengths=st.lists(
        st.tuples(st.integers(1, 500), st.integers(0, 600), st.integers(0, 500)), max_size=12
    ),
    capacity=st.integers(1, 5000),
    more=st.integers(0, 5000),
)
def test_more_memory_never_admits_less(
    lengths: list[tuple[int, int, int]], capacity: int, more: int
) -> None:
    others = [running(done, request(mean, p90=mean * 1.5)) for mean, done, _ in lengths]
    small = KvForecast(capacity_tokens=capacity).admits(request(100, p90=250), others)
    large = KvForecast(capacity_tokens=capacity + more).admits(request(100, p90=250), others)
    assert large or not small


def _no_bound(*_: object, **__: object) -> float:
    return math.inf


@given(
    lengths=st.lists(
        st.tuples(st.integers(1, 500), st.floats(1, 4), st.integers(0, 1500)),
        min_size=1,
        max_size=12,
    ),
    capacity=st.integers(1, 20_000),
)
def test_the_short_way_to_a_yes_agrees_with_the_long_one(
    lengths: list[tuple[int, float, int]], capacity: int
) -> None:
    others = [running(done, request(mean, p90=mean * ratio)) for mean, ratio, done in lengths]
    rule = KvForecast(capacity_tokens=capacity)
    short = rule.admits(request(100, p90=250), others)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kv_forecast, "_most", _no_bound)
        assert rule.admits(request(100, p90=250), others) == short
