"""The rule file that the chart makes, as Prometheus reads it, and promtool to judge it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from cluster.tools import ensure
from fakes.rendered_chart import of_kind, render

Json = dict[str, Any]


def rendered(**rule: object) -> Json:
    """The chart's rules, those on the operator among them; `rule`: values of `prometheusRule`."""
    monitoring = {
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True, **rule},
    }
    (made,) = of_kind(render({"monitoring": monitoring}), "PrometheusRule")
    return made["spec"]


def alerts(rules: Json) -> dict[str, Json]:
    """Its alerts by name."""
    return {alert["alert"]: alert for group in rules["groups"] for alert in group["rules"]}


def write(rules: Json, path: Path) -> Path:
    """As a file."""
    path.write_text(yaml.safe_dump(rules, sort_keys=False, width=1000), encoding="utf-8")
    return path


def minutes(duration: str) -> int:
    """A duration of whole minutes, as the rules write them."""
    found = re.fullmatch(r"(\d+)m", duration)
    assert found, duration
    return int(found.group(1))


def promtool(*arguments: str) -> str:
    """What promtool says; AssertionError with it when it is not content."""
    program = ensure(["promtool"])["promtool"]
    done = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said
