"""For every alert series in which it fires, and series in which it must not.

Values are in promtool's notation, one a minute: `1x4 0x30` is five ones, then zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Series = Mapping[str, str]

SERVICE: Final = {"namespace": "team", "llmservice": "chat"}
_POD: Final = 'namespace="team", llmservice="chat", pod="chat-0"'
_SECOND_POD: Final = 'namespace="team", llmservice="chat", pod="chat-1"'
_OPERATOR: Final = 'namespace="system"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`met_at`: the minute from which the condition holds; the alert's own `for` comes on top.

    `still_at`: a later minute, at which it must still fire.
    """

    alert: str
    sick: Series
    met_at: int
    still_at: int | None = None
    calm: Sequence[Series]
    summary: str
    labels: Mapping[str, str]


def _requests(**per_minute: int) -> Series:
    """Requests by `outcome__reason`."""
    series: dict[str, str] = {}
    for name, count in per_minute.items():
        outcome, _, reason = name.partition("__")
        labels = f'{_POD}, outcome="{outcome}", reason="{reason}"'
        series[f"llmservice_requests_total{{{labels}}}"] = f"0+{count}x90"
    return series


def _waits(up_to_s: str, lower_s: str) -> Series:
    """Sixty requests a minute that all wait between two bounds."""
    bucket = "llmservice_queue_wait_seconds_bucket"
    return {
        f'{bucket}{{{_POD}, le="{lower_s}"}}': "0x90",
        f'{bucket}{{{_POD}, le="{up_to_s}"}}': "0+60x90",
        f'{bucket}{{{_POD}, le="+Inf"}}': "0+60x90",
    }


def _coverage(share: float, samples: int) -> Series:
    model = 'gen_ai_request_model="tiny", quantile="0.9"'
    return {
        f"llmservice_predictor_coverage{{{_POD}, {model}}}": f"{share}x90",
        f"llmservice_predictor_calibration_samples{{{_POD}}}": f"{samples}x90",
    }


