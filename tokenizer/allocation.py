"""Allocation: tokens shared out among blocks where they lower the squared error most.

Each block has a curve: its error at a few numbers of tokens, the same numbers for all. Only the
curve's lower convex hull counts, so that the steepest next step is always the best one (Shoham and
Gersho 1988). Numbers only: no networks, no pictures.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence


def tried_counts(slots: int, summary: int, per_octave: int) -> tuple[int, ...]:
    """Numbers of tokens to try of a block: 1 and all, and between them evenly spaced ratios.

    The ratios are those of the summary's tokens, then of the grid's that follow it: where each
    doubling of an interlaced grid is whole, pictures improve most.

    Args:
        slots: Tokens of a block at the full rate.
        summary: How many of them, the first ones, are its summary.
        per_octave: Counts for each doubling.
    """
    grid = slots - summary
    return tuple(
        sorted(
            {1}
            | set(_octaves(summary, per_octave))
            | {summary + count for count in _octaves(grid, per_octave)}
        )
    )


def _octaves(top: int, per_octave: int) -> list[int]:
    """Whole numbers from `top` down to 1 at even ratios."""
    steps = 1 + math.floor(per_octave * math.log2(top)) if top else 0
    return [round(top * 2 ** (-step / per_octave)) for step in range(steps)]


def share_out(counts: Sequence[int], curves: Sequence[Sequence[float]], total: int) -> list[int]:
    """Tokens of each block, at most `total` (at least one a block) together.

    Fewer are spent where the curves say that more would not help. Ties go to the earlier block.

    Args:
        counts: Numbers of tokens, rising from 1.
        curves: Of each block, its error at each of `counts`.
        total: Tokens to share out.
    """
    assert counts[0] == 1 and total >= len(curves)
    steps: list[tuple[float, int, int]] = []  # error saved a token, block, tokens
    for block, curve in enumerate(curves):
        hull = _hull(counts, curve)
        for (few, worse), (many, better) in zip(hull, hull[1:], strict=False):
            steps.append(((worse - better) / (many - few), block, many - few))
    spent, left = [1] * len(curves), total - len(curves)
    for _, block, tokens in sorted(steps, key=lambda step: -step[0]):
        taken = min(tokens, left)
        spent[block] += taken
        left -= taken
    return spent


def whole_step(counts: Sequence[int], curve: Sequence[float], tokens: int) -> int:
    """The number of tokens nearest to `tokens` that lies on a curve's hull.

    Between two of these a block's tokens save less than they promise: codecs improve in jumps.
    """
    return min((count for count, _ in _hull(counts, curve)), key=lambda count: abs(count - tokens))


def error_at(counts: Sequence[int], curve: Sequence[float], tokens: int) -> float:
    """A curve's error at a number of tokens, straight between those tried."""
    place = bisect_left(counts, tokens)
    if counts[place] == tokens:
        return curve[place]
    few, many = counts[place - 1], counts[place]
    part = (tokens - few) / (many - few)
    return (1 - part) * curve[place - 1] + part * curve[place]


def _hull(counts: Sequence[int], curve: Sequence[float]) -> list[tuple[int, float]]:
    """The falling part of a curve's lower convex hull, as (tokens, error)."""
    hull: list[tuple[int, float]] = []
    for many, better in zip(counts, curve, strict=True):
        if hull and better >= hull[-1][1]:
            continue
        while len(hull) > 1:
            (few, worst), (some, worse) = hull[-2:]
            if (worst - worse) * (many - some) > (worse - better) * (some - few):
                break  # the step to `some` is steeper than the one from it
            hull.pop()
        hull.append((many, better))
    return hull
