"""From frames to tracks: which coloured blobs there are, and where each goes.

Classical and cheap: colours by hue and brightness, connected pieces, nearest-neighbour tracks.
Knows the palette and that backdrops are dim; knows nothing of shapes or motions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from data.scenes.draw import PALETTE
from data.scenes.spec import COLOURS

LEAST_AREA = 0.0032  # of the square of the shorter side: smaller pieces are specks
LEAST_SHARE = 0.02  # a colour with fewer of the bright pixels is an edge or a smear
MOST_DIM = 110.0  # a backdrop brighter than any the world draws is not believed
MOST_TRACKS = 6  # objects described in a clip: the largest
MOST_BLOBS = 10  # a frame: the largest
REACH_PER_FRAME = 0.3  # shorter sides: how far an object may jump between frames of a long clip
_HUES = PALETTE / PALETTE.max(axis=1, keepdims=True)


@dataclass
class Blob:
    """One connected piece of one colour in one frame; pixels unless said."""

    frame: int
    colour: int  # row of the palette
    label: int  # of its pixels in `Scene.pieces`
    area: float
    x: float
    y: float
    cut: bool  # touches the picture's edge


@dataclass
class Track:
    """One object over time."""

    colour: int
    blobs: list[Blob] = field(default_factory=list)

    @property
    def colour_name(self) -> str:
        return list(COLOURS)[self.colour]


@dataclass
class View:
    """What was found in a clip.

    pieces: int (T, H, W), label of each pixel's blob, 0 for none.
    cover: float32 (T, H, W), how much of each pixel an object covers, 0 to 1.
    """

    tracks: list[Track]
    pieces: np.ndarray
    cover: np.ndarray


def view(frames: np.ndarray) -> View:
    """Find the objects in uint8 frames (T, 3, H, W)."""
    num_frames, _, height, width = frames.shape
    side = min(height, width)
    value = frames.max(axis=1)  # (T, H, W)
    dim = float(np.median(value[:: max(1, num_frames // 4), ::2, ::2]))
    dim = min(dim, MOST_DIM)
    threshold = max(105.0, (dim + 225.0) / 2)
    bright = value > threshold
    where = np.flatnonzero(bright)
    labels = np.zeros(value.shape, dtype=np.int16)
    cover = np.clip((value - np.float32(dim)) / np.float32(235.0 - dim), 0.0, 1.0)
    if len(where):
        labels.reshape(-1)[where] = _colours(frames, value, where, threshold)
    pieces, count = connect(labels)
    blobs = _blobs(pieces, count, labels, cover, LEAST_AREA * side * side)
    return View(_track(blobs, num_frames, side), pieces, cover)


def _colours(
    frames: np.ndarray, value: np.ndarray, where: np.ndarray, threshold: float
) -> np.ndarray:
    """Palette row + 1 of each bright pixel, among the colours that the clip clearly has."""
    planes = frames.transpose(1, 0, 2, 3).reshape(3, -1)
    ink = planes[:, where].astype(np.float32)
    strength = value.reshape(-1)[where].astype(np.float32)
    ink /= strength
    affinity = ink.T @ _HUES.T - 0.5 * (_HUES**2).sum(axis=1)  # (N, colours)
    solid = strength > threshold + 0.4 * (225.0 - threshold)
    votes = np.bincount(affinity[solid].argmax(axis=1), minlength=len(PALETTE))
    kept = np.flatnonzero(votes > max(3.0, LEAST_SHARE * votes.sum()))
    if len(kept) == 0:
        kept = np.array([int(affinity.sum(axis=0).argmax())])
    return (kept[affinity[:, kept].argmax(axis=1)] + 1).astype(np.int16)


def connect(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Connected pieces of equal label within each frame.

    Args:
        labels: int (T, H, W), 0 for nothing.

    Returns:
        int32 (T, H, W) with pieces numbered from 1, and their number.
    """
    starts = labels != 0
    starts[:, :, 1:] &= labels[:, :, 1:] != labels[:, :, :-1]
    runs = np.cumsum(starts.reshape(-1), dtype=np.int32).reshape(labels.shape)
    count = int(runs.reshape(-1)[-1]) + 1
    runs[labels == 0] = 0
    touching = (labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] != 0)
    upper, lower = runs[:, :-1][touching], runs[:, 1:][touching]
    if len(upper):
        new = np.ones(len(upper), dtype=bool)
        new[1:] = (upper[1:] != upper[:-1]) | (lower[1:] != lower[:-1])
        upper, lower = upper[new], lower[new]
    parent = np.arange(count)
    while True:
        least = np.minimum(parent[upper], parent[lower])
        before = parent.copy()
        np.minimum.at(parent, parent[upper], least)
        np.minimum.at(parent, parent[lower], least)
        parent = parent[parent]
        if (parent == before).all():
            break
    _, number = np.unique(parent, return_inverse=True)  # background 0 stays 0
    return number.astype(np.int32)[runs], int(number.max())


def _blobs(
    pieces: np.ndarray, count: int, labels: np.ndarray, cover: np.ndarray, least: float
) -> list[Blob]:
    if count == 0:
        return []
    _, height, width = pieces.shape
    where = np.flatnonzero(pieces)
    piece, weight = pieces.reshape(-1)[where], cover.reshape(-1)[where]
    frame, inside = np.divmod(where, height * width)
    row, column = np.divmod(inside, width)

    def summed(values: np.ndarray | None) -> np.ndarray:
        return np.bincount(piece, values, minlength=count + 1)

    area, mass = summed(None), np.maximum(summed(weight), 1e-6)
    x = summed(weight * (column + 0.5)) / mass
    y = summed(weight * (row + 0.5)) / mass
    edge = (column == 0) | (row == 0) | (column == width - 1) | (row == height - 1)
    cut = summed(edge.astype(np.float32)) > 2
    first = np.zeros(count + 1, dtype=np.int64)
    first[piece[::-1]] = np.arange(len(piece))[::-1]
    colour = labels.reshape(-1)[where]
    return [
        Blob(
            int(frame[first[n]]),
            int(colour[first[n]]) - 1,
            int(n),
            float(area[n]),
            float(x[n]),
            float(y[n]),
            bool(cut[n]),
        )
        for n in np.flatnonzero(area >= least)
        if n
    ]


def _track(blobs: list[Blob], num_frames: int, side: int) -> list[Track]:
    """Join blobs of one colour over time to the nearest; drop what is seen too shortly."""
    tracks: list[Track] = []
    reach = max(REACH_PER_FRAME, min(0.7, 1.2 / max(num_frames - 1, 1))) * side
    seen: Counter[int] = Counter()
    for blob in sorted(blobs, key=lambda blob: (blob.frame, -blob.area)):
        seen[blob.frame] += 1
        if seen[blob.frame] > MOST_BLOBS:
            continue
        best, nearest = None, reach
        for track in tracks:
            last = track.blobs[-1]
            if track.colour != blob.colour or not 0 < blob.frame - last.frame <= 3:
                continue
            distance = float(np.hypot(blob.x - last.x, blob.y - last.y))
            distance += 0.3 * abs(blob.area**0.5 - last.area**0.5)
            if distance < nearest:
                best, nearest = track, distance
        if best is None:
            best = Track(blob.colour)
            tracks.append(best)
        best.blobs.append(blob)
    least = min(num_frames, max(2, round(0.15 * num_frames)))
    lasting = [track for track in tracks if len(track.blobs) >= least]
    lasting.sort(key=lambda track: -sum(blob.area for blob in track.blobs))
    return lasting[:MOST_TRACKS]
