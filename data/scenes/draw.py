"""Plans to pixels: any number of scenes at once, any size and length, anti-aliased.

Knows rows of numbers (`Plan.bodies`, `Plan.background`); knows nothing of words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.scenes.plan import Plan, trace
from data.scenes.spec import COLOURS
from data.scenes.sprites import REACH, coverage

PALETTE = np.array(list(COLOURS.values()), dtype=np.float32)
BRIGHTEST = 95  # of any backdrop; objects have a channel of at least 200
CHUNK = 16  # scenes drawn at once: keeps the working set inside the caches


def frame_times(num_frames: int) -> np.ndarray:
    """Fractions of the clip at which its frames are taken: first 0, last 1."""
    return np.linspace(0.0, 1.0, num_frames) if num_frames > 1 else np.zeros(1)


def draw(
    plans: Sequence[Plan],
    num_frames: int,
    height: int,
    width: int,
    table: np.ndarray | None = None,
) -> np.ndarray:
    """Frames of several scenes.

    Args:
        plans: B scenes.
        num_frames: T, at least 1.
        height: pixels.
        width: pixels.
        table: distance tables of more shapes than the six, as `digit_table` makes them.

    Returns:
        uint8 (B, num_frames, 3, height, width), RGB.
    """
    frames = np.zeros((len(plans), num_frames, 3, height, width), dtype=np.uint8)
    for first in range(0, len(plans), CHUNK):
        part = plans[first : first + CHUNK]
        _draw_chunk(part, frames[first : first + CHUNK], table)
    return frames


def _draw_chunk(plans: Sequence[Plan], frames: np.ndarray, table: np.ndarray | None) -> None:
    num_frames, _, height, width = frames.shape[1:]
    side = min(height, width)
    for number, plan in enumerate(plans):
        if plan.background is not None:
            frames[number] = background(plan.background, height, width)
    most = max(len(plan.bodies) for plan in plans)
    times = frame_times(num_frames)
    for layer in range(most):  # objects drawn in order, so that later ones cover earlier ones
        here = [number for number, plan in enumerate(plans) if len(plan.bodies) > layer]
        bodies = np.stack([plans[number].bodies[layer] for number in here])
        shift = np.array([plans[number].shift for number in here])[:, None]
        x, y, radius, angle, visible = trace(bodies, times)  # each (M, T)
        x = x * side + shift * (width - side)
        y = y * side + shift * (height - side)
        clip, frame = np.nonzero(visible)
        if len(clip) == 0:
            continue
        _paint(
            frames,
            np.array(here)[clip],
            frame,
            bodies[clip, 0].astype(np.int32),
            bodies[clip, 1].astype(np.int32),
            np.stack([x, y, radius * side, angle])[:, clip, frame].astype(np.float32),
            table,
        )


def _paint(
    frames: np.ndarray,
    clips: np.ndarray,
    times: np.ndarray,
    shapes: np.ndarray,
    colours: np.ndarray,
    places: np.ndarray,
    table: np.ndarray | None,
) -> None:
    """Blend sprites (one per row of the arguments) into frames (B, T, 3, H, W) in place."""
    _, num_frames, _, height, width = frames.shape
    x, y, radius, angle = places
    reach = int(np.ceil(float(radius.max()) * (REACH - 0.3))) + 1
    offset = np.arange(-reach, reach + 1)
    column = np.floor(x).astype(np.int32)[:, None] + offset  # (M, P)
    row = np.floor(y).astype(np.int32)[:, None] + offset
    right = column + np.float32(0.5) - x[:, None]
    down = row + np.float32(0.5) - y[:, None]
    alpha = coverage(shapes, radius, angle, right, down, table)
    alpha *= ((row >= 0) & (row < height))[:, :, None]
    alpha *= ((column >= 0) & (column < width))[:, None, :]
    pixel = np.flatnonzero(alpha)
    sprite = pixel // alpha[0].size
    base = (clips * num_frames + times) * (3 * height * width)
    place = base[:, None, None] + row[:, :, None] * width + column[:, None, :]
    place = place.reshape(-1)[pixel]
    share = alpha.reshape(-1)[pixel]
    flat = frames.reshape(-1)
    for channel in range(3):
        here = place + channel * height * width
        ink = PALETTE[colours, channel][sprite]
        below = flat[here].astype(np.float32)
        flat[here] = below + (ink - below) * share + np.float32(0.5)


def background(numbers: np.ndarray, height: int, width: int) -> np.ndarray:
    """A dim, nearly grey backdrop, black, plain or textured, of the same look at any size.

    Args:
        numbers: float (BACKGROUND_NUMBERS,), in [0, 1).

    Returns:
        uint8 (3, H, W), every value at most `BRIGHTEST`.
    """
    kind, level, red, green, blue, strength, pitch, turn, slip, slope = numbers[:10]
    if kind < 0.2:
        return np.zeros((3, height, width), dtype=np.uint8)
    tint = np.array([red, green, blue], dtype=np.float32)[:, None, None] * 16 - 8
    base = 22 + 46 * np.float32(level) + tint
    if kind < 0.5:
        return np.broadcast_to(base, (3, height, width)).astype(np.uint8)
    side = min(height, width)
    x = ((np.arange(width, dtype=np.float32) + 0.5) / side)[None, :]
    y = ((np.arange(height, dtype=np.float32) + 0.5) / side)[:, None]
    cos, sin = np.float32(np.cos(np.pi * turn)), np.float32(np.sin(np.pi * turn))
    along, across = x * cos + y * sin + slip, y * cos - x * sin + slope
    rate = np.float32(np.pi * (4 + 6 * pitch))
    if kind < 0.63:  # stripes
        pattern = np.sin(rate * along)
    elif kind < 0.76:  # checks
        pattern = np.sign(np.sin(rate * along) * np.sin(rate * across))
    elif kind < 0.88:  # blotches
        pattern = np.sin(rate * along + 2 * np.sin(rate * across * 0.6)) * np.cos(rate * across)
    else:  # a slope
        pattern = 2 * (along - along.min()) / max(float(np.ptp(along)), 1e-6) - 1
    picture = base + (8 + 14 * np.float32(strength)) * pattern
    return np.clip(picture, 0, BRIGHTEST).astype(np.uint8)
