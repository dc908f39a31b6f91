"""Alerts and dashboards ask for metrics and labels that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from fakes.rendered_chart import CHART, ROOT, of_kind, render
from llmservice_api.activation import ActivatorReport
from llmservice_api.status_report import (
    ModelPredictionReport,
    PredictorReport,
    QueueReport,
    SecurityReport,
)
from llmservice_operator.metrics import Metrics
from llmservice_sidecar.activator.metrics import ActivatorMetrics
from llmservice_sidecar.adapters.telemetry_gauges import Gauges
from llmservice_sidecar.adapters.telemetry_metrics import PrometheusMetrics
from llmservice_sidecar.core.errors import Reason
from llmservice_sidecar.core.request import Outcome
from llmservice_sidecar.runtime import telemetry_names as names

Json = dict[str, Any]

DASHBOARDS: Final = sorted((CHART / "dashboards").glob("*.json"))
# vLLM 0.32's own and what the sidecar's merge adds to its page; Prometheus' own.
FOREIGN: Final = {
    "vllm:kv_cache_usage_perc",
    names.METRIC_ENGINE_WAITING,
    names.METRIC_ENGINE_WAITING_RAW,
    "up",
}
RUNBOOKS: Final = ROOT / "docs" / "runbooks"
SECTIONS: Final = ["Meaning", "Impact", "How to look", "Causes and how to mend them"]
_METRIC: Final = re.compile(
    r"\b(?:llmservice|gen_ai|vllm|process)[a-z0-9_]*(?::[a-z_]+)?_[a-z0-9_]+\b"
)
_SERIES: Final = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


def on_the_page(text: str) -> set[str]:
    """The series of a page, by its TYPE lines."""
    types = re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE)
    return {name + suffix for name, kind in types for suffix in _SERIES[kind]}


@pytest.fixture(scope="module")
def sidecar() -> set[str]:
    """What a sidecar's page has."""
    metrics = PrometheusMetrics(models=("m",))
    model = ModelPredictionReport(
        samples=9, trusted=True, tau=0.5, coverage_p50=0.5, coverage_p90=0.9
    )
    predictor = PredictorReport(
        mode="Enforce", kind="Default", state="Ready", tau=0.5, tau_lower=0.4, tau_upper=0.6,
        estimated_gain_ratio=0.5, models={"m": model}, fallbacks={"late": 1},
    )  # fmt: skip
    queue = QueueReport(
        policy="SSJF", order="SSJF", queued_requests=0, queued_tokens=0.0, in_flight_slots=0,
        limit_slots=1, limit_reason="slots", backlog_s=0.0, gamma_per_s=0.0,
    )  # fmt: skip
    metrics.watch(
        Gauges(
            queue=lambda: queue,
            predictor=lambda: predictor,
            engine_up=lambda: True,
            draining=lambda: False,
            dropped_spans=lambda: 0,
            security=lambda: SecurityReport(tls=True, tls_expires_at=1.0),
        )
    )
    return on_the_page(metrics.render()[0].decode())


@pytest.fixture(scope="module")
def operator() -> set[str]:
    """What the operator's page has."""
    metrics = Metrics(depth=lambda: 0, leading=lambda: True, blind_s=lambda: 0.0)
    return on_the_page(metrics.text().decode())


@pytest.fixture(scope="module")
def activator() -> set[str]:
    """What an activator's page has."""
    metrics = ActivatorMetrics()
    metrics.watch(lambda: ActivatorReport(synced=True))
    return on_the_page(metrics.render()[0].decode())


