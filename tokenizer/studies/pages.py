"""Curves for people: a page of plots, and a table of all points for a spreadsheet.

It draws what it is given and knows neither codecs nor how a study is run.
"""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

from data.atomic import write_atomically
from tokenizer.charts import Chart, Line, draw, legend
from tokenizer.page import page, table
from tokenizer.studies.bjontegaard import CONFIDENCE
from tokenizer.studies.comparing import Comparison, Match
from tokenizer.studies.curve import Curve
from tokenizer.studies.plan import StudyPlan

RATES = {"bpp": "bits a pixel", "bps": "bits a second", "tokens-per-frame": "tokens a frame"}
POINT_KEYS = (
    "tokens-per-frame",
    "bpp-nominal",
    "bpp",
    "bps",
    "entropy",
    "used-codes",
    "psnr-rgb",
    "psnr-moving",
    "ssim-rgb",
)
QUALITIES = {"psnr-rgb": "PSNR (dB)", "ssim-rgb": "SSIM", "psnr-moving": "PSNR where it moves (dB)"}


def write_csv(path: Path, curves: Sequence[Curve]) -> None:
    """A row for each point of each curve: settings, all results, and the protocol as JSON."""
    metrics = list(dict.fromkeys(key for curve in curves for key in curve.results))
    timings = list(dict.fromkeys(key for curve in curves for key in curve.timing))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["curve", "point", *metrics, *timings, "protocol"])
    for curve in curves:
        protocol = {key: value for key, value in curve.protocol.items() if key != "points"}
        for number, point in enumerate(_points(curve)):
            figures = [
                lists[key][number] if key in lists else ""
                for keys, lists in ((metrics, curve.results), (timings, curve.timing))
                for key in keys
            ]
            rows.writerow([curve.name, point, *figures, json.dumps(protocol)])
    write_atomically(path, text.getvalue().encode())


def write_page(
    path: Path,
    plan: StudyPlan,
    curves: Sequence[Curve],
    comparisons: Sequence[Comparison],
    missing: Sequence[str] = (),
    matches: Sequence[Match] = (),
) -> None:
    """Write a study's report.html, whole or not at all."""
    parts = [legend([curve.name for curve in curves]), *_plots(curves)]
    if missing:
        items = "".join(f"<li>{html.escape(reason)}</li>" for reason in missing)
        parts.append(f"<h2>Left out</h2><ul>{items}</ul>")
    parts.append(_gaps(plan.anchor_name, comparisons))
    if matches:
        parts.append(_matches(plan.anchor_name, matches))
    parts += [_all_points(curves), _protocols(curves)]
    write_atomically(path, page(plan.name, plan.description, parts).encode())


def _plots(curves: Sequence[Curve]) -> list[str]:
    """Each quality against each rate that any curve has."""
    parts = []
    for quality, title in QUALITIES.items():
        charts = [
            Chart(title, label, _lines(curves, rate, quality), log_x=True, marks=True)
            for rate, label in RATES.items()
        ]
        shown = [chart for chart in charts if any(line.points for line in chart.lines)]
        if shown:
            cards = "".join(f"<div class=card>{draw(chart)}</div>" for chart in shown)
            parts.append(f"<h2>{html.escape(title)}</h2><div class=grid>{cards}</div>")
    return parts


def _lines(curves: Sequence[Curve], rate: str, quality: str) -> list[Line]:
    """A line for every curve, an empty one where it has not both, so that colours stay."""
    return [
        Line(
            curve.name,
            list(zip(curve.results[rate], curve.results[quality], strict=True))
            if rate in curve.results and quality in curve.results
            else [],
        )
        for curve in curves
    ]


def _gaps(anchor: str, comparisons: Sequence[Comparison]) -> str:
    rows = [
        [
            c.curve,
            c.quality,
            c.text("bd_rate"),
            c.text("bd_quality"),
            "; ".join(c.reasons + c.notes),
        ]
        for c in comparisons
    ]
    if not rows:
        return f"<h2>Against {html.escape(anchor)}</h2><p class=soft>nothing to compare</p>"
    told = (
        "Bjontegaard deltas over the common range: bits at equal quality (below 0 is better), "
        f"quality at equal bits (above 0 is better); [{CONFIDENCE:.0%} bootstrap interval over "
        "clips]."
    )
    head = ("curve", "quality", "BD-rate %", "BD-quality", "notes")
    return f"<h2>Against {html.escape(anchor)}</h2><p class=soft>{told}</p>" + table(head, rows)


def _matches(anchor: str, matches: Sequence[Match]) -> str:
    rows = []
    for match in sorted(matches, key=lambda one: (one.curve, -one.tokens_per_frame)):
        known = match.low is not None and match.high is not None
        bounds = f" [{match.low:+.2f}, {match.high:+.2f}]" if known else ""
        own = f"{match.value:.2f}", f"{match.value - match.gain:.2f}"
        rows.append(
            [match.curve, f"{match.tokens_per_frame:.3g}", *own, f"{match.gain:+.2f}{bounds}"]
        )
    title = f"At the same tokens a frame as {html.escape(anchor)}"
    told = (
        f"PSNR in dB and its gain over {html.escape(anchor)} (above 0 is better); "
        f"[{CONFIDENCE:.0%} bootstrap interval over clips, in pairs]."
    )
    head = ("curve", "tokens a frame", "PSNR", anchor, "gain")
    return f"<h2>{title}</h2><p class=soft>{told}</p>" + table(head, rows)


def _all_points(curves: Sequence[Curve]) -> str:
    keys = [key for key in POINT_KEYS if any(key in curve.results for curve in curves)]
    rows = [
        [curve.name, point]
        + [f"{curve.results[key][number]:.4g}" if key in curve.results else "" for key in keys]
        + [_seconds(curve, "encode_seconds", number), _seconds(curve, "decode_seconds", number)]
        for curve in curves
        for number, point in enumerate(_points(curve))
    ]
    head = ("curve", "point", *keys, "encode s", "decode s")
    return "<h2>Points</h2>" + table(head, rows)


def _seconds(curve: Curve, key: str, number: int) -> str:
    return f"{curve.timing[key][number]:.3g}" if key in curve.timing else ""


def _points(curve: Curve) -> list[str]:
    """What each point is called."""
    named = curve.protocol.get("points")
    return named or [str(number) for number in range(curve.num_points)]


def _protocols(curves: Sequence[Curve]) -> str:
    items = []
    for curve in curves:
        told = json.dumps(curve.protocol, indent=1, ensure_ascii=False)
        name = html.escape(f"{curve.name}: {curve.description}".rstrip(": "))
        items.append(f"<details><summary>{name}</summary><pre>{html.escape(told)}</pre></details>")
    return "<h2>Protocol</h2>" + "".join(items)
