"""Which shape a blob is and how it is turned, by comparing polar pictures with rendered ones.

A blob is sampled on circles around its centre, so that turning it is a shift; templates come from
the same renderer at several sizes and blurs. Knows shapes; knows nothing of colours or time.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from data.scenes.seeing import Blob, View
from data.scenes.spec import SHAPES
from data.scenes.sprites import coverage

ANGLES = 48
RINGS = np.array([0.15, 0.4, 0.65, 0.85, 1.05, 1.25, 1.45, 1.65], dtype=np.float32)
TEMPLATE_SIZES = (2.7, 3.5, 4.5, 6.0, 8.0, 11.0, 16.0, 26.0)  # radius of a disc of that area, px
BLURS = (0.0, 0.7, 1.2)  # Gaussian, pixels
FOLD = {"square": 4, "cross": 4, "triangle": 3, "star": 5}  # turns that change nothing


def polar(cover: np.ndarray, frames: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Sample pictures on circles.

    Args:
        cover: float32 (T, H, W).
        frames: int (M,), which picture.
        places: float (M, 3), centre x, y and radius of a disc of the same area, pixels.

    Returns:
        float32 (M, RINGS, ANGLES); clockwise from the right.
    """
    _, height, width = cover.shape
    turn = np.arange(ANGLES, dtype=np.float32) * np.float32(2 * np.pi / ANGLES)
    reach = places[:, 2].astype(np.float32)[:, None, None] * RINGS[:, None]
    x = places[:, 0].astype(np.float32)[:, None, None] - 0.5 + reach * np.cos(turn)
    y = places[:, 1].astype(np.float32)[:, None, None] - 0.5 + reach * np.sin(turn)
    column, row = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    right, down = x - column, y - row
    outside = (column < 0) | (column >= width - 1) | (row < 0) | (row >= height - 1)
    np.clip(column, 0, max(width - 2, 0), out=column)
    np.clip(row, 0, max(height - 2, 0), out=row)
    flat, across, below = cover.reshape(-1), int(width > 1), width * int(height > 1)
    at = frames[:, None, None] * (height * width) + row * width + column
    top = flat[at] * (1 - right) + flat[at + across] * right
    bottom = flat[at + below] * (1 - right) + flat[at + below + across] * right
    picture = top * (1 - down) + bottom * down
    picture[outside] = 0.0
    return picture


def _blur(pictures: np.ndarray, sigma: float) -> np.ndarray:
    if sigma == 0:
        return pictures
    steps = np.arange(-4, 5)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (1, 2):
        moved = [np.roll(pictures, int(step), axis) for step in steps]
        pictures = np.tensordot(kernel, np.stack(moved), axes=1)
    return pictures


@cache
def templates() -> np.ndarray:
    """complex64 (sizes, shapes * blurs, RINGS, ANGLES // 2 + 1): spectra along the angle."""
    offsets = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5), (0.25, 0.75), (0.75, 0.25)]
    area_of = _areas()
    rows = []
    for size in TEMPLATE_SIZES:
        half = int(size * 2.2) + 6
        grid = np.arange(-half, half + 1, dtype=np.float32)
        row = []
        for number in range(len(SHAPES)):
            radius = size / np.sqrt(area_of[number] / np.pi)
            many = np.full(len(offsets), radius, dtype=np.float32)
            shift = np.array(offsets, dtype=np.float32)
            pictures = coverage(
                np.full(len(offsets), number),
                many,
                np.zeros(len(offsets), dtype=np.float32),
                grid - shift[:, :1],
                grid - shift[:, 1:],
            )
            for sigma in BLURS:
                blurred = _blur(pictures, sigma).astype(np.float32)
                places = _measure(blurred)
                row.append(polar(blurred, np.arange(len(offsets)), places).mean(axis=0))
        rows.append(row)
    return np.fft.rfft(np.array(rows), axis=-1).astype(np.complex64)


