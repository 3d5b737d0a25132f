"""Every curve of a study against its anchor: at equal quality, at equal bits, at equal tokens.

It knows which metrics are compared, not how a gap is computed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data.atomic import write_atomically
from tokenizer.studies.bjontegaard import Delta, bd_quality, bd_rate
from tokenizer.studies.bootstrap import CONFIDENCE, RESAMPLES, bounds, draw_clips
from tokenizer.studies.curve import Curve, pool

QUALITIES = ("psnr-rgb", "ssim-rgb")
RATE = "bpp"
SAME_TOKENS = 0.02  # relative difference up to which rates count as equal


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


@dataclass(frozen=True)
class Match:
    """A point of a curve beside the anchor's at the same tokens a frame, in one quality."""

    curve: str
    anchor: str
    quality: str  # metric
    tokens_per_frame: float
    value: float  # the curve's own
    gain: float  # over the anchor's; above 0 is better
    low: float | None  # bounds of the gain's bootstrap interval; None where clips are unknown
    high: float | None


def match_tokens(
    curves: Sequence[Curve],
    anchor_name: str,
    quality: str = "psnr-rgb",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Match]:
    """Points of all curves but the anchor at whose tokens a frame the anchor has one, too.

    Clips are drawn with replacement, the same for both, so that gains are of pairs.
    """
    anchor = next((curve for curve in curves if curve.name == anchor_name), None)
    if anchor is None or "tokens-per-frame" not in anchor.results:
        return []
    found = []
    for curve in curves:
        if curve is anchor or "tokens-per-frame" not in curve.results:
            continue
        draws = _paired_draws(curve, anchor, quality, resamples, seed)
        for point, tokens in enumerate(curve.metric("tokens-per-frame")):
            own = np.array(anchor.metric("tokens-per-frame"))
            twin = int(np.abs(own - tokens).argmin())
            if abs(own[twin] - tokens) > SAME_TOKENS * tokens:
                continue
            value = curve.metric(quality)[point]
            gain = value - anchor.metric(quality)[twin]
            low = high = None
            if draws is not None:
                low, high = bounds(draws[0][:, point] - draws[1][:, twin])
            found.append(Match(curve.name, anchor.name, quality, tokens, value, gain, low, high))
    return found


def _paired_draws(
    curve: Curve, anchor: Curve, quality: str, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """The quality of both curves' points over the same draws of their clips, (R, P) each."""
    sources = [[clip.source for clip in one.clips] for one in (curve, anchor)]
    number = len(sources[0])
    if number < 2 or sources[0] != sources[1]:
        return None
    counts = draw_clips(number, resamples, seed)
    return pool(curve.clips, counts)[quality], pool(anchor.clips, counts)[quality]


def write_comparisons(
    path: Path,
    anchor: str,
    comparisons: Sequence[Comparison],
    missing: Sequence[str],
    matches: Sequence[Match] = (),
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
        "equal_tokens": [asdict(match) for match in matches],
    }
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
