"""Grafana's JSON (schema 39: versions 11 and 12) from what a dashboard is about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

Json = dict[str, Any]

# The variables of a dashboard stand in for data sources: nobody's uid is written down here.
METRICS: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
SERVICE: Final = 'namespace=~"$namespace", llmservice=~"$llmservice"'
_TRACES: Final[Json] = {"type": "tempo", "uid": "${traces}"}
_QUANTILES: Final = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query and the legend of its lines. `exemplars`: dots that lead to traces."""

    expr: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What is shown, and the two things its text must say: what it is, and when to worry."""

    title: str
    shows: str
    worry: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"  # or "stat"
    stacked: bool = False
    lowest: float | None = 0
    highest: float | None = None
    # From this value on it is orange, red. Falling: up to it is worse, as of shares that are good.
    thresholds: tuple[float, float] | None = None
    falling: bool = False
    traces: str = ""  # TraceQL: a link from the panel to such traces


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side, with a title above them."""

    title: str
    panels: Sequence[Panel]
    height: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard. `variables`: names and the `label_values` query of each."""

    name: str
    title: str
    description: str
    variables: Sequence[tuple[str, str, str]]
    rows: Sequence[Row]

    def text(self) -> str:
        """The file as Grafana imports it."""
        panels = _laid_out(self.rows)
        variables = [_source("datasource", "Metrics", "prometheus")]
        if any(panel.traces for row in self.rows for panel in row.panels):
            variables.append(_source("traces", "Traces (Tempo)", "tempo"))
        variables += [_variable(*variable) for variable in self.variables]
        dashboard: Json = {
            "title": self.title,
            "uid": f"llmservice-{self.name}",
            "description": self.description,
            "tags": ["llmservice"],
            "schemaVersion": 39,
            "version": 1,
            "editable": True,
            "timezone": "",
            "refresh": "30s",
            "graphTooltip": 1,
            "time": {"from": "now-1h", "to": "now"},
            "annotations": {"list": []},
            "links": [_link_to_the_others()],
            "templating": {"list": variables},
            "panels": panels,
        }
        return json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"


def quantiles(metric: str, selector: str, *, by: str = "") -> tuple[Query, ...]:
    """The median, p90 and p99 of a histogram, with exemplars."""
    labels, legend = (f", {by}", f"{{{{{by}}}}} ") if by else ("", "")
    return tuple(
        Query(
            f"histogram_quantile({share}, sum by (le{labels}) "
            f"(rate({metric}_bucket{{{selector}}}[$__rate_interval])))",
            legend + name,
            exemplars=True,
        )
        for share, name in _QUANTILES
    )


def rate(metric: str, selector: str, by: str) -> str:
    """Events per second by labels."""
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def _laid_out(rows: Sequence[Row]) -> list[Json]:
    panels: list[Json] = []
    y = 0
    for row in rows:
        place = {"h": 1, "w": _WIDTH, "x": 0, "y": y}
        title: Json = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        panels.append({"id": len(panels) + 1, **title, "gridPos": place})
        width = _WIDTH // len(row.panels)
        for column, panel in enumerate(row.panels):
            place = {"h": row.height, "w": width, "x": column * width, "y": y + 1}
            panels.append({"id": len(panels) + 1, **_panel(panel), "gridPos": place})
        y += 1 + row.height
    return panels


def _panel(panel: Panel) -> Json:
    stat = panel.kind == "stat"
    defaults: Json = {"unit": panel.unit, "links": [_trace_link(panel)] if panel.traces else []}
    defaults |= {} if panel.lowest is None else {"min": panel.lowest}
    defaults |= {} if panel.highest is None else {"max": panel.highest}
    defaults["thresholds"] = {"mode": "absolute", "steps": _steps(panel)}
    if stat:
        defaults["color"] = {"mode": "thresholds"}
        options: Json = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "area",
            "textMode": "auto",
        }
    else:
        custom: Json = {"thresholdsStyle": {"mode": "line" if panel.thresholds else "off"}}
        if panel.stacked:
            custom |= {"stacking": {"mode": "normal"}, "fillOpacity": 30}
        defaults["custom"] = custom
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": f"{panel.shows}\n\n**When to worry:** {panel.worry}",
        "datasource": METRICS,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "datasource": METRICS,
                "expr": query.expr,
                "legendFormat": query.legend,
                "exemplar": query.exemplars,
                "refId": chr(ord("A") + number),
            }
            for number, query in enumerate(panel.queries)
        ],
        "options": options,
    }


def _steps(panel: Panel) -> list[Json]:
    if panel.thresholds is None:
        return [{"color": "green", "value": None}]
    first, second = panel.thresholds
    colours = ("red", "orange", "green") if panel.falling else ("green", "orange", "red")
    return [
        {"color": colour, "value": value}
        for colour, value in zip(colours, (None, first, second), strict=True)
    ]


def _trace_link(panel: Panel) -> Json:
    """To Grafana's Explore, with the service and the time range of the dashboard."""
    service = 'resource.service.name =~ "${llmservice:regex}"'
    query = {
        "refId": "A",
        "datasource": _TRACES,
        "queryType": "traceql",
        "query": f"{{ {service} && {panel.traces} }}",
        "limit": 20,
    }
    pane = {
        "datasource": "${traces}",
        "queries": [query],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    panes = quote(json.dumps({"traces": pane}), safe="${}:_")  # what Grafana fills in stays as is
    url = f"/explore?schemaVersion=1&panes={panes}"
    return {"title": "Traces of these requests", "url": url, "targetBlank": True}


def _source(name: str, label: str, kind: str) -> Json:
    return {"name": name, "label": label, "type": "datasource", "query": kind}


def _variable(name: str, label: str, query: str) -> Json:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": METRICS,
        "query": query,
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _link_to_the_others() -> Json:
    return {
        "type": "dashboards",
        "tags": ["llmservice"],
        "asDropdown": False,
        "keepTime": True,
        "includeVars": True,
        "title": "LLMService",
    }