def _measure(pictures: np.ndarray) -> np.ndarray:
    """Centre and disc radius of pictures (M, H, W), each with one shape: (M, 3)."""
    mask = pictures > 0.5 * pictures.max(axis=(1, 2), keepdims=True)
    weight = pictures * mask
    mass = weight.sum(axis=(1, 2))
    x = (weight.sum(axis=1) * (np.arange(pictures.shape[2]) + 0.5)).sum(axis=1) / mass
    y = (weight.sum(axis=2) * (np.arange(pictures.shape[1]) + 0.5)).sum(axis=1) / mass
    return np.stack([x, y, np.sqrt(mask.sum(axis=(1, 2)) / np.pi)], axis=1)


@cache
def _areas() -> np.ndarray:
    """Area of each shape of radius 1."""
    grid = np.arange(-60, 61, dtype=np.float32)
    count = len(SHAPES)
    pictures = coverage(
        np.arange(count),
        np.full(count, 40.0, dtype=np.float32),
        np.zeros(count, dtype=np.float32),
        np.tile(grid, (count, 1)),
        np.tile(grid, (count, 1)),
    )
    return pictures.sum(axis=(1, 2)) / 40.0**2


def radius_of(area: float | np.ndarray, shape: str) -> float | np.ndarray:
    """The radius (as the renderer means it) of a shape that covers `area` pixels."""
    return np.sqrt(area / _areas()[SHAPES.index(shape)])


def match(scene: View, blobs: list[Blob]) -> tuple[str, np.ndarray]:
    """The shape of one object and its angle in each of its blobs.

    Returns:
        The shape's name, and float (len(blobs),): radians clockwise from upright, unwrapped over
        time, zero where the shape's turning cannot be seen.
    """
    frames = np.array([blob.frame for blob in blobs])
    size = np.sqrt(np.array([blob.area for blob in blobs]) / np.pi)
    places = np.array([(blob.x, blob.y) for blob in blobs])
    pictures = polar(_alone(scene, blobs), frames, np.column_stack([places, size]))
    spectra = np.fft.rfft(pictures, axis=-1)
    which = np.abs(np.log(size[:, None] / np.array(TEMPLATE_SIZES))).argmin(axis=1)
    near = templates()[which]  # (M, K, R, F)
    weighted = (RINGS[:, None] * spectra)[:, None] * near.conj()
    overlap = np.fft.irfft(weighted.sum(axis=2), n=ANGLES, axis=-1)  # (M, K, ANGLES)
    power = _power(near)
    own = (RINGS[:, None] * pictures**2).sum(axis=(1, 2))
    error = own[:, None] + power - 2 * overlap.max(axis=-1)
    trust = size * np.array([0.1 if blob.cut else 1.0 for blob in blobs])
    per_shape = (error.reshape(len(blobs), len(SHAPES), -1) * trust[:, None, None]).sum(axis=0)
    best = int(per_shape.min(axis=1).argmin())
    kind = best * len(BLURS) + int(per_shape[best].argmin())
    return SHAPES[best], _angles(overlap[:, kind], FOLD.get(SHAPES[best], 0))


def _power(spectra: np.ndarray) -> np.ndarray:
    """Ring-weighted energy of spectra (..., R, F)."""
    double = np.full(spectra.shape[-1], 2.0)
    double[0] = double[-1] = 1.0
    return (RINGS[:, None] * double * np.abs(spectra) ** 2).sum(axis=(-1, -2)) / ANGLES


def _alone(scene: View, blobs: list[Blob]) -> np.ndarray:
    """The cover with every other blob's pixels taken out."""
    mine = np.zeros(int(scene.pieces.max()) + 1, dtype=bool)
    mine[0] = True
    mine[[blob.label for blob in blobs]] = True
    return scene.cover * mine[scene.pieces]


def _angles(overlap: np.ndarray, fold: int) -> np.ndarray:
    """Angles (M,) from correlations (M, ANGLES), unwrapped modulo the shape's symmetry."""
    if not fold:
        return np.zeros(len(overlap))
    peak = overlap.argmax(axis=1)
    rows = np.arange(len(overlap))
    left, middle, right = (overlap[rows, (peak + step) % ANGLES] for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    peak = peak + np.where(
        np.abs(bend) > 1e-9, 0.5 * (left - right) / np.where(bend == 0, 1, bend), 0
    )
    return np.unwrap(peak * (2 * np.pi / ANGLES), period=2 * np.pi / fold)