def alerts() -> list[Json]:
    """All alerts."""
    enabled = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
    (rule,) = of_kind(render({"monitoring": enabled}), "PrometheusRule")
    return [alert for group in rule["spec"]["groups"] for alert in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Every query of the chart, by where it stands."""
    for alert in alerts():
        yield alert["alert"], alert["expr"]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}", target["expr"]


def test_every_query_names_only_metrics_that_exist(
    sidecar: set[str], operator: set[str], activator: set[str]
) -> None:
    queries = list(expressions())
    assert len(queries) > 80
    for where, query in queries:
        outside_strings = re.sub(r'"[^"]*"', '""', query)
        asked = set(_METRIC.findall(outside_strings)) - {names.LABEL_MODEL}
        assert asked or "up{" in query, where
        assert asked <= sidecar | operator | activator | FOREIGN, where


def test_every_outcome_and_reason_in_a_query_is_one_that_is_counted() -> None:
    outcomes = {outcome.value for outcome in Outcome}
    reasons = {reason.value for reason in Reason}
    for where, query in expressions():
        for label, value in re.findall(r'\b(outcome|reason)\s*[!=]=?~?\s*"([^"]*)"', query):
            known = outcomes if label == "outcome" else reasons
            assert set(value.split("|")) <= known, where


def test_every_query_has_its_brackets_in_pairs() -> None:
    for where, query in expressions():
        outside_strings = re.sub(r'"[^"]*"', "", query)
        for left, right in ("()", "{}", "[]"):
            assert outside_strings.count(left) == outside_strings.count(right), where


def test_alerts_say_what_happened_and_how_bad_it_is() -> None:
    found = alerts()
    assert len({alert["alert"] for alert in found}) == len(found) >= 7
    for alert in found:
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        assert alert["for"]


def test_every_alert_leads_to_its_runbook_and_every_runbook_has_an_alert() -> None:
    found = alerts()
    for alert in found:
        url = alert["annotations"]["runbook_url"]
        assert url.startswith("https://")
        assert url.endswith(f"/docs/runbooks/{alert['alert']}.md")
    pages = {path.stem for path in RUNBOOKS.glob("LLMService*.md")}
    assert pages == {alert["alert"] for alert in found}
    listed = re.findall(r"\((\w+)\.md\)", (RUNBOOKS / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(pages)


def test_every_runbook_says_what_to_do() -> None:
    for path in RUNBOOKS.glob("LLMService*.md"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {path.stem}\n")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            assert (RUNBOOKS / target).is_file(), f"{path.name}: {target}"


def test_runbooks_can_be_elsewhere() -> None:
    rule = {"enabled": True, "runbookBaseUrl": "https://wiki.example.com/llm/"}
    (made,) = of_kind(render({"monitoring": {"prometheusRule": rule}}), "PrometheusRule")
    (group,) = made["spec"]["groups"]
    for alert in group["rules"]:
        url = alert["annotations"]["runbook_url"]
        assert url == f"https://wiki.example.com/llm/{alert['alert']}.md"


def test_page_explains_every_alert_and_no_other() -> None:
    page = (ROOT / "docs" / "chart.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| \[`(LLMService\w+)`\]\(", page, re.MULTILINE)
    assert sorted(explained) == sorted(alert["alert"] for alert in alerts())


def test_labels_for_routing_are_on_every_alert() -> None:
    rule = {"enabled": True, "alertLabels": {"team": "llm"}}
    (made,) = of_kind(render({"monitoring": {"prometheusRule": rule}}), "PrometheusRule")
    for group in made["spec"]["groups"]:
        assert all(alert["labels"]["team"] == "llm" for alert in group["rules"])


@pytest.mark.parametrize("path", DASHBOARDS, ids=[path.stem for path in DASHBOARDS])
def test_dashboard_can_be_imported(path: Path) -> None:
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    assert dashboard["uid"]
    assert {"datasource", "namespace"} <= {var["name"] for var in dashboard["templating"]["list"]}
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        if panel["type"] != "row":
            assert "**When to worry:**" in panel["description"], panel["title"]
            assert panel["targets"], panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=[path.stem for path in DASHBOARDS])
def test_dashboard_names_no_data_source_of_its_own(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    sources = set(re.findall(r'"uid": "([^"]+)"', text)) - {f"llmservice-{path.stem}"}
    assert sources == {"${datasource}"}
    variables = {var["name"] for var in json.loads(text)["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]+)\b", text)) - {"datasource"} <= variables


def test_links_to_traces_ask_for_the_chosen_services_and_time() -> None:
    links: list[tuple[str, str]] = [
        (link["url"], path.stem)
        for path in DASHBOARDS
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]
        for link in panel.get("fieldConfig", {}).get("defaults", {}).get("links", [])
    ]
    assert {stem for _, stem in links} == {"overview", "scheduling", "predictor"}
    for url, _ in links:
        panes = parse_qs(urlsplit(url).query)["panes"][0]
        pane: Json = json.loads(panes)["traces"]
        (query,) = pane["queries"]
        assert query["datasource"] == {"type": "tempo", "uid": "${traces}"}
        assert 'resource.service.name =~ "${llmservice:regex}"' in query["query"]
        assert pane["range"] == {"from": "${__from}", "to": "${__to}"}


def test_dashboards_are_in_config_maps_as_they_lie_in_the_chart() -> None:
    stems = [path.stem for path in DASHBOARDS]
    assert stems == ["operator", "overview", "predictor", "scheduling"]
    maps = of_kind(render({"dashboards": {"enabled": True, "namespace": "grafana"}}), "ConfigMap")
    found = {name: text for item in maps for name, text in item["data"].items()}
    assert {name: json.loads(text) for name, text in found.items()} == {
        path.name: json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS
    }
    assert {item["metadata"]["namespace"] for item in maps} == {"grafana"}
    assert all(item["metadata"]["labels"]["grafana_dashboard"] == "1" for item in maps)
