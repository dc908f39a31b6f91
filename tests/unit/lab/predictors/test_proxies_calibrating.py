from __future__ import annotations

import numpy as np
import pytest
from llmservice_lab.predictors.dataset import Sample
from llmservice_lab.predictors.proxies.calibrating import (
    cross_figures,
    fit_calibration,
    scored,
    source_figures,
    weighted_quantile,
)
from llmservice_sidecar.adapters.predictors.proxies.onnx_proxy import Score


def answers(
    count: int, *, slope: float = 1.0, seed: int = 1
) -> tuple[list[Sample], dict[str, Score]]:
    """Prompts whose score tells ln tokens but for a normal error of one half."""
    rng = np.random.default_rng(seed)
    samples: list[Sample] = []
    scores: dict[str, Score] = {}
    for index, score in enumerate(rng.uniform(2, 7, count)):
        prompt = f"p{index}"
        scores[prompt] = Score(float(score), 1.0)
        tokens = round(float(np.exp(slope * (score - 4.5) + 4.5 + rng.normal(0, 0.5))))
        samples.append(
            Sample(
                source="s",
                prompt_id=prompt,
                group=prompt,
                prompt=prompt,
                prompt_tokens=1,
                model="m",
                output_tokens=max(tokens, 1),
                split="val",
            )
        )
    return samples, scores


def test_quantiles_and_mean_of_new_prompts_are_as_promised() -> None:
    table = fit_calibration(scored(*answers(2000), {}))
    figures = source_figures(scored(*answers(4000, seed=2), {}), table)["s"]
    assert figures.coverage_p50 == pytest.approx(0.5, abs=0.03)
    assert figures.coverage_p90 == pytest.approx(0.9, abs=0.03)
    mean, _, _ = table.log_quantiles(5.0, 1.0)
    assert mean == pytest.approx(5.0 + 0.5**2 / 2, abs=0.1)


def test_an_inverted_proxy_is_flattened_and_not_turned_round() -> None:
    table = fit_calibration(scored(*answers(1000, slope=-1.0), {}))
    assert len(set(table.log_tokens)) == 1
    table.check()


def test_equal_scores_make_one_knot() -> None:
    samples, scores = answers(200)
    table = fit_calibration(scored(samples, dict.fromkeys(scores, Score(1.0, 1.0)), {}))
    assert table.scores == pytest.approx((1.0,))


def test_two_scores_make_two_knots_however_often_they_occur() -> None:
    samples, scores = answers(100)
    two = {prompt: Score(float(score.value > 5), 1.0) for prompt, score in scores.items()}
    assert fit_calibration(scored(samples, two, {})).scores[1:-1] == pytest.approx((0.0, 1.0))


def test_predictions_keep_the_order_of_the_scores_even_beyond_those_seen() -> None:
    table = fit_calibration(scored(*answers(1000, slope=0.2), {}))
    scores = np.linspace(table.scores[0], table.scores[-1], 500)
    means = [table.log_quantiles(float(score), 1.0)[0] for score in scores]
    assert np.all(np.diff(means) > 0)
    assert table.scores[0] < 2
    assert table.scores[-1] > 7


def test_a_wide_spread_widens_the_quantile_of_its_prompt_alone() -> None:
    samples, scores = answers(1000)
    wide = {prompt: Score(score.value, 2.0) for prompt, score in scores.items()}
    plain, wider = (fit_calibration(scored(samples, s, {})) for s in (scores, wide))
    assert wider.log_quantiles(5.0, 2.0) == pytest.approx(plain.log_quantiles(5.0, 1.0))


def test_a_models_offset_is_taken_out_and_put_back() -> None:
    samples, scores = answers(1000)
    rows = scored(samples, scores, {"m": 1.0})
    assert rows.log_tokens.mean() == pytest.approx(
        scored(samples, scores, {}).log_tokens.mean() - 1.0
    )
    assert source_figures(rows, fit_calibration(rows))["s"].coverage_p50 == pytest.approx(
        0.5, abs=0.03
    )


def test_figures_of_validation_prompts_come_from_the_other_half() -> None:
    rows = scored(*answers(400), {})
    crossed, own = cross_figures(rows)["s"], source_figures(rows, fit_calibration(rows))["s"]
    assert crossed.tau_b == own.tau_b
    assert crossed.coverage_p90 != own.coverage_p90
    assert crossed.prompts == 400


def test_too_few_answers_of_a_model_have_no_rank_correlation() -> None:
    rows = scored(*answers(10), {})
    assert source_figures(rows, fit_calibration(rows))["s"].tau_b is None


def test_prompts_without_a_score_are_left_out() -> None:
    samples, scores = answers(10)
    del scores["p0"]
    assert len(scored(samples, scores, {}).score) == 9


def test_a_weighted_quantile_counts_weight_and_not_entries() -> None:
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 8.0])
    assert weighted_quantile(values, weights, 0.5) == 2.0
    assert weighted_quantile(values, weights, 1.0) == 3.0
