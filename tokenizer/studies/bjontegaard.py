"""Bjontegaard deltas: the mean gap between two curves, in bits or in quality, with intervals.

After G. Bjontegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33 (2001),
with the interpolation that JCT-VC's common test conditions brought in: piecewise cubic Hermite
(PCHIP; Fritsch and Carlson 1980, Fritsch and Butland 1984), which does not overshoot as the cubic
through all points does. It knows curves, not what they were measured on.

Legend: P points of a curve, R draws of the clips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tokenizer.studies.bootstrap import RESAMPLES, bounds, draw_clips
from tokenizer.studies.curve import Curve, pool

MIN_POINTS = 4  # of each curve, as VCEG-M33 has it
Over = Literal["rate", "quality"]  # what a gap is averaged over


@dataclass(frozen=True)
class Delta:
    """A mean gap between two curves; below and above it the bounds of a bootstrap interval."""

    value: float
    low: float | None  # None where clips are unknown, or only one
    high: float | None
    unit: str  # "%" of the anchor's bits, "dB", or "" for a similarity
    overlap: tuple[float, float]  # what it is a mean over: qualities, or bits
    left_out: int  # points of both curves that are beaten in bits and quality by another of theirs
    resamples: int  # draws of clips whose curves overlap


def bd_rate(
    curve: Curve,
    anchor: Curve,
    rate: str = "bpp",
    quality: str = "psnr-rgb",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Delta:
    """Bits more (below 0: fewer) than the anchor's that a curve spends at equal quality, in %.

    Args:
        curve: At least 4 points.
        anchor: At least 4 points.
        rate: Metric that counts bits.
        quality: Metric where more is better.
        resamples: Draws of the clips, with replacement, the same for both curves, for the 95 %
            interval. Curves without clips get none.
        seed: Of the draws.

    Raises:
        ValueError: Too few points, no common range of quality, or different clips.
    """
    return _delta(curve, anchor, (rate, quality), "quality", "%", resamples, seed)


def bd_quality(
    curve: Curve,
    anchor: Curve,
    rate: str = "bpp",
    quality: str = "psnr-rgb",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Delta:
    """How much better than the anchor a curve is at equal bits: BD-PSNR in dB, or BD-SSIM.

    Arguments and errors are those of `bd_rate`, with a common range of bits.
    """
    unit = "dB" if quality.startswith("psnr") else ""
    return _delta(curve, anchor, (rate, quality), "rate", unit, resamples, seed)


def _delta(
    curve: Curve,
    anchor: Curve,
    metrics: tuple[str, str],
    over: Over,
    unit: str,
    resamples: int,
    seed: int,
) -> Delta:
    fronts = []
    for one in (curve, anchor):
        rates, qualities = (np.array(one.metric(key)) for key in metrics)
        if len(rates) < MIN_POINTS:
            raise ValueError(
                f"curve '{one.name}' has {len(rates)} points: a Bjontegaard delta wants at least "
                f"{MIN_POINTS}, measure more rates"
            )
        if not (rates > 0).all():
            raise ValueError(f"curve '{one.name}' has a point of 0 {metrics[0]}: leave it out")
        fronts.append(_front(rates, qualities))
    try:
        value, least, most = _gap(fronts[0], fronts[1], over)
    except NoOverlap as error:
        axis = metrics[over == "quality"]
        raise ValueError(
            f"curves '{curve.name}' and '{anchor.name}' have no common range of {axis} ({error}): "
            "measure rates that meet"
        ) from None
    left_out = curve.num_points + anchor.num_points - sum(front.shape[1] for front in fronts)
    draws = _draws(curve, anchor, metrics, over, resamples, seed)
    low, high = bounds(draws) if draws else (None, None)
    return Delta(value, low, high, unit, (least, most), left_out, len(draws))


def _draws(
    curve: Curve, anchor: Curve, metrics: tuple[str, str], over: Over, resamples: int, seed: int
) -> list[float]:
    """The delta of each draw of the clips, those without a common range left out."""
    number = len(curve.clips)
    if not number or not anchor.clips:
        return []
    if curve.protocol.get("clips") != anchor.protocol.get("clips") or number != len(anchor.clips):
        raise ValueError(
            f"curves '{curve.name}' and '{anchor.name}' were measured on different clips: "
            "measure both on the same"
        )
    if number < 2:
        return []
    counts = draw_clips(number, resamples, seed)
    sides = []
    for one in (curve, anchor):
        pooled = pool(one.clips, counts)
        sides.append([_front(r, q) for r, q in zip(*(pooled[key] for key in metrics), strict=True)])
    found = []
    for own, other in zip(*sides, strict=True):
        try:
            found.append(_gap(own, other, over)[0])
        except NoOverlap:
            continue
    return found


def _front(rates: np.ndarray, qualities: np.ndarray) -> np.ndarray:
    """Natural logarithms of bits, and qualities, both rising: (2, P'); no point beats another.

    Nobody would choose a point that costs more and looks no better, and neither bits as a function
    of quality nor the reverse exists where a curve falls.
    """
    order = np.lexsort((-qualities, rates))
    best = np.maximum.accumulate(qualities[order])
    kept = order[np.concatenate([[True], best[1:] > best[:-1]])]
    return np.stack([np.log(rates[kept]), qualities[kept]])


class NoOverlap(ValueError):
    """Two curves have no common range; says which ones they have."""


def _gap(own: np.ndarray, other: np.ndarray, over: Over) -> tuple[float, float, float]:
    """Mean gap of two fronts over their common range, and that range, in plain units."""
    if over == "quality":
        own, other = own[::-1], other[::-1]
    low, high = max(own[0, 0], other[0, 0]), min(own[0, -1], other[0, -1])
    plain = np.exp if over == "rate" else np.positive
    if not low < high:
        ends = [plain(front[0, [0, -1]]) for front in (own, other)]
        raise NoOverlap(" and ".join(f"{first:.4g} to {last:.4g}" for first, last in ends))
    gap = _integral(own[0], own[1], low, high) - _integral(other[0], other[1], low, high)
    mean = gap / (high - low)
    value = 100 * float(np.expm1(mean)) if over == "quality" else mean
    return value, float(plain(low)), float(plain(high))


def _integral(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Integral from `low` to `high`, within x, of the PCHIP interpolant of points (x, y)."""
    slopes, steps = pchip_slopes(x, y), np.diff(x)

    def within(piece: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Integral of a piece from its start to the share t of its length."""
        h = steps[piece]
        ends = y[piece] * (t**4 / 2 - t**3 + t) + y[piece + 1] * (t**3 - t**4 / 2)
        first = slopes[piece] * (t**4 / 4 - 2 * t**3 / 3 + t**2 / 2)
        last = slopes[piece + 1] * (t**4 / 4 - t**3 / 3)
        return h * (ends + h * (first + last))

    pieces = np.arange(len(steps))
    total = np.concatenate([[0.0], np.cumsum(within(pieces, np.ones(len(steps))))])
    places = np.array([low, high])
    piece = np.clip(np.searchsorted(x, places, side="right") - 1, 0, len(steps) - 1)
    sums = total[piece] + within(piece, (places - x[piece]) / steps[piece])
    return float(sums[1] - sums[0])


def pchip_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slopes (P,) of the monotone cubic through points with rising x (P,), P >= 2.

    Inside, the weighted harmonic mean of the neighbouring secants, 0 at a turn (Fritsch and
    Butland 1984); at the ends the three-point formula, held to the shape (as in MATLAB's pchip).
    """
    steps = np.diff(x)
    secants = np.diff(y) / steps
    if len(x) == 2:
        return np.repeat(secants, 2)
    before, after = 2 * steps[1:] + steps[:-1], steps[1:] + 2 * steps[:-1]
    slopes = np.zeros_like(y)
    rising = secants[:-1] * secants[1:] > 0
    weights = before[rising] / secants[:-1][rising] + after[rising] / secants[1:][rising]
    slopes[1:-1][rising] = (before + after)[rising] / weights
    slopes[0] = _end(steps[0], steps[1], secants[0], secants[1])
    slopes[-1] = _end(steps[-1], steps[-2], secants[-1], secants[-2])
    return slopes


def _end(step: float, next_step: float, secant: float, next_secant: float) -> float:
    slope = ((2 * step + next_step) * secant - step * next_secant) / (step + next_step)
    if np.sign(slope) != np.sign(secant):
        return 0.0
    if np.sign(secant) != np.sign(next_secant) and abs(slope) > abs(3 * secant):
        return 3 * secant
    return slope
