"""Intervals by drawing clips again: how far a figure depends on which clips were at hand.

After B. Efron (1979): clips are drawn with replacement, as many as there are; percentiles of what
the draws give bound the figure. Two curves are drawn alike, so that their differences are of pairs.

Legend: P points of a curve, n clips, R draws of the clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokenizer.studies.curve import Curve, pool

CONFIDENCE = 0.95
RESAMPLES = 1000


def draw_clips(number: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each of `number` clips occurs in each draw: float64 (R, n)."""
    luck = np.random.default_rng(seed)
    counts = luck.multinomial(number, np.full(number, 1 / number), size=resamples)
    return counts.astype(np.float64)


def bounds(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Lower and upper bound of what draws gave (R,)."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return low, high


def intervals(curve: Curve, keys: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """The interval of each point of a curve, by metric.

    Metrics that are not pooled over clips have none, nor has a curve of fewer than two clips.
    """
    if len(curve.clips) < 2:
        return {}
    pooled = pool(curve.clips, draw_clips(len(curve.clips)))
    return {
        key: [bounds(pooled[key][:, point]) for point in range(curve.num_points)]
        for key in keys
        if key in pooled
    }
