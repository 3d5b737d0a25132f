"""Shapes as signed distances on a grid, so that one table draws any radius, angle and offset.

Knows geometry in units of the shape's radius; knows nothing of pictures, colours or motion.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from data.scenes.spec import SHAPES

GRID = 256  # cells along one side of a shape's table
REACH = 1.5  # the table covers [-REACH, REACH] in units of the shape's radius


def _polygon(points: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance (negative inside) to a simple polygon, points (K, 2)."""
    distance = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
        distance = np.minimum(distance, np.hypot(x - ax - along * ex, y - ay - along * ey))
        crosses = (ay > y) != (by > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x < ax + (y - ay) * ex / ey)
    return np.where(inside, -distance, distance)


def _regular(count: int, radius: float, inner: float | None = None) -> np.ndarray:
    """Corners of a regular polygon with one corner up; with `inner`, of a star."""
    steps = count if inner is None else 2 * count
    turn = np.arange(steps) * 2 * np.pi / steps
    length = np.full(steps, radius)
    if inner is not None:
        length[1::2] = inner
    return np.stack([np.sin(turn) * length, -np.cos(turn) * length], axis=1)


def _cross(reach: float, half: float) -> np.ndarray:
    corner = [(half, -reach), (half, -half), (reach, -half), (reach, half), (half, half)]
    right = corner + [(half, reach)]
    return np.array(right + [(-px, -py) for px, py in right])


@cache
def distance_table() -> np.ndarray:
    """float32 (shapes, GRID, GRID): signed distance in radii, rows downwards, negative inside."""
    axis = (np.arange(GRID) + 0.5) / GRID * 2 * REACH - REACH
    x, y = np.meshgrid(axis, axis)
    length = np.hypot(x, y)
    tables = {
        "circle": length - 0.92,
        "square": _polygon(_regular(4, 1.16) @ _rotation(45.0), x, y),
        "triangle": _polygon(_regular(3, 1.12), x, y),
        "cross": _polygon(_cross(1.0, 0.30), x, y),
        "ring": np.abs(length - 0.76) - 0.24,
        "star": _polygon(_regular(5, 1.15, 0.46), x, y),
    }
    return np.stack([tables[shape] for shape in SHAPES]).astype(np.float32)


def _rotation(degrees: float) -> np.ndarray:
    turn = np.deg2rad(degrees)
    return np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


@cache
def extents() -> np.ndarray:
    """float (shapes, 4): how far each upright shape reaches right, left, up, down, in radii."""
    axis = (np.arange(GRID) + 0.5) / GRID * 2 * REACH - REACH
    inside = distance_table() < 0
    reach = []
    for table in inside:
        columns, rows = axis[table.any(axis=0)], axis[table.any(axis=1)]
        reach.append((columns.max(), -columns.min(), -rows.min(), rows.max()))
    return np.array(reach)


def coverage(
    shapes: np.ndarray,
    radii: np.ndarray,
    angles: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    table: np.ndarray | None = None,
) -> np.ndarray:
    """Share of each pixel that the shape covers, anti-aliased.

    Args:
        shapes: int (M,), index into `SHAPES` (or into `table`).
        radii: float32 (M,), pixels.
        angles: float32 (M,), radians, clockwise in the picture.
        x: float32 (M, P), pixel centres relative to the shape's centre, along the width.
        y: float32 (M, Q), the same along the height.
        table: another distance table (K, GRID, GRID), e.g. with digits.

    Returns:
        float32 (M, Q, P) in [0, 1].
    """
    if table is None:
        table = distance_table()
    scale = (GRID / (2 * REACH)) / np.maximum(radii, 1e-3)
    cos, sin = (np.cos(angles) * scale)[:, None], (np.sin(angles) * scale)[:, None]
    half = np.float32(GRID / 2)
    column = ((x * cos + half)[:, None, :] + (y * sin)[:, :, None]).astype(np.int32)
    row = ((half - x * sin)[:, None, :] + (y * cos)[:, :, None]).astype(np.int32)
    np.clip(column, 0, GRID - 1, out=column)
    np.clip(row, 0, GRID - 1, out=row)
    row += (shapes.astype(np.int32) * GRID)[:, None, None]
    row *= GRID
    row += column
    distance = table.reshape(-1).take(row)
    distance *= -radii[:, None, None]
    distance += np.float32(0.5)
    return np.clip(distance, 0.0, 1.0, out=distance)
