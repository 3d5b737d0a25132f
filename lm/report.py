"""One self-contained HTML page: moving pictures, text beside truth, curves and a table of figures.

It lays out what it is given. It knows no model and computes no figure; pictures are embedded as
GIF, curves as SVG, so that the page opens anywhere, offline, from a single file.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.atomic import write_atomically
from lm.figures import Figure
from tokenizer.charts import Chart, draw
from tokenizer.page import page, table


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


def write_report(
    path: Path,
    *,
    title: str,
    summary: str,
    figures: Sequence[Figure],
    protocol: str,
    curves: Sequence[Chart] = (),
    galleries: Sequence[Gallery] = (),
) -> None:
    """Write the page to `path`, whole or not at all."""
    parts = [
        "<h2>Held-out figures</h2>",
        _table(figures),
        f"<p class=soft>{html.escape(protocol)}</p>",
    ]
    parts += [_gallery(gallery) for gallery in galleries]
    if curves:
        cards = "".join(f"<div class=card>{draw(curve)}</div>" for curve in curves)
        parts.append(f"<h2>Learning curves</h2><div class=grid>{cards}</div>")
    write_atomically(path, page(title, summary, parts).encode())


def _table(figures: Sequence[Figure]) -> str:
    keys = ("value", "chance", "majority", "ceiling")
    rows = [[f.title, *(f.text(key) for key in keys), str(f.n)] for f in figures]
    return table(("figure", *keys, "n"), rows)


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
