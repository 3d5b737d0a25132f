"""How few bits a made clip takes from a coder that knows the world: a yardstick for codecs.

A plan is named by what was picked (log2 of the choices) and by its numbers, each rounded to so many
bits; drawn again from the rounded numbers it is a picture with an error. That is an upper bound of
what the clip holds at that error: a cleverer coder would share bits among the numbers by what they
move. It knows plans and pixels, no codec.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data.scenes.draw import draw
from data.scenes.plan import HEAD, SEGMENT, Plan
from data.scenes.spec import COLOURS, MOTIONS, ROUND, SHAPES, SPEEDS
from data.scenes.stories import KINDS

RADII = (0.03, 0.53)  # of all levels and moments, in shorter sides
LENGTH, GROWTH, TURN = 0.8, 1.6, 2 * math.pi  # largest amounts: sides, log of the ratio, radians
BACKDROPS = ((0.2, 0), (0.3, 4), (0.13, 9), (0.13, 9), (0.12, 9), (0.12, 9))  # share, numbers seen


@dataclass(frozen=True)
class PlanCode:
    """A plan as a coder that knows the world would write it."""

    bits: float  # to name it
    plan: Plan  # as its reader has it


@dataclass(frozen=True)
class InformationPoint:
    """Clips named at one precision."""

    precision: int  # bits a number
    bits_per_clip: float  # mean
    bits_per_pixel: float
    psnr: float  # dB, error pooled over all pixels; inf where all are equal
    equal: float  # share of clips without any wrong pixel


def code_plan(plan: Plan, difficulty: str, precision: int) -> PlanCode:
    """A plan with its numbers rounded to `precision` bits, and what naming it costs.

    Args:
        plan: Of a square picture, with the six shapes.
        difficulty: Its level.
        precision: Bits of each number, 1 to 40.
    """
    if not 1 <= precision <= 40:
        raise ValueError(f"precision={precision}: give 1 to 40 bits a number")
    kinds, numbers = KINDS[difficulty], 0
    first = plan.kind if plan.kind in kinds else "several"  # it lost objects that found no room
    bits = math.log2(sum(kinds.values()) / kinds[first]) + (
        1 if first in ("several", "race") else 0
    )
    bodies = plan.bodies.copy()
    moments: dict[float, float] = {}  # of the clip, shared by all that begins or ends then
    for row, thing in zip(bodies, plan.reading.things, strict=True):
        bits += math.log2(len(COLOURS) * len(SHAPES))
        row[2:4] = [_round(value, 0.0, 1.0, precision) for value in row[2:4]]
        row[4] = _round(row[4], *RADII, precision)
        numbers += 3
        if row[5] and thing.shape not in ROUND:
            row[5] = _round(row[5] % TURN, 0.0, TURN, precision)
            numbers += 1
        for place in (6, 7):
            row[place] = _moment(row[place], moments, precision)
        for at in (HEAD, HEAD + SEGMENT):
            part = row[at : at + SEGMENT]
            numbers += _round_amounts(part, precision)
            part[0], part[1] = (_moment(value, moments, precision) for value in part[:2])
        bits += len(thing.actions) * math.log2(len(MOTIONS) * len(SPEEDS))
    numbers += len(moments)
    background = plan.background
    if background is not None:
        shares = np.cumsum([share for share, _ in BACKDROPS])
        share, seen = BACKDROPS[min(int((shares <= background[0]).sum()), len(BACKDROPS) - 1)]
        bits += math.log2(1 / share)
        rounded = [_round(value, 0.0, 1.0, precision) for value in background[1 : 1 + seen]]
        background = np.concatenate([background[:1], rounded, background[1 + seen :]])
        numbers += seen
    return PlanCode(bits + numbers * precision, replace(plan, bodies=bodies, background=background))


def information(
    plans: Sequence[Plan],
    difficulty: str,
    precisions: Sequence[int],
    num_frames: int = 16,
    side: int = 64,
) -> list[InformationPoint]:
    """Bits and error of plans drawn at `num_frames` x `side` x `side`, at each precision."""
    true = draw(plans, num_frames, side, side).astype(np.float64)
    points = []
    for precision in precisions:
        codes = [code_plan(plan, difficulty, precision) for plan in plans]
        again = draw([code.plan for code in codes], num_frames, side, side)
        error = np.square(true - again).reshape(len(plans), -1)
        mean, bits = error.mean(), float(np.mean([code.bits for code in codes]))
        points.append(
            InformationPoint(
                precision,
                bits,
                bits / (num_frames * side * side),
                10 * math.log10(255**2 / mean) if mean else math.inf,
                float((error.max(1) == 0).mean()),
            )
        )
    return points


def _round(value: float, low: float, high: float, precision: int) -> float:
    """The middle of the cell, of 2 ** precision from low to high, that the value lies in."""
    cells = 2**precision
    cell = min(max(math.floor((value - low) / (high - low) * cells), 0), cells - 1)
    return low + (cell + 0.5) * (high - low) / cells


def _moment(value: float, moments: dict[float, float], precision: int) -> float:
    """A moment rounded; those at a clip's ends, or beyond them, are known without a number."""
    if not 0.0 < value < 1.0:
        return value
    return moments.setdefault(value, _round(value, 0.0, 1.0, precision))


def _round_amounts(part: np.ndarray, precision: int) -> int:
    """Round how far, how much and how long an action goes, in place; how many numbers these are.

    Directions, hops and their height follow from the action's words.
    """
    numbers = 0
    length = math.hypot(part[2], part[3])
    if length:
        part[2:4] *= _round(length, 0.0, LENGTH, precision) / length
        numbers += 1
    for place, most in ((4, GROWTH), (5, TURN)):
        if part[place]:
            size = _round(abs(part[place]), 0.0, most, precision)
            part[place] = math.copysign(size, part[place])
            numbers += 1
    return numbers
