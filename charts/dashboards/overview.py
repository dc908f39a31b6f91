"""What a person on call opens first: is it well, is it large enough, do all parts work."""

from __future__ import annotations

from typing import Final

from dashboards.grafana import SERVICE, Dashboard, Panel, Query, Row, quantiles, rate

_BY: Final = "namespace, llmservice"
_NAME: Final = "{{namespace}}/{{llmservice}}"
_HELD: Final = 'namespace=~"$namespace", service=~"$llmservice"'


_COMPLETED: Final = ', outcome="completed"'


def _requests(more: str = "") -> str:
    return f"sum(rate(llmservice_requests_total{{{SERVICE}{more}}}[$__rate_interval]))"


_NOW: Final = Row(
    "Now",
    (
        Panel(
            title="Requests per second",
            shows="All requests that ended, whatever their outcome.",
            worry="it falls to nothing while clients still call.",
            unit="reqps",
            kind="stat",
            queries=(Query(_requests(), "requests"),),
        ),
        Panel(
            title="Completed",
            shows="The share of requests that were answered to their end.",
            worry="it is below 98 %. The panel *Not completed, by reason* says why.",
            unit="percentunit",
            kind="stat",
            highest=1,
            thresholds=(0.95, 0.98),
            falling=True,
            queries=(Query(f"{_requests(_COMPLETED)} / {_requests()}", "completed"),),
        ),
        Panel(
            title="Time to first token, p90",
            shows="Nine in ten completed requests had their first token within this time.",
            worry="it is above what your users accept. Compare it with the wait beside it: if they "
            "are alike, it is the queue; if not, it is the engine.",
            unit="s",
            kind="stat",
            queries=quantiles("gen_ai_server_time_to_first_token_seconds", SERVICE)[1:2],
        ),
        Panel(
            title="Wait, p90",
            shows="Nine in ten requests waited in the queue for less than this.",
            worry="it is above half a minute: alert LLMServiceQueueWaitHigh.",
            unit="s",
            kind="stat",
            thresholds=(10, 30),
            queries=quantiles("llmservice_queue_wait_seconds", SERVICE)[1:2],
        ),
        Panel(
            title="Longest wait",
            shows="The age of the request that waits longest of all that wait now.",
            worry="it is far above the p90: alert LLMServiceStarvation.",
            unit="s",
            kind="stat",
            thresholds=(60, 300),
            queries=(Query(f"max(llmservice_longest_wait_seconds{{{SERVICE}}})", "longest"),),
        ),
        Panel(
            title="Engines that answer",
            shows="The share of pods whose engine answers; a model that loads does not.",
            worry="it stays below 100 %: alert LLMServiceEngineDown.",
            unit="percentunit",
            kind="stat",
            highest=1,
            thresholds=(0.5, 1),
            falling=True,
            queries=(Query(f"avg(llmservice_engine_up{{{SERVICE}}})", "up"),),
        ),
    ),
    height=4,
)

_CLIENTS: Final = Row(
    "What clients see",
    (
        Panel(
            title="Requests",
            shows="How requests ended, by outcome. A dot leads to the trace of one of them.",
            worry="anything but *completed* becomes a visible part of the whole.",
            unit="reqps",
            stacked=True,
            queries=(
                Query(
                    rate("llmservice_requests_total", SERVICE, "outcome"),
                    "{{outcome}}",
                    exemplars=True,
                ),
            ),
            traces='span.llmservice.outcome != "completed"',
        ),
        Panel(
            title="Not completed, by reason",
            shows="Refused, evicted, cancelled and failed requests, by why.",
            worry="*failed* is there at all (alert LLMServiceRequestsFail), or *rejected* or "
            "*queue_share* stays (alert LLMServiceRefusesRequests). *cancelled* is the clients' "
            "own doing.",
            unit="reqps",
            stacked=True,
            queries=(
                Query(
                    rate(
                        "llmservice_requests_total",
                        f'{SERVICE}, outcome!="completed"',
                        "outcome, reason",
                    ),
                    "{{outcome}}: {{reason}}",
                    exemplars=True,
                ),
            ),
            traces='span.llmservice.outcome != "completed"',
        ),
        Panel(
            title="Request duration",
            shows="From the door to the last byte, waiting included, of completed requests.",
            worry="it grows while the lengths of answers do not.",
            unit="s",
            queries=quantiles(
                "gen_ai_server_request_duration_seconds", f'{SERVICE}, error_type=""'
            ),
            traces='span.llmservice.outcome = "completed"',
        ),
        Panel(
            title="Time to first token",
            shows="From the door to the first token, waiting included.",
            worry="it grows and the wait does not: prompts are longer, or the engine is slower.",
            unit="s",
            queries=quantiles("gen_ai_server_time_to_first_token_seconds", SERVICE),
            traces='name = "queue" && span.llmservice.queue.wait_s > 1',
        ),
        Panel(
            title="Time per output token",
            shows="After the first token: the pace at which readers see text appear.",
            worry="it grows with the load: the engine runs more at once than it can carry. "
            "`spec.queue.targetTimePerOutputTokenMilliseconds` bounds it.",
            unit="s",
            queries=quantiles("gen_ai_server_time_per_output_token_seconds", SERVICE),
        ),
    ),
)

