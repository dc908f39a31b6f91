"""Small charts as SVG text: scales, axes, lines, dots, bars. Colours are CSS classes.

No script and no font is needed, so a report opens anywhere and follows light and dark by itself.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Point = tuple[float, float]

_LEFT: Final = 58
_RIGHT: Final = 14
_TOP: Final = 12
_BOTTOM: Final = 42
_MAX_TICKS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Values from `low` to `high` along one axis; `log` takes positive values only."""

    low: float
    high: float
    label: str
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between low (0) and high (1); values outside are clipped."""
        low, high, at = (self._position(x) for x in (self.low, self.high, value))
        return 0.0 if high == low else min(max((at - low) / (high - low), 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Round values to label."""
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)

    def _position(self, value: float) -> float:
        return math.log10(max(value, self.low, 1e-12)) if self.log else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A frame of axes that marks are placed in."""

    x: Scale
    y: Scale
    width: int = 560
    height: int = 300

    def at(self, point: Point) -> Point:
        """Pixels of a point."""
        x = _LEFT + self.x.share(point[0]) * (self.width - _LEFT - _RIGHT)
        y = self.height - _BOTTOM - self.y.share(point[1]) * (self.height - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    def line(self, points: Sequence[Point], *, css: str) -> str:
        """A line through points."""
        path = " ".join(f"{x:g},{y:g}" for x, y in map(self.at, points))
        return f'<polyline class="line {css}" points="{path}"/>'

    def steps(self, points: Sequence[Point], *, css: str) -> str:
        """A line that keeps each value until the next point."""
        corners: list[Point] = []
        for point in points:
            if corners:
                corners.append((point[0], corners[-1][1]))
            corners.append(point)
        return self.line(corners, css=css)

    def dots(self, points: Sequence[tuple[float, float, str]], *, css: str) -> str:
        """Dots with a text each, shown when pointed at."""
        marks: list[str] = []
        for x_value, y_value, text in points:
            x, y = self.at((x_value, y_value))
            marks.append(f'<circle cx="{x:g}" cy="{y:g}" r="2.6">{_title(text)}</circle>')
        return f'<g class="dots {css}">{"".join(marks)}</g>'

    def bar(self, x: Point, height: float, *, css: str, text: str) -> str:
        """A bar from x[0] to x[1], as high as the value `height`."""
        return self.block(x, (self.y.low, height), css=css, text=text)

    def block(self, x: Point, y: Point, *, css: str, text: str) -> str:
        """A bar from x[0] to x[1] that begins at y[0]: a part of a stack."""
        left, top = self.at((x[0], y[1]))
        right, bottom = self.at((x[1], y[0]))
        return (
            f'<rect class="bar {css}" x="{left:g}" y="{top:g}" width="{right - left:.1f}" '
            f'height="{bottom - top:.1f}">{_title(text)}</rect>'
        )

    def svg(self, marks: Sequence[str], *, name: str, x_labels: Sequence[str] = ()) -> str:
        """The finished chart; `name` is what a screen reader says. `x_labels` replace x ticks."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{html.escape(name)}">{self._axes(x_labels)}{"".join(marks)}</svg>'
        )

    def _axes(self, x_labels: Sequence[str]) -> str:
        left, bottom = self.at((self.x.low, self.y.low))
        right, top = self.at((self.x.high, self.y.high))
        parts = [f'<path class="axis" d="M{left} {top}V{bottom}H{right}"/>']
        for value in self.y.ticks():
            y = self.at((self.x.low, value))[1]
            parts.append(f'<path class="grid" d="M{left} {y}H{right}"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4}" class="end">{number(value)}</text>')
        for x, label in self._x_ticks(x_labels):
            parts.append(f'<text x="{x}" y="{bottom + 16}" class="mid">{html.escape(label)}</text>')
        middle = (left + right) / 2
        parts.append(
            f'<text x="{middle}" y="{self.height - 6}" class="mid name">{self.x.label}</text>'
        )
        turn = f"rotate(-90 13 {(top + bottom) / 2})"
        parts.append(
            f'<text x="13" y="{(top + bottom) / 2}" class="mid name" transform="{turn}">'
            f"{self.y.label}</text>"
        )
        return "".join(parts)

    def _x_ticks(self, labels: Sequence[str]) -> list[tuple[float, str]]:
        if labels:
            return [
                (self.at((index + 0.5, self.y.low))[0], text) for index, text in enumerate(labels)
            ]
        return [(self.at((value, self.y.low))[0], number(value)) for value in self.x.ticks()]


def number(value: float) -> str:
    """A short label: 0.05, 3, 12k."""
    if value >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _title(text: str) -> str:
    return f"<title>{html.escape(text)}</title>" if text else ""


def _linear_ticks(low: float, high: float) -> list[float]:
    span = high - low
    if span <= 0:
        return [low]
    power = 10 ** math.floor(math.log10(span / _MAX_TICKS))
    steps = (power * factor for factor in (1, 2, 5, 10))
    step = next(step for step in steps if span / step <= _MAX_TICKS)
    first = math.ceil(low / step)
    return [round(index * step, 10) for index in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if len(decades) > 4 else (1, 3)
    ticks = [factor * 10.0**decade for decade in decades for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]
