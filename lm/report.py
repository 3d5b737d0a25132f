"""One self-contained HTML page: moving pictures, text beside truth, curves and a table of figures.

It lays out what it is given. It knows no model and computes no figure; pictures are embedded as
GIF, curves as SVG, so that the page opens anywhere, offline, from a single file.
"""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lm.figures import Figure

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #666d75; --line: #d9dde2;
  --paper: #fff; --card: #f6f7f9; --series: #2a6fdb; --second: #d9822b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa2ab; --line: #3a3f46;
  --paper: #15171a; --card: #1e2125; --series: #6ea3ff; --second: #f0a860; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
p, li { max-width: 46rem; } .soft { color: var(--soft); font-size: .88rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .28rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; } th:first-child, td:first-child { text-align: left; }
.grid { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
.card { background: var(--card); border-radius: 8px; padding: .7rem; overflow-wrap: anywhere; }
.films { display: flex; gap: .5rem; } .films figure { margin: 0; flex: 1; }
.films img { width: 100%; image-rendering: pixelated; border-radius: 4px; background: #000; }
figcaption { color: var(--soft); font-size: .78rem; } dl { margin: .4rem 0 0; font-size: .86rem; }
dt { color: var(--soft); } dd { margin: 0 0 .25rem; } .good { color: #1d8a4e; }
.bad { color: #c23b3b; } svg { width: 100%; height: auto; } svg text { fill: var(--soft);
  font: 11px system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { .good { color: #5fd08f; } .bad { color: #ff8a80; } }
"""


@dataclass(frozen=True)
class Film:
    """A moving picture with what it is."""

    gif: bytes
    label: str


@dataclass(frozen=True)
class Card:
    """Films side by side, and lines of (what, text, right?) under them; None is not judged."""

    films: Sequence[Film]
    lines: Sequence[tuple[str, str, bool | None]]


@dataclass(frozen=True)
class Gallery:
    """A headed group of cards."""

    title: str
    text: str
    cards: Sequence[Card]


@dataclass(frozen=True)
class Curve:
    """A learning curve: points (x, y), x in `x_label`."""

    title: str
    x_label: str
    points: Sequence[tuple[float, float]]


def write_report(
    path: Path,
    *,
    title: str,
    summary: str,
    figures: Sequence[Figure],
    protocol: str,
    curves: Sequence[Curve] = (),
    galleries: Sequence[Gallery] = (),
) -> None:
    """Write the page to `path`, whole or not at all."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(summary)}</p>",
        "<h2>Held-out figures</h2>",
        _table(figures),
        f"<p class=soft>{html.escape(protocol)}</p>",
    ]
    parts += [_gallery(gallery) for gallery in galleries]
    if curves:
        cards = "".join(f"<div class=card>{_chart(curve)}</div>" for curve in curves)
        parts.append(f"<h2>Learning curves</h2><div class=grid>{cards}</div>")
    temporary = path.with_name(path.name + ".part")
    temporary.write_text("\n".join(parts) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _table(figures: Sequence[Figure]) -> str:
    head = "".join(
        f"<th>{h}</th>" for h in ("figure", "value", "chance", "majority", "ceiling", "n")
    )
    rows = []
    for figure in figures:
        cells = [figure.text(key) for key in ("value", "chance", "majority", "ceiling")]
        row = "".join(f"<td>{html.escape(cell)}</td>" for cell in [*cells, str(figure.n)])
        rows.append(f"<tr><td>{html.escape(figure.title)}</td>{row}</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _gallery(gallery: Gallery) -> str:
    cards = "".join(_card(card) for card in gallery.cards)
    heading = f"<h2>{html.escape(gallery.title)}</h2><p class=soft>{html.escape(gallery.text)}</p>"
    return f"{heading}<div class=grid>{cards}</div>"


def _card(card: Card) -> str:
    films = "".join(
        f'<figure><img alt="{html.escape(film.label)}" '
        f'src="data:image/gif;base64,{base64.b64encode(film.gif).decode()}">'
        f"<figcaption>{html.escape(film.label)}</figcaption></figure>"
        for film in card.films
    )
    lines = "".join(
        f"<dt>{html.escape(what)}</dt><dd{_judgement(right)}>{html.escape(text)}</dd>"
        for what, text, right in card.lines
    )
    return f"<div class=card><div class=films>{films}</div><dl>{lines}</dl></div>"


def _judgement(right: bool | None) -> str:
    return "" if right is None else f" class={'good' if right else 'bad'}"


def _chart(curve: Curve, width: int = 300, height: int = 170) -> str:
    """One line over time: five labelled ticks at most an axis, no legend (the title names it)."""
    title = html.escape(curve.title)
    points = [(x, y) for x, y in curve.points if math.isfinite(x) and math.isfinite(y)]
    if len(points) < 2:
        return f"<strong>{title}</strong><p class=soft>fewer than two points were logged</p>"
    left, right, top, bottom = 44, 8, 8, 30
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    (x_low, x_high), (y_low, y_high) = (min(xs), max(xs)), (min(ys), max(ys))
    x_span, y_span = (x_high - x_low) or 1.0, (y_high - y_low) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + (x - x_low) / x_span * (width - left - right)
        down = height - bottom - (y - y_low) / y_span * (height - top - bottom)
        return across, down

    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in (place(x, y) for x, y in points))
    marks = []
    for step in range(4):
        value = y_low + y_span * step / 3
        _, down = place(x_low, value)
        marks.append(
            f'<line x1="{left}" x2="{width - right}" y1="{down:.1f}" y2="{down:.1f}" '
            f'stroke="var(--line)"/><text x="{left - 5}" y="{down + 4:.1f}" '
            f'text-anchor="end">{value:.3g}</text>'
        )
        x_value = x_low + x_span * step / 3
        across, _ = place(x_value, y_low)
        anchor = "start" if step == 0 else "end" if step == 3 else "middle"
        marks.append(
            f'<text x="{across:.1f}" y="{height - 14}" text-anchor="{anchor}">{x_value:.3g}</text>'
        )
    return (
        f"<strong>{title}</strong>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{"".join(marks)}'
        f'<polyline points="{line}" fill="none" stroke="var(--series)" stroke-width="2"/>'
        f'<text x="{width / 2}" y="{height - 2}" text-anchor="middle">'
        f"{html.escape(curve.x_label)}</text></svg>"
    )