_CAPACITY: Final = Row(
    "Is it large enough?",
    (
        Panel(
            title="Backlog",
            shows="Predicted seconds of work per slot, the mean over the replicas. Autoscalers "
            "follow it.",
            worry="it stays above two minutes: alert LLMServiceBacklogHigh. Add replicas.",
            unit="s",
            thresholds=(60, 120),
            queries=(Query(f"avg by ({_BY}) (llmservice_backlog_seconds{{{SERVICE}}})", _NAME),),
        ),
        Panel(
            title="Queued requests",
            shows="Requests that wait for a slot, over all replicas.",
            worry="it does not come back to zero between peaks.",
            queries=(Query(f"sum by ({_BY}) (llmservice_queued_requests{{{SERVICE}}})", _NAME),),
        ),
        Panel(
            title="Slots in use",
            shows="The share of slots that the engines work on.",
            worry="it is at 100 % all day (too small), or low while requests wait (see the "
            "dashboard on scheduling: what sets the limit).",
            unit="percentunit",
            queries=(
                Query(
                    f"sum by ({_BY}) (llmservice_in_flight_slots{{{SERVICE}}})"
                    f" / sum by ({_BY}) (llmservice_limit_slots{{{SERVICE}}})",
                    _NAME,
                ),
            ),
        ),
        Panel(
            title="KV cache in use",
            shows="Of each pod, as vLLM tells it.",
            worry="it is at 100 %: requests are preempted and computed again. The model has too "
            "little memory for `engine.maxNumSeqs`.",
            unit="percentunit",
            highest=1,
            thresholds=(0.9, 0.98),
            queries=(Query(f"vllm:kv_cache_usage_perc{{{SERVICE}}}", "{{pod}}"),),
        ),
    ),
)

_PARTS: Final = Row(
    "Do all parts work?",
    (
        Panel(
            title="Engines",
            shows="Pods by whether their engine answers, and those that drain.",
            worry="*down* stays after a model has had the time to load.",
            queries=(
                Query(f"sum(llmservice_engine_up{{{SERVICE}}})", "up"),
                Query(
                    f"count(llmservice_engine_up{{{SERVICE}}}) "
                    f"- sum(llmservice_engine_up{{{SERVICE}}})",
                    "down",
                ),
                Query(f"sum(llmservice_draining{{{SERVICE}}})", "draining"),
            ),
        ),
        Panel(
            title="Spans that were dropped",
            shows="Sampled spans that no collector took. Requests are never held up by them.",
            worry="it is above zero: alert LLMServiceTracingDrops. Traces have holes then.",
            unit="cps",
            queries=(Query(rate("llmservice_spans_dropped_total", SERVICE, _BY), _NAME),),
        ),
        Panel(
            title="Requests without a key",
            shows="Refused with 401. Nothing on the other panels counts them.",
            worry="it grows: a client has an old key, or somebody tries.",
            unit="reqps",
            queries=(
                Query(rate("llmservice_unauthenticated_requests_total", SERVICE, _BY), _NAME),
            ),
        ),
        Panel(
            title="Memory of sidecars",
            shows="Resident, of each sidecar.",
            worry="it grows for days, or comes near the limit of its container.",
            unit="bytes",
            queries=(Query(f"llmservice_process_resident_memory_bytes{{{SERVICE}}}", "{{pod}}"),),
        ),
    ),
)

_SLEEP: Final = Row(
    "Scale to zero (only with the activator)",
    (
        Panel(
            title="Held requests",
            shows="Requests that the activator holds until a replica is ready.",
            worry="they stay although a replica is ready.",
            queries=(
                Query(
                    f"sum by (namespace, service) (llmservice_activator_held_requests{{{_HELD}}})",
                    "{{namespace}}/{{service}}",
                ),
            ),
        ),
        Panel(
            title="How held requests ended",
            shows="By outcome.",
            worry="anything but *forwarded* is a visible part of the whole.",
            unit="reqps",
            stacked=True,
            queries=(
                Query(rate("llmservice_activator_requests_total", _HELD, "outcome"), "{{outcome}}"),
            ),
        ),
        Panel(
            title="Time until a replica answered",
            shows="Of requests that had to wait for one, of all services.",
            worry="it comes near the clients' own timeouts.",
            unit="s",
            queries=quantiles("llmservice_activator_hold_seconds", ""),
        ),
        Panel(
            title="Bytes in hand",
            shows="Bodies of held requests, of each pod of the activator.",
            worry="it comes near `activator.maxHeldMebibytes`: what is beyond is refused.",
            unit="bytes",
            queries=(Query("llmservice_activator_held_bytes", "{{pod}}"),),
        ),
    ),
)

SERVICES: Final = (
    ("namespace", "Namespace", "label_values(llmservice_engine_up, namespace)"),
    (
        "llmservice",
        "LLMService",
        'label_values(llmservice_engine_up{namespace=~"$namespace"}, llmservice)',
    ),
)

DASHBOARD: Final = Dashboard(
    name="overview",
    title="LLMService / Overview",
    description="Is it well, is it large enough, do all parts work?",
    variables=SERVICES,
    rows=(_NOW, _CLIENTS, _CAPACITY, _PARTS, _SLEEP),
)
