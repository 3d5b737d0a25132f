"""Line charts as SVG for a page of `tokenizer.page`: any number of lines, plain or logarithmic.

It knows numbers and names, not what they are of.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

_COLOURS = 8  # the page has --line0 to --line7; further lines are dashed
_WIDTH, _HEIGHT = 300, 190
# Round, square, triangle, diamond, triangle on its tip; about equally large.
_SHAPES = (
    "M-2.7 0a2.7 2.7 0 1 0 5.4 0a2.7 2.7 0 1 0 -5.4 0z",
    "M-2.4 -2.4h4.8v4.8h-4.8z",
    "M0 -3.2l3.1 5.4h-6.2z",
    "M0 -3.5l3.2 3.5l-3.2 3.5l-3.2 -3.5z",
    "M0 3.2l3.1 -5.4h-6.2z",
)
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 32


@dataclass(frozen=True)
class Line:
    """Points (x, y), drawn in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Lines over a common x axis."""

    title: str
    x_label: str
    lines: Sequence[Line]
    log_x: bool = False  # points at x <= 0 are left out
    log_y: bool = False  # likewise
    marks: bool = False  # a mark at every point, with its name and figures


def draw(chart: Chart) -> str:
    """The chart as HTML: its title and an SVG, or a word on why there is none."""
    title = html.escape(chart.title)
    lines = [_finite(line, chart.log_x, chart.log_y) for line in chart.lines]
    points = [point for line in lines for point in line]
    if len(points) < 2:
        return f"<strong>{title}</strong><p class=soft>fewer than two points to show</p>"
    across = _Scale([x for x, _ in points], _LEFT, _WIDTH - _RIGHT, chart.log_x)
    down = _Scale([y for _, y in points], _HEIGHT - _BOTTOM, _TOP, chart.log_y)
    parts = [
        _y_axis(chart, [y for _, y in points], down),
        _x_axis(chart, [x for x, _ in points], across),
    ]
    for number, (line, named) in enumerate(zip(lines, chart.lines, strict=True)):
        if not line:
            continue
        placed = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in line)
        parts.append(f'<polyline points="{placed}" fill="none" {stroke(number)}/>')
        if chart.marks:
            parts += [
                f'<path transform="translate({across(x):.1f} {down(y):.1f})" {mark(number)}>'
                f"<title>{html.escape(named.name)}: {x:.4g}, {y:.4g}</title></path>"
                for x, y in line
            ]
    return (
        f'<strong>{title}</strong><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{title}">{"".join(parts)}</svg>'
    )


def legend(names: Sequence[str], marks: bool = False) -> str:
    """What the lines of charts with these names in this order stand for, as HTML."""
    items = [
        f'<li><svg viewBox="0 0 30 8"><path d="M0 4h30" {stroke(number)}/>'
        + (f'<path transform="translate(15 4)" {mark(number)}/>' if marks else "")
        + "</svg> "
        f"{html.escape(name)}</li>"
        for number, name in enumerate(names)
    ]
    return f"<ul class=legend>{''.join(items)}</ul>"


def stroke(number: int) -> str:
    """How line number `number` (from 0) is drawn."""
    dashes = number // _COLOURS
    dashed = f' stroke-dasharray="{2 + 3 * dashes} 3"' if dashes else ""
    return f'stroke="var(--line{number % _COLOURS})" stroke-width="2"{dashed}'


def mark(number: int) -> str:
    """The mark at points of line number `number`; shapes take turns, as colours do."""
    return f'd="{_SHAPES[number % len(_SHAPES)]}" fill="var(--line{number % _COLOURS})"'


def _finite(line: Line, log_x: bool, log_y: bool) -> list[tuple[float, float]]:
    return sorted(
        (x, y)
        for x, y in line.points
        if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x) and (y > 0 or not log_y)
    )


class _Scale:
    """From values to places on the page."""

    def __init__(self, values: Sequence[float], start: float, end: float, log: bool) -> None:
        self.change = math.log10 if log else float
        self.low, high = self.change(min(values)), self.change(max(values))
        self.start, span = start, high - self.low
        self.step = (end - start) / span if span > 1e-12 else 0.0

    def __call__(self, value: float) -> float:
        return self.start + (self.change(value) - self.low) * self.step


def _y_axis(chart: Chart, values: Sequence[float], down: _Scale) -> str:
    marks = []
    for value in _ticks(min(values), max(values), chart.log_y):
        place = down(value)
        marks.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}" '
            f'stroke="var(--line)"/><text x="{_LEFT - 5}" y="{place + 4:.1f}" '
            f'text-anchor="end">{_told(value)}</text>'
        )
    return "".join(marks)


def _x_axis(chart: Chart, values: Sequence[float], across: _Scale) -> str:
    marks = []
    for value in _ticks(min(values), max(values), chart.log_x):
        place = across(value)
        near_end = place > _WIDTH - _RIGHT - 12
        anchor = "start" if place < _LEFT + 12 else "end" if near_end else "middle"
        marks.append(
            f'<text x="{place:.1f}" y="{_HEIGHT - 17}" text-anchor="{anchor}">{_told(value)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    label = html.escape(chart.x_label)
    marks.append(f'<text x="{middle}" y="{_HEIGHT - 3}" text-anchor="middle">{label}</text>')
    return "".join(marks)


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """Round values, four evenly spread ones where a logarithmic axis has too few of them."""
    if not log:
        return _round_ticks(low, high)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = [m * 10.0**d for d in decades for m in steps if low <= m * 10.0**d <= high]
        if 3 <= len(ticks) <= 7:
            return ticks
    return [low * (high / low) ** (step / 3) for step in range(4)]


def _round_ticks(low: float, high: float) -> list[float]:
    """Three to six round values from low to high, or low alone where they are equal."""
    if high - low <= 1e-12 * max(1.0, abs(high)):
        return [low]
    size = 10.0 ** math.floor(math.log10(high - low))
    for step in (size, size / 2, size / 5, size / 10):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first >= 2:
            return [number * step for number in range(first, last + 1)]
    raise AssertionError("a tenth of the range's decade fits at least ten times")


def _told(value: float) -> str:
    """A number as short as people write it: no exponent from a thousandth to a million."""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:.0f}"
