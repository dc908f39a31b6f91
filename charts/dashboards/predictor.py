"""How good the predicted lengths are, whether they come in time, and what they are worth."""

from __future__ import annotations

from typing import Final

from dashboards.grafana import SERVICE, Dashboard, Panel, Query, Row, quantiles, rate
from dashboards.overview import SERVICES

_BY: Final = "namespace, llmservice"
_NAME: Final = "{{namespace}}/{{llmservice}}"
_MODEL: Final = "gen_ai_request_model"

_RANK: Final = Row(
    "Do predictions rank?",
    (
        Panel(
            title="Rank correlation",
            shows="Kendall's tau of prediction and truth over the latest requests, the worst "
            "replica's: 1 is the right order, 0 a random one. Between the bounds with 95 %.",
            worry="the upper bound is below 0.1: alert LLMServicePredictorDoesNotRank. Arrival "
            "order is served then.",
            lowest=-1,
            highest=1,
            queries=(
                Query(f"min by ({_BY}) (llmservice_predictor_tau{{{SERVICE}}})", _NAME),
                Query(
                    f"min by ({_BY}) (llmservice_predictor_tau_lower{{{SERVICE}}})",
                    f"{_NAME} lower",
                ),
                Query(
                    f"min by ({_BY}) (llmservice_predictor_tau_upper{{{SERVICE}}})",
                    f"{_NAME} upper",
                ),
            ),
        ),
        Panel(
            title="Rank correlation by model",
            shows="The same for each model and adapter.",
            worry="one of several is far below the others: it may need a predictor of its own.",
            lowest=-1,
            highest=1,
            queries=(
                Query(
                    f"min by ({_BY}, {_MODEL}) (llmservice_predictor_model_tau{{{SERVICE}}})",
                    f"{_NAME} {{{{{_MODEL}}}}}",
                ),
            ),
        ),
        Panel(
            title="Models that are ordered by prediction",
            shows="1: by its predictions; 0: by the running mean of its answers.",
            worry="it is 0 for long: see its rank correlation.",
            highest=1,
            queries=(
                Query(
                    f"min by ({_BY}, {_MODEL}) (llmservice_predictor_model_trusted{{{SERVICE}}})",
                    f"{_NAME} {{{{{_MODEL}}}}}",
                ),
            ),
        ),
        Panel(
            title="Requests it is judged by",
            shows="Complete answers in the window, the fewest of any replica.",
            worry="it stays below `calibration.minSamples`: nothing is known yet.",
            queries=(
                Query(
                    f"min by ({_BY}) (llmservice_predictor_calibration_samples{{{SERVICE}}})",
                    _NAME,
                ),
            ),
        ),
    ),
)

_CALIBRATION: Final = Row(
    "Are they calibrated?",
    (
        Panel(
            title="Answers within the predicted p90",
            shows="The share of answers not longer than their p90, the worst replica's. 90 % is "
            "right. A model has a line once a replica has `calibration.minSamples` answers of it.",
            worry="it is below 75 %: alert LLMServiceCalibrationDrift. Memory forecasts and "
            "deadlines rest on it.",
            unit="percentunit",
            highest=1,
            thresholds=(0.75, 0.85),
            falling=True,
            queries=(
                Query(
                    f"min by ({_BY}, {_MODEL}) "
                    f'(llmservice_predictor_coverage{{{SERVICE}, quantile="0.9"}})',
                    f"{_NAME} {{{{{_MODEL}}}}}",
                ),
            ),
            traces="span.llmservice.within_p90 = false",
        ),
        Panel(
            title="Answers within the predicted median",
            shows="The share of answers not longer than their p50. 50 % is right. Predictors that "
            "know no median have no line.",
            worry="it is below 30 % or above 70 %.",
            unit="percentunit",
            highest=1,
            queries=(
                Query(
                    f"avg by ({_BY}, {_MODEL}) "
                    f'(llmservice_predictor_coverage{{{SERVICE}, quantile="0.5"}})',
                    f"{_NAME} {{{{{_MODEL}}}}}",
                ),
            ),
        ),
        Panel(
            title="Predicted over actual length",
            shows="Of completed requests; 1 is exact.",
            worry="the median leaves 0.5 to 2: the backlog in seconds is wrong by as much.",
            queries=quantiles("llmservice_prediction_error_ratio", SERVICE),
            traces='span.llmservice.outcome = "completed"',
        ),
    ),
)

_TIME: Final = Row(
    "Do they come in time?",
    (
        Panel(
            title="Time of a prediction",
            shows="From the question to the word that the request stands by.",
            worry="the p99 is at `predictor.timeoutMilliseconds`: most come late.",
            unit="s",
            queries=quantiles("llmservice_prediction_duration_seconds", SERVICE),
        ),
        Panel(
            title="Predictions by source",
            shows="`model`: the predictor; `history`: the running mean; `prior`: a guess before "
            "there is one.",
            worry="`model` is not most of them after the first minutes.",
            unit="ops",
            stacked=True,
            queries=(Query(rate("llmservice_predictions_total", SERVICE, "source"), "{{source}}"),),
        ),
        Panel(
            title="Fallbacks, by reason",
            shows="Requests that got the running mean: the model was `late`, gave `no_answer` "
            "(failed, or had no opinion), was `overloaded`, or there is `no_model`. None fails.",
            worry="it is a large part of all predictions.",
            unit="ops",
            stacked=True,
            queries=(
                Query(
                    rate("llmservice_predictor_fallbacks_total", SERVICE, "reason"), "{{reason}}"
                ),
            ),
        ),
        Panel(
            title="Late and failed predictions",
            shows="By service. A late one still counts when it comes, a failed one never.",
            worry="*failed* is above zero: the sidecar's log says where.",
            unit="ops",
            queries=(
                Query(rate("llmservice_predictor_timeouts_total", SERVICE, _BY), f"{_NAME} late"),
                Query(rate("llmservice_predictor_failures_total", SERVICE, _BY), f"{_NAME} failed"),
            ),
        ),
    ),
)

_WORTH: Final = Row(
    "What are they worth?",
    (
        Panel(
            title="Estimated gain",
            shows="Mean wait under SSJF over mean wait in arrival order, estimated from the same "
            "requests. Look at it in Shadow before you enforce.",
            worry="it is at 100 % or above while requests queue.",
            unit="percentunit",
            queries=(
                Query(f"avg by ({_BY}) (llmservice_estimated_gain_ratio{{{SERVICE}}})", _NAME),
            ),
        ),
        Panel(
            title="Replicas by order and mode",
            shows="What is served, and the predictor's mode.",
            worry="`FCFS` is served in Enforce for longer than the first requests.",
            queries=(
                Query(
                    f"count by ({_BY}, order, mode) (llmservice_scheduling_info{{{SERVICE}}})",
                    f"{_NAME}: {{{{order}}}} ({{{{mode}}}})",
                ),
            ),
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    name="predictor",
    title="LLMService / Predictor",
    description="How good the predicted lengths are, and what they are worth.",
    variables=SERVICES,
    rows=(_RANK, _CALIBRATION, _TIME, _WORTH),
)
