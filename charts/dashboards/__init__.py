"""The Grafana dashboards as Python: what a panel asks and says. `grafana.py` knows Grafana."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dashboards import operator, overview, predictor, scheduling

ALL: Final = (overview.DASHBOARD, scheduling.DASHBOARD, predictor.DASHBOARD, operator.DASHBOARD)


def write(directory: Path) -> None:
    """One file for each dashboard; files of dashboards that are no more are removed."""
    texts = {f"{dashboard.name}.json": dashboard.text() for dashboard in ALL}
    for path in directory.glob("*.json"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
