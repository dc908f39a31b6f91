"""Plots as small SVG files that come out the same for the same figures. The seam to matplotlib."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

# Light background, letters as text: small files that a browser renders with its own fonts.
STYLE: Final[dict[str, Any]] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "font.family": "sans-serif",
    "font.size": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "llmservice",  # element ids, otherwise random
}
LOG_TICKS: Final = (0.5, 0.7, 1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 16)
COLOURS: Final = {
    "FCFS": "#6b6b6b",
    "SSJF": "#0b5fa5",
    "SSJF, predicted": "#4da3e0",
    "oracle SJF": "#c8501e",
    "other": "#8a6bb1",
}


@contextmanager
def figure(path: Path, *, columns: int = 1, height: float = 3.6) -> Generator[list[Any]]:
    """Axes side by side; the file is written at the end."""
    # pyplot keeps figures and picks a window system: this needs neither.
    matplotlib, figures = (importlib.import_module(f"matplotlib{name}") for name in ("", ".figure"))
    with matplotlib.rc_context(STYLE):
        drawing = figures.Figure(figsize=(4.6 * columns if columns > 1 else 7.0, height))
        axes = drawing.subplots(1, columns, squeeze=False)
        yield list(axes[0])
        drawing.tight_layout()
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def decorate(axes: Any, *, title: str, across: str, up: str) -> None:
    """Title and names of both axes."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def name_points(axes: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Names in a column at the right, in the order of their points, with a line to each."""
    ordered = sorted(points, key=lambda name: points[name][::-1])
    for place, name in enumerate(ordered):
        axes.annotate(
            name, xy=points[name], xycoords="data", textcoords="axes fraction",
            xytext=(1.03, (place + 0.5) / len(ordered)), fontsize=7, va="center",
            arrowprops={
                "arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.5, "relpos": (0, 0.5),
                "shrinkA": 0,
            },
        )  # fmt: skip


def plain_log_scale(axes: Any) -> None:
    """A logarithmic axis from left to right with plain numbers."""
    ticker = importlib.import_module("matplotlib.ticker")
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in LOG_TICKS if low <= tick <= high])
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
