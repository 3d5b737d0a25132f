"""Ratios of sums over clips, with intervals of a bootstrap over clips. Knows numbers only."""

from __future__ import annotations

import math

import numpy as np

from tokenizer.diagnosis import Estimate

DRAWS = 2_000


class Ratio:
    """Two sums by clip, and the ratio of their totals with a bootstrap interval over clips."""

    def __init__(self) -> None:
        self.top, self.low = [0.0], [0.0]

    def add(self, top: float, low: float) -> None:
        self.top[-1] += top
        self.low[-1] += low

    def end_clip(self) -> None:
        self.top.append(0.0)
        self.low.append(0.0)

    def drawn(self, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Totals over all clips, then over DRAWS resamplings of the clips."""
        top, low = np.array(self.top[:-1]), np.array(self.low[:-1])
        kept = low > 0
        top, low = top[kept], low[kept]
        if len(low) < 2:
            return top.sum(keepdims=True), low.sum(keepdims=True)
        drawn = np.random.default_rng(seed).integers(0, len(low), (DRAWS, len(low)))
        return np.append(top.sum(), top[drawn].sum(1)), np.append(low.sum(), low[drawn].sum(1))


def estimate(values: np.ndarray) -> Estimate | None:
    """The first value with the middle 95 % of the others; None where it is not finite."""
    if not len(values) or not math.isfinite(values[0]):
        return None
    others = values[1:][np.isfinite(values[1:])]
    if not len(others):
        return Estimate(float(values[0]), None, None)
    low, high = np.quantile(others, (0.025, 0.975))
    return Estimate(float(values[0]), float(low), float(high))


def decibels(one: Ratio, other: Ratio) -> Estimate | None:
    """How far the mean of one lies above that of the other, over clips that have both."""
    both = [
        four
        for four in zip(one.top, one.low, other.top, other.low, strict=True)
        if four[1] and four[3]
    ]
    if not both:
        return None
    sums = np.array(both)  # (clips, 4)
    totals = [sums.sum(0)]
    if len(both) > 1:
        drawn = np.random.default_rng(0).integers(0, len(both), (DRAWS, len(both)))
        totals += list(sums[drawn].sum(1))
    top, count, low, other_count = np.stack(totals).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate(10 * np.log10((top / count) / (low / other_count)))
