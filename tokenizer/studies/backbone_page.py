"""Compared backbones as an HTML page of tables and plots, and as a CSV.

It draws what it is given.
"""

from __future__ import annotations

import csv
import html
import io
from pathlib import Path
from typing import get_args

from data.atomic import write_atomically
from tokenizer.charts import Chart, Line, draw, legend
from tokenizer.page import page, table
from tokenizer.studies.backbone_report import (
    AXES,
    Axis,
    BackboneComparison,
    Kind,
    Measure,
    Measured,
    caption,
    tables,
)

_TITLES: dict[Kind, str] = {"clip": "Encoding and decoding", "step": "A training step"}
_UNITS: dict[Measure, tuple[str, float]] = {
    "operations": ("GFLOP a clip", 1e-9),
    "memory": ("MiB a clip", 1),
    "seconds": ("ms a clip", 1e3),
}


def write_backbone_page(path: Path, found: BackboneComparison) -> None:
    """Write the page, whole or not at all."""
    parts = []
    for title, head, rows in tables(found):
        parts.append(f"<h2>{html.escape(title)}</h2>" + table(head, rows))
    names = legend([one.name for one in found.backbones], marks=True)
    for axis, title in AXES.items():
        cards = [_card(found, axis, kind, m) for kind in get_args(Kind) for m in _UNITS]
        if any(cards):
            parts.append(f"<h2>Against {html.escape(title)}</h2>{names}")
            parts.append(f"<div class=grid>{''.join(cards)}</div>")
    if found.notes:
        items = "".join(f"<li>{html.escape(note)}</li>" for note in found.notes)
        parts.append(f"<h2>To mind</h2><ul>{items}</ul>")
    lines = "<br>".join(html.escape(line) for line in caption(found))
    parts.append(f"<p class=soft>{lines}</p>")
    summary = "What backbones cost, how that grows, and what they give for equal training time."
    write_atomically(path, page("Backbones compared", summary, parts).encode())


def _card(found: BackboneComparison, axis: Axis, kind: Kind, measure: Measure) -> str:
    """One plot, or nothing where no backbone has two points."""
    unit, scale = _UNITS[measure]
    lines = []
    for one in found.backbones:
        points = [_point(m, axis, kind, measure) for m in one.costs if axis in m.axes]
        lines.append(Line(one.name, [(x, y * scale) for x, y in points if y > 0]))
    if max((len(line.points) for line in lines), default=0) < 2:
        return ""
    label = "pixels of a frame" if axis == "area" else "frames"
    chart = Chart(f"{_TITLES[kind]}: {unit}", label, lines, log_x=True, log_y=True, marks=True)
    return f"<div class=card>{draw(chart)}</div>"


def _point(m: Measured, axis: Axis, kind: Kind, measure: Measure) -> tuple[float, float]:
    shape = m.shape
    x = shape.height * shape.width if axis == "area" else shape.frames
    return x, (getattr(getattr(m, kind), measure) or 0.0) / shape.clips


def write_costs(path: Path, found: BackboneComparison) -> None:
    """Write all costs as CSV: a row for each backbone, shape and kind of work."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        ("backbone", "network", "parameters", "work", "clips", "frames", "height", "width")
        + ("block_frames", "flop", "peak_mib", "seconds", "reason")
    )
    for one in found.backbones:
        for m in one.costs:
            s = m.shape
            for kind in get_args(Kind):
                cost = getattr(m, kind)
                row = [one.name, one.network, one.parameters, kind, s.clips, s.frames, s.height]
                row += [s.width, s.block_frames, cost.operations, cost.memory, cost.seconds]
                rows.writerow([*row, cost.reason])
    write_atomically(path, text.getvalue().encode())
