"""Who waits, how long, why, and what the order makes of it."""

from __future__ import annotations

from typing import Final

from dashboards.grafana import SERVICE, Dashboard, Panel, Query, Row, quantiles, rate
from dashboards.overview import SERVICES

_BY: Final = "namespace, llmservice"
_NAME: Final = "{{namespace}}/{{llmservice}}"


def _sum(metric: str) -> str:
    return f"sum by ({_BY}) ({metric}{{{SERVICE}}})"


_QUEUE: Final = Row(
    "The queue",
    (
        Panel(
            title="Queued requests",
            shows="Requests that wait for a slot, over all replicas.",
            worry="it does not come back to zero between peaks.",
            queries=(Query(_sum("llmservice_queued_requests"), _NAME),),
            traces='name = "queue" && span.llmservice.queue.depth > 0',
        ),
        Panel(
            title="Wait",
            shows="From arrival to admission or eviction; who finds a slot waits 0 s. A dot leads "
            "to a trace.",
            worry="the p90 is above half a minute: alert LLMServiceQueueWaitHigh.",
            unit="s",
            thresholds=(10, 30),
            queries=quantiles("llmservice_queue_wait_seconds", SERVICE),
            traces='name = "queue" && span.llmservice.queue.wait_s > 5',
        ),
        Panel(
            title="Predicted over real wait",
            shows="Of a sample of those that waited; 1 is exact. Deadlines are judged by it.",
            worry="the median is below 0.5 or above 2: deadlines are refused wrongly.",
            queries=quantiles("llmservice_queue_wait_error_ratio", SERVICE),
        ),
        Panel(
            title="Sent away",
            shows="Refused at the door and evicted while waiting, by why.",
            worry="*queue_timeout* (waited for nothing) or *queue_full* (too small) stay.",
            unit="reqps",
            stacked=True,
            queries=(
                Query(
                    rate(
                        "llmservice_requests_total",
                        f'{SERVICE}, outcome=~"rejected|evicted"',
                        "outcome, reason",
                    ),
                    "{{outcome}}: {{reason}}",
                    exemplars=True,
                ),
            ),
            traces='span.llmservice.outcome =~ "rejected|evicted"',
        ),
    ),
)

_STARVATION: Final = Row(
    "Does anybody starve?",
    (
        Panel(
            title="Longest wait",
            shows="The age of the request that waits longest now, the worst replica's.",
            worry="it rises in a straight line while others are served: alert "
            "LLMServiceStarvation. Raise `spec.queue.tailWeightPercent`.",
            unit="s",
            thresholds=(60, 300),
            queries=(
                Query(f"max by ({_BY}) (llmservice_longest_wait_seconds{{{SERVICE}}})", _NAME),
            ),
            traces='name = "queue" && span.llmservice.overtaken_by > 20',
        ),
        Panel(
            title="Slowdown",
            shows="Seconds from the door to the end over seconds in the engine, of completed "
            "requests: 1 did not wait, 3 waited twice as long as it ran. A fair order gives short "
            "and long requests alike slowdowns.",
            worry="the p99 is above 20 while the median is near 1: few pay for many.",
            queries=quantiles("llmservice_slowdown_ratio", SERVICE),
            traces='name = "queue" && span.llmservice.overtaken_by > 20',
        ),
        Panel(
            title="Strength of waiting",
            shows="Gamma: how strongly waiting counts against size in the order now. 0: not.",
            worry="never by itself; it follows the backlog.",
            queries=(Query(f"avg by ({_BY}) (llmservice_gamma_per_second{{{SERVICE}}})", _NAME),),
        ),
        Panel(
            title="Estimated gain",
            shows="Mean wait under SSJF over mean wait in arrival order, estimated from the same "
            "requests; in Shadow, too. 60 % saves four seconds in ten.",
            worry="it is at 100 % or above while requests queue: predictions do not help.",
            unit="percentunit",
            queries=(
                Query(f"avg by ({_BY}) (llmservice_estimated_gain_ratio{{{SERVICE}}})", _NAME),
            ),
        ),
    ),
)

_GATE: Final = Row(
    "The gate",
    (
        Panel(
            title="Slots in use and their limit",
            shows="The legend of the limit says what sets it: `slots` (the engine's own), "
            "`max_concurrency` (the spec), `time_per_output_token` (the target) or `kv_cache`.",
            worry="`kv_cache` sets the limit as a rule: too little memory.",
            queries=(
                Query(_sum("llmservice_in_flight_slots"), f"{_NAME} in use"),
                Query(
                    f"sum by ({_BY}, reason) (llmservice_limit_slots{{{SERVICE}}})",
                    f"{_NAME} limit: {{{{reason}}}}",
                ),
            ),
        ),
        Panel(
            title="Look-ahead",
            shows="Slots beyond the limit's own reason, so that none stands empty until the "
            "sidecar notices that it is free. They are requests in the engine's queue.",
            worry="it is a large part of the limit: very short answers, or a slow loop.",
            queries=(Query(_sum("llmservice_look_ahead_slots"), _NAME),),
        ),
        Panel(
            title="Backlog",
            shows="Predicted seconds of work per slot, the mean over the replicas.",
            worry="it stays above two minutes: alert LLMServiceBacklogHigh.",
            unit="s",
            thresholds=(60, 120),
            queries=(Query(f"avg by ({_BY}) (llmservice_backlog_seconds{{{SERVICE}}})", _NAME),),
        ),
        Panel(
            title="Predicted tokens that wait",
            shows="Output tokens that the queue is expected to ask for.",
            worry="it is near `spec.queue.maxQueuedTokens`: what is beyond is refused.",
            queries=(Query(_sum("llmservice_queued_tokens"), _NAME),),
        ),
    ),
)

_ORDER: Final = Row(
    "Whose order is it?",
    (
        Panel(
            title="Replicas by order",
            shows="What is configured, what is served, and the predictor's mode. Arrival order is "
            "served in Shadow, while nothing is known yet, and while predictions do not rank.",
            worry="`FCFS` is served where SSJF and Enforce are configured.",
            queries=(
                Query(
                    f"count by ({_BY}, policy, order, mode) "
                    f"(llmservice_scheduling_info{{{SERVICE}}})",
                    f"{_NAME}: {{{{policy}}}}, served {{{{order}}}} ({{{{mode}}}})",
                ),
            ),
        ),
        Panel(
            title="Requests in the engine's own queue",
            shows="vLLM's queue alone. Near zero is the proof that the order is the sidecar's.",
            worry="it is above the look-ahead: `maxConcurrency` is too high, or requests reach "
            "the engine past the sidecar.",
            queries=(Query(_sum("llmservice_engine_requests_waiting"), _NAME),),
            traces='name = "llm_request" && span.gen_ai.latency.time_in_queue > 0.05',
        ),
        Panel(
            title="Waiting, as an endpoint picker sees it",
            shows="vLLM's gauge with the sidecar's queue added, by pod.",
            worry="one pod has far more than the others: requests are not spread.",
            queries=(Query(f"sum by (pod) (vllm:num_requests_waiting{{{SERVICE}}})", "{{pod}}"),),
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    name="scheduling",
    title="LLMService / Scheduling",
    description="Who waits, how long and why; whether anybody starves; what the order is worth.",
    variables=SERVICES,
    rows=(_QUEUE, _STARVATION, _GATE, _ORDER),
)
