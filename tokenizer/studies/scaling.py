"""How a figure grows: the exponent of a power law through measured points, and its trust.

It knows numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BENT = 0.15  # by which the last slope may leave the fitted one before a note says so
POOR = 0.95  # R² below which a fit is poor


@dataclass(frozen=True)
class Exponent:
    """y grows as x to the power `value`, as far as the points say."""

    value: float | None  # slope of log y over log x, least squares; None below two points
    r2: float | None  # share of log y's spread that the line explains; None where y is constant
    last: float | None  # slope between the two largest points
    num_points: int
    note: str  # what to mind, or ""

    def __str__(self) -> str:
        if self.value is None:
            return ""
        bent = self.last is not None and abs(self.last - self.value) > BENT
        return f"{self.value:.2f}" + (f"/{self.last:.2f}" if bent else "")


def fit_exponent(points: Sequence[tuple[float, float]]) -> Exponent:
    """The exponent p of y = a * x**p through points (x, y).

    A constant part of y, which small x are full of, bends the line: where the two largest points
    rise more steeply than the fit, the note says so, and their slope is nearer to the truth.
    Points that are not above 0 have no logarithm and are left out.
    """
    kept = sorted((x, y) for x, y in points if x > 0 and y > 0)
    number = len({x for x, _ in kept})
    if number < 2:
        return Exponent(None, None, None, number, f"{number} of {len(points)} points: no exponent")
    x, y = np.log([x for x, _ in kept]), np.log([y for _, y in kept])
    slope, start = np.polyfit(x, y, 1)
    left, spread = np.square(y - slope * x - start).sum(), np.square(y - y.mean()).sum()
    r2 = 1 - float(left / spread) if spread > 1e-12 else None
    last = float((y[-1] - y[-2]) / (x[-1] - x[-2])) if x[-1] > x[-2] else math.nan
    notes = []
    if number == 2:
        notes.append("two points: any line fits them")
    elif last - slope > BENT:
        notes.append(f"a constant part weighs on small ones: {last:.2f} at the large end")
    elif slope - last > BENT:
        notes.append(f"flattens: {last:.2f} at the large end")
    if r2 is not None and r2 < POOR:
        notes.append(f"poor fit, R² {r2:.2f}")
    return Exponent(float(slope), r2, last, number, "; ".join(notes))
