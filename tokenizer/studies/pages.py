"""Curves for people: a page of plots, and a table of all points for a spreadsheet.

It draws what it is given and knows neither codecs nor how a study is run.
"""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.atomic import write_atomically
from tokenizer.charts import Chart, Line, draw, legend
from tokenizer.page import page, table
from tokenizer.studies.bootstrap import CONFIDENCE, intervals
from tokenizer.studies.comparing import Comparison, Match
from tokenizer.studies.curve import Curve
from tokenizer.studies.plan import StudyPlan

RATES = {
    "tokens-per-frame": "tokens a frame",
    "bpp-nominal": "nominal bits a pixel",
    "bpp": "bits a pixel, as written",
}
QUALITIES = {
    "psnr-rgb": "PSNR (dB)",
    "psnr-moving": "PSNR where it moves (dB)",
    "ssim-rgb": "SSIM",
    "lpips": "LPIPS (less is better)",
    "vgg-distance": "VGG distance (less is better)",
    "frechet-random3d": "Frechet distance of random 3D features (less is better)",
}
SPREAD = ("bpp", "psnr-rgb", "psnr-moving", "ssim-rgb")  # what has intervals over clips
POINT_KEYS = {
    "tokens-per-frame": "tokens a frame",
    "tokens-per-second": "tokens a second",
    "bpp-nominal": "nominal bits a pixel",
    "bpp-packed": "packed",
    "bpp-coded": "coded",
    "bpp-packets": "packets",
    "bps": "bits a second, as written",
    "entropy": "entropy, bits a token",
    "used-codes": "codes used",
    **QUALITIES,
}


@dataclass(frozen=True)
class Chapter:
    """What a study found on one set of clips."""

    clips: str  # name of the set; "" where it is the only one
    curves: Sequence[Curve]
    comparisons: Sequence[Comparison]
    matches: Sequence[Match]


def write_csv(path: Path, chapters: Sequence[Chapter]) -> None:
    """A row for each point of each curve: settings, all results, and the protocol as JSON.

    `low` and `high` bound a figure's bootstrap interval over clips.
    """
    curves = [(chapter.clips, curve) for chapter in chapters for curve in chapter.curves]
    metrics = list(dict.fromkeys(key for _, curve in curves for key in curve.results))
    timings = list(dict.fromkeys(key for _, curve in curves for key in curve.timing))
    bounds = [f"{key} {end}" for key in SPREAD for end in ("low", "high")]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["clips", "curve", "point", *metrics, *bounds, *timings, "protocol"])
    for clips, curve in curves:
        protocol = {key: value for key, value in curve.protocol.items() if key != "points"}
        spread = intervals(curve, SPREAD)
        for number, point in enumerate(_points(curve)):
            figures = [curve.results[k][number] if k in curve.results else "" for k in metrics]
            figures += [x for k in SPREAD for x in (spread[k][number] if k in spread else ("", ""))]
            figures += [curve.timing[k][number] if k in curve.timing else "" for k in timings]
            rows.writerow([clips, curve.name, point, *figures, json.dumps(protocol)])
    write_atomically(path, text.getvalue().encode())


def write_page(
    path: Path, plan: StudyPlan, chapters: Sequence[Chapter], missing: Sequence[str] = ()
) -> None:
    """Write a study's report.html, whole or not at all."""
    parts = []
    if missing:
        items = "".join(f"<li>{html.escape(reason)}</li>" for reason in missing)
        parts.append(f"<h2>Left out</h2><ul>{items}</ul>")
    for chapter in chapters:
        if chapter.clips:
            parts.append(f"<h1>{html.escape(chapter.clips)}</h1>")
        parts += [*_plots(chapter.curves), _gaps(plan.anchor_name, chapter.comparisons)]
        if chapter.matches:
            parts.append(_matches(plan.anchor_name, chapter.matches))
        parts += [_all_points(chapter.curves), _protocols(chapter.curves)]
    write_atomically(path, page(plan.name, plan.description, parts).encode())


def _plots(curves: Sequence[Curve]) -> list[str]:
    """Each quality against each rate that any curve has, under one legend each."""
    names = legend([curve.name for curve in curves], marks=True)
    parts = []
    for quality, title in QUALITIES.items():
        charts = [
            Chart(
                f"against {label}",
                label,
                _lines(curves, rate, quality),
                log_x=True,
                log_y="less is better" in title,
                marks=True,
            )
            for rate, label in RATES.items()
        ]
        parts += _cards(title, charts, names)
    share = [
        Line(
            curve.name,
            [
                (nominal, 100 * coded / nominal)
                for nominal, coded in zip(
                    curve.results.get("bpp-nominal", ()),
                    curve.results.get("bpp-coded", ()),
                    strict=False,
                )
                if nominal
            ],
        )
        for curve in curves
    ]
    title, label = "Coded bits in % of nominal ones", RATES["bpp-nominal"]
    chart = Chart(f"against {label}", label, share, log_x=True, marks=True)
    return parts + _cards(title, [chart], names)


def _cards(title: str, charts: Sequence[Chart], names: str) -> list[str]:
    shown = [chart for chart in charts if any(line.points for line in chart.lines)]
    if not shown:
        return []
    cards = "".join(f"<div class=card>{draw(chart)}</div>" for chart in shown)
    return [f"<h2>{html.escape(title)}</h2>{names}<div class=grid>{cards}</div>"]


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
    labels = {"psnr-rgb": "PSNR, dB", "ssim-rgb": "SSIM"}
    rows = [
        [c.curve, labels[c.quality], *(_unbroken(c.text(k)) for k in ("bd_rate", "bd_quality"))]
        for c in comparisons
    ]
    told_of: dict[str, list[str]] = {}  # what to mind, once for all that it is said of
    for c in comparisons:
        for note in c.reasons + c.notes:
            told_of.setdefault(note, []).append(c.curve)
    items = [
        f"<li>{html.escape(', '.join(dict.fromkeys(names)))}: {html.escape(note)}</li>"
        for note, names in told_of.items()
    ]
    if not rows:
        return f"<h2>Against {html.escape(anchor)}</h2><p class=soft>nothing to compare</p>"
    told = (
        "Bjontegaard deltas over the common range: bits at equal quality (below 0 is better), "
        f"quality at equal bits (above 0 is better); [{CONFIDENCE:.0%} bootstrap interval over "
        "clips]."
    )
    head = ("curve", "quality", "BD-rate %", "BD-quality")
    title = f"<h2>Against {html.escape(anchor)}</h2><p class=soft>{told}</p>"
    return title + table(head, rows) + f"<ul class=soft>{''.join(items)}</ul>"


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
    rows = []
    for curve in curves:
        spread = intervals(curve, SPREAD[1:])
        for number, point in enumerate(_points(curve)):
            cells = []
            for key in keys:
                cell = f"{curve.results[key][number]:.4g}" if key in curve.results else ""
                if key in spread:
                    low, high = spread[key][number]
                    cell += f" [{low:.3g}, {high:.3g}]"
                cells.append(_unbroken(cell))
            times = [_seconds(curve, f"{which}_seconds", number) for which in ("encode", "decode")]
            rows.append([_unbroken(curve.name), _unbroken(point), *cells, *times])
    head = ("curve", "point", *(POINT_KEYS[key] for key in keys), "encode s", "decode s")
    told = f"Pooled over all clips; [{CONFIDENCE:.0%} bootstrap interval over clips]."
    return f"<h2>Points</h2><p class=soft>{told}</p>" + table(head, rows)


def _unbroken(text: str) -> str:
    """A text that stays on one line."""
    return text.replace(" ", "\u00a0")


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
