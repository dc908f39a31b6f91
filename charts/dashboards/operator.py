"""The operator: the state of all services, and whether it keeps up with them."""

from __future__ import annotations

from typing import Final

from dashboards.grafana import Dashboard, Panel, Query, Row, quantiles, rate

_WHERE: Final = 'namespace=~"$namespace"'

_SERVICES: Final = Row(
    "Services",
    (
        Panel(
            title="Ready",
            shows="LLMServices by whether they are Ready.",
            worry="*False* stays for an hour: alert LLMServiceNotReady.",
            queries=(
                Query(
                    "sum by (status) "
                    f'(llmservice_operator_services{{{_WHERE}, condition="Ready"}})',
                    "{{status}}",
                ),
            ),
        ),
        Panel(
            title="Conditions that are not True",
            shows="LLMServices by condition and status. `kubectl get llmsvc -A` says which.",
            worry="a condition that should be True stays here.",
            stacked=True,
            queries=(
                Query(
                    "sum by (condition, status) "
                    f'(llmservice_operator_services{{{_WHERE}, status!="True"}})',
                    "{{condition}} {{status}}",
                ),
            ),
        ),
        Panel(
            title="Questions to sidecars",
            shows="Polls of `/status` by result.",
            worry="*unreachable* or *late* stay: a NetworkPolicy, or pods that are overloaded.",
            unit="ops",
            stacked=True,
            queries=(
                Query(rate("llmservice_operator_polls_total", _WHERE, "result"), "{{result}}"),
            ),
        ),
    ),
)

_WORK: Final = Row(
    "Work",
    (
        Panel(
            title="Time of a reconciliation",
            shows="One look at one service.",
            worry="the p99 is above five seconds: the API server is slow.",
            unit="s",
            queries=quantiles("llmservice_operator_reconcile_seconds", _WHERE),
        ),
        Panel(
            title="Errors and retries",
            shows="Looks that failed, by reason, and looks that were taken because one had failed.",
            worry="they go on: alert LLMServiceOperatorErrors. The log names the service.",
            unit="ops",
            queries=(
                Query(
                    rate("llmservice_operator_reconcile_errors_total", _WHERE, "reason"),
                    "{{reason}}",
                ),
                Query(
                    f"sum(rate(llmservice_operator_retries_total{{{_WHERE}}}[$__rate_interval]))",
                    "retries",
                ),
            ),
        ),
        Panel(
            title="Services that wait for a look",
            shows="Waiting or being looked at.",
            worry="it grows and does not come back: too many services for one operator.",
            queries=(Query(f"sum(llmservice_operator_queue_depth{{{_WHERE}}})", "waiting"),),
        ),
        Panel(
            title="Wait for a look",
            shows="From the change to the look.",
            worry="the p99 is above ten seconds.",
            unit="s",
            queries=quantiles("llmservice_operator_queue_wait_seconds", _WHERE),
        ),
    ),
)

_PROCESS: Final = Row(
    "Process",
    (
        Panel(
            title="Leaders",
            shows="Operators that may write. Exactly one.",
            worry="it is not 1 for longer than a change of leaders takes (15 s).",
            queries=(Query(f"sum(llmservice_operator_leader{{{_WHERE}}})", "leaders"),),
        ),
        Panel(
            title="Requests to the API server",
            shows="By verb and result. In a settled cluster nothing is written.",
            worry="writes go on although nobody changes anything: two controllers fight.",
            unit="reqps",
            stacked=True,
            queries=(
                Query(
                    rate("llmservice_operator_api_requests_total", _WHERE, "verb, result"),
                    "{{verb}} {{result}}",
                ),
            ),
        ),
        Panel(
            title="Unseen change",
            shows="How long a change of a service has gone unseen. Above 300 s the operator is "
            "restarted.",
            worry="it is above zero for minutes: the watch is broken.",
            unit="s",
            thresholds=(60, 300),
            queries=(
                Query(
                    f"max by (pod) (llmservice_operator_unseen_change_seconds{{{_WHERE}}})",
                    "{{pod}}",
                ),
            ),
        ),
        Panel(
            title="Memory",
            shows="Resident, of each pod of the operator.",
            worry="it comes near the limit of its container.",
            unit="bytes",
            queries=(
                Query(
                    f"process_resident_memory_bytes{{{_WHERE}}}"
                    f" and on (pod) llmservice_operator_leader{{{_WHERE}}}",
                    "{{pod}}",
                ),
            ),
        ),
    ),
)

DASHBOARD: Final = Dashboard(
    name="operator",
    title="LLMService / Operator",
    description="The state of all services, and whether the operator keeps up with them.",
    variables=(("namespace", "Namespace", "label_values(llmservice_operator_leader, namespace)"),),
    rows=(_SERVICES, _WORK, _PROCESS),
)
