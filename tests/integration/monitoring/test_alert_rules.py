"""Every alert in promtool: it fires after its time and not before, and not in calm series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from integration.monitoring.alert_cases import CASES, Case, Series
from integration.monitoring.rules import Json, alerts, minutes, promtool, rendered, write

_MORE_MINUTES = 5


@pytest.fixture(scope="module")
def rules() -> Json:
    """As an installation with all alerts has them."""
    return rendered()


def group(series: Series, name: str, checks: list[Json]) -> Json:
    """One test of promtool's: these series, looked at now and then."""
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": checks,
    }


def expected(case: Case, alert: Json) -> Json:
    """The alert as it reaches the Alertmanager."""
    return {
        "exp_labels": {**case.labels, **alert["labels"]},
        "exp_annotations": {**alert["annotations"], "summary": case.summary},
    }


def test_the_rules_are_valid(rules: Json, tmp_path: Path) -> None:
    said = promtool("check", "rules", "--lint=all", str(write(rules, tmp_path / "rules.yaml")))
    assert f"{len(alerts(rules))} rules found" in said


def test_every_alert_has_a_case(rules: Json) -> None:
    assert [case.alert for case in CASES] == list(alerts(rules))


@pytest.mark.parametrize("case", CASES, ids=[case.alert for case in CASES])
def test_alert_fires_after_its_time_and_never_in_calm(
    rules: Json, case: Case, tmp_path: Path
) -> None:
    alert = alerts(rules)[case.alert]
    write(rules, tmp_path / "rules.yaml")
    due = case.met_at + minutes(alert["for"])

    def check(minute: int, *found: Json) -> dict[str, Any]:
        return {
            "eval_time": f"{minute}m",
            "alertname": case.alert,
            "exp_alerts": list(found),
        }

    fires = [check(due - 1), check(due, expected(case, alert))]
    if case.still_at is not None:
        fires.append(check(case.still_at, expected(case, alert)))
    calm = [
        group(series, f"calm {number}", [check(due), check(due + _MORE_MINUTES)])
        for number, series in enumerate(case.calm)
    ]
    tests = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [group(case.sick, "sick", fires), *calm],
    }
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump(tests, sort_keys=False), encoding="utf-8")
    promtool("test", "rules", str(path))