CASES: Final = (
    Case(
        alert="LLMServiceEngineDown",
        sick={f"llmservice_engine_up{{{_POD}}}": "1x4 0x90"},
        met_at=5,
        still_at=70,
        calm=(
            {f"llmservice_engine_up{{{_POD}}}": "1x90"},
            # Its successor has the same name, as in a LeaderWorkerSet, and loads its model.
            {
                f'llmservice_engine_up{{{_POD}, instance="10.0.0.1:8000"}}': "1x4 stale",
                f'llmservice_engine_up{{{_POD}, instance="10.0.0.2:8000"}}': "_x4 0x90",
            },
            {f"llmservice_engine_up{{{_POD}}}": "0x90"},  # it loads its model
            {
                f"llmservice_engine_up{{{_POD}}}": "1x4 0x90",
                f"llmservice_draining{{{_POD}}}": "0x4 1x90",
            },
        ),
        summary="The engine in pod team/chat-0 does not answer.",
        labels=SERVICE | {"pod": "chat-0"},
    ),
    Case(
        alert="LLMServiceRefusesRequests",
        # Some are refused at the door, some gave their place in the queue to others.
        sick=_requests(rejected__queue_full=2, evicted__queue_share=4, completed__stop=54),
        met_at=1,
        calm=(
            _requests(rejected__queue_full=1, evicted__queue_share=1, completed__stop=58),
            _requests(evicted__queue_timeout=30, completed__stop=30),
            _requests(rejected__invalid_request=30, completed__stop=30),
        ),
        summary="team/chat refuses 10% of its requests.",
        labels=SERVICE,
    ),
    Case(
        alert="LLMServiceRequestsFail",
        sick=_requests(failed__engine_down=3, completed__stop=57),
        met_at=1,
        calm=(
            _requests(failed__engine_down=1, completed__stop=99),
            _requests(cancelled__client_gone=50, completed__stop=50),
        ),
        summary="team/chat fails 5% of its requests.",
        labels=SERVICE,
    ),
    Case(
        alert="LLMServiceQueueWaitHigh",
        sick=_waits("60", "20"),  # p90 is 20 + 0.9 x 40
        met_at=1,
        calm=(_waits("20", "10"),),
        summary="One request in ten of team/chat waits for more than 56s.",
        labels=SERVICE,
    ),
    Case(
        alert="LLMServiceStarvation",
        sick={f"llmservice_longest_wait_seconds{{{_POD}}}": "0+60x90"},
        met_at=6,
        calm=(
            {f"llmservice_longest_wait_seconds{{{_POD}}}": "250x90"},
            # Two that waited long, and were served in time.
            {f"llmservice_longest_wait_seconds{{{_POD}}}": "0+60x7 0+60x6 0x80"},
        ),
        summary="A request of team/chat has waited for 8m 0s.",
        labels=SERVICE,
    ),
    Case(
        alert="LLMServiceBacklogHigh",
        sick={
            f"llmservice_backlog_seconds{{{_POD}}}": "200x90",
            f"llmservice_backlog_seconds{{{_SECOND_POD}}}": "100x90",
        },
        met_at=0,
        calm=(
            {f"llmservice_backlog_seconds{{{_POD}}}": "110x90"},
            {f"llmservice_backlog_seconds{{{_POD}}}": "0+20x14 0x80"},  # a burst
        ),
        summary="team/chat has 2m 30s of work waiting.",
        labels=SERVICE,
    ),
    Case(
        alert="LLMServicePredictorDoesNotRank",
        sick={f"llmservice_predictor_tau_upper{{{_POD}}}": "0.05x90"},
        met_at=0,
        calm=(
            {f"llmservice_predictor_tau_upper{{{_POD}}}": "0.5x90"},
            {
                f"llmservice_predictor_tau_upper{{{_POD}}}": "0.05x90",
                f"llmservice_predictor_tau_upper{{{_SECOND_POD}}}": "0.5x90",
            },
        ),
        summary="Predictions of team/chat do not rank.",
        labels=SERVICE,
    ),
    Case(
        alert="LLMServiceCalibrationDrift",
        sick=_coverage(0.6, 500),
        met_at=0,
        calm=(_coverage(0.88, 500), _coverage(0.6, 50)),
        summary="Only 60% of the answers of tiny in team/chat are within their predicted p90.",
        labels=SERVICE | {"gen_ai_request_model": "tiny"},
    ),
    Case(
        alert="LLMServiceTracingDrops",
        sick={f"llmservice_spans_dropped_total{{{_POD}}}": "0+60x90"},
        met_at=1,
        calm=({f"llmservice_spans_dropped_total{{{_POD}}}": "0+60x5 300x90"},),
        summary="team/chat loses 1 spans a second.",
        labels=SERVICE,
    ),
    Case(
        alert="LLMServiceSecretRefused",
        sick={f'llmservice_secret_refused{{{_POD}, secret="tls"}}': "1x90"},
        met_at=0,
        calm=({f'llmservice_secret_refused{{{_POD}, secret="tls"}}': "0x90"},),
        summary="Of the tls Secret of team/chat not all is in use.",
        labels=SERVICE | {"secret": "tls"},
    ),
    Case(
        alert="LLMServiceCertificateExpires",
        # promtool's clock begins at the epoch: it ends in two days.
        sick={f"llmservice_tls_certificate_expires_timestamp_seconds{{{_POD}}}": "172800x90"},
        met_at=0,
        calm=({f"llmservice_tls_certificate_expires_timestamp_seconds{{{_POD}}}": "864000x90"},),
        summary="The certificate of team/chat ends in 1d 23h 45m 0s.",
        labels=SERVICE,
    ),
    Case(
        alert="LLMServiceOperatorDown",
        sick={f'up{{job="llmservice", {_OPERATOR}}}': "1x4 0x90"},
        met_at=5,
        calm=(
            {f'up{{job="llmservice", {_OPERATOR}}}': "1x90"},
            {f'up{{job="llmservice", {_OPERATOR}}}': "1x9 0x7 1x90"},  # it moves to another node
        ),
        summary="The LLMService operator is down.",
        labels={},
    ),
    Case(
        alert="LLMServiceOperatorErrors",
        sick={
            f'llmservice_operator_reconcile_errors_total{{{_OPERATOR}, reason="Conflict"}}': (
                "0+1x90"
            )
        },
        met_at=1,
        calm=(
            {
                f'llmservice_operator_reconcile_errors_total{{{_OPERATOR}, reason="Conflict"}}': (
                    "0+1x3 3x90"
                )
            },
        ),
        summary="The LLMService operator fails again and again.",
        labels={},
    ),
    Case(
        alert="LLMServiceNotReady",
        sick={
            f"llmservice_operator_services{{{_OPERATOR}, "
            'condition="Ready", status="False"}': "2x200"
        },
        met_at=0,
        calm=(
            {
                f"llmservice_operator_services{{{_OPERATOR}, "
                'condition="Ready", status="True"}': "2x200"
            },
        ),
        summary="2 LLMServices are not ready.",
        labels={},
    ),
)
