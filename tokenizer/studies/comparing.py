"""Every curve of a study against its anchor: bits at equal quality, quality at equal bits.

It knows which metrics are compared, not how a gap is computed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data.atomic import write_atomically
from tokenizer.studies.bjontegaard import CONFIDENCE, Delta, bd_quality, bd_rate
from tokenizer.studies.curve import Curve

QUALITIES = ("psnr-rgb", "ssim-rgb")
RATE = "bpp"


@dataclass(frozen=True)
class Comparison:
    """One curve beside the anchor in one quality; None where there is no gap to give."""

    curve: str
    anchor: str
    quality: str  # metric
    bd_rate: Delta | None  # % of the anchor's bits at equal quality; below 0 is better
    bd_quality: Delta | None  # dB (PSNR) or SSIM at equal bits; above 0 is better
    reasons: list[str]  # why there is none
    notes: list[str]  # what to mind

    def text(self, which: str) -> str:
        """The gap `bd_rate` or `bd_quality` with its interval, as it is printed."""
        delta = getattr(self, which)
        if delta is None:
            return "none"
        digits = {"%": 1, "dB": 2}.get(delta.unit, 3)
        shown = f"{delta.value:+.{digits}f}"
        if delta.low is None or delta.high is None:
            return shown
        return f"{shown} [{delta.low:+.{digits}f}, {delta.high:+.{digits}f}]"


def compare(curves: Sequence[Curve], anchor_name: str) -> list[Comparison]:
    """All curves but the anchor, in each quality that both have; [] where there is no anchor."""
    anchor = next((curve for curve in curves if curve.name == anchor_name), None)
    if anchor is None:
        return []
    return [
        _comparison(curve, anchor, quality)
        for curve in curves
        if curve is not anchor
        for quality in QUALITIES
        if quality in curve.results and quality in anchor.results
    ]


def _comparison(curve: Curve, anchor: Curve, quality: str) -> Comparison:
    reasons = []
    kinds = [one.protocol.get("bpp", "unknown") for one in (curve, anchor)]
    notes = [f"bits: {kinds[0]} against {kinds[1]}"]

    def gap(function: Callable[..., Delta]) -> Delta | None:
        try:
            return function(curve, anchor, RATE, quality)
        except ValueError as error:
            reasons.append(str(error))
            return None

    rate, gained = gap(bd_rate), gap(bd_quality)
    left_out = max((delta.left_out for delta in (rate, gained) if delta is not None), default=0)
    if left_out:
        notes.append(f"{left_out} points left out: others of their own curve beat them")
    reasons = list(dict.fromkeys(reasons))
    return Comparison(curve.name, anchor.name, quality, rate, gained, reasons, notes)


def write_comparisons(
    path: Path, anchor: str, comparisons: Sequence[Comparison], missing: Sequence[str]
) -> None:
    """Write bd.json: all comparisons with what was compared and how."""
    content = {
        "anchor": anchor,
        "rate": RATE,
        "method": "Bjontegaard (VCEG-M33), PCHIP over the common range, points on each curve's "
        "front; bootstrap over clips, the same draws for both curves",
        "confidence": CONFIDENCE,
        "missing": list(missing),
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
