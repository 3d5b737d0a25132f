"""The oracle: reads a clip by classical means, so that generated video is scored by no network.

Blobs by colour, shapes by polar templates, motions by fits to tracks. Knows the world's palette
and shapes; does not know what the clip was meant to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from data.scenes.draw import frame_times
from data.scenes.matching import match, radius_of
from data.scenes.plan import RADII
from data.scenes.score import SlotScore, compare
from data.scenes.seeing import Track, View, view
from data.scenes.spec import DIFFICULTIES, MOVES, SCALES, Hit, Reading, Thing, as_reading
from data.scenes.telling import Course, tell


class Oracle:
    """Reads clips of the made world.

    Args:
        difficulty: the level whose sizes `small` and `large` are meant by; None leaves the size
            of objects unread and unscored.
    """

    def __init__(self, difficulty: str | None = None) -> None:
        if difficulty is not None and difficulty not in DIFFICULTIES:
            raise ValueError(f"difficulty={difficulty!r}: choose one of {', '.join(DIFFICULTIES)}")
        self.difficulty = difficulty

    def read(self, frames: Tensor | np.ndarray) -> Reading:
        """What a clip shows.

        Args:
            frames: uint8 (T, 3, H, W), RGB.

        Raises:
            ValueError: if the frames have another shape or type.
        """
        pixels = frames.numpy(force=True) if isinstance(frames, Tensor) else frames
        if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.dtype != np.uint8:
            raise ValueError(f"frames are {pixels.dtype} {pixels.shape}: give uint8 (T, 3, H, W)")
        scene = view(pixels)
        side = min(pixels.shape[2:])
        seen = [self._thing(scene, track, len(pixels), side) for track in scene.tracks]
        return Reading(tuple(thing for thing, _ in seen), _find_hit(seen))

    def score_video(
        self, frames: Tensor | np.ndarray, truth: Reading | Mapping[str, Any] | str
    ) -> SlotScore:
        """Read a clip and score it against its truth, or against a prompt.

        Args:
            frames: uint8 (T, 3, H, W), RGB.
            truth: a reading, a clip's `truth`, or a caption; of a caption only what it mentions
                is scored.
        """
        wanted = as_reading(truth)
        if self.difficulty is None:
            things = tuple(replace(thing, size=None) for thing in wanted.things)
            wanted = replace(wanted, things=things)
        return compare(self.read(frames), wanted)

    def _thing(self, scene: View, track: Track, num_frames: int, side: int) -> tuple[Thing, Course]:
        blobs = track.blobs
        shape, angles = match(scene, blobs)
        radii = np.array([radius_of(blob.area, shape) for blob in blobs]) / side
        values = [(blob.x / side, blob.y / side) for blob in blobs]
        times = frame_times(num_frames)
        first, last = blobs[0].frame, blobs[-1].frame
        course = Course(
            times[[blob.frame for blob in blobs]],
            np.column_stack([values, np.log(radii), angles]),
            float(times[first - 1]) if first else None,
            float(times[last + 1]) if last < num_frames - 1 else None,
        )
        actions = tell(course)
        size = None
        if self.difficulty and not any(action.motion in SCALES for action in actions):
            small, large = (RADII[self.difficulty][word] for word in ("small", "large"))
            border = float(np.sqrt(small[1] * large[0]))
            size = "large" if np.median(radii) > border else "small"
        return Thing(track.colour_name, shape, size, actions), course


def _find_hit(seen: list[tuple[Thing, Course]]) -> Hit | None:
    """One object moving up to another that then moves the same way."""
    for by, (mover, path) in enumerate(seen):
        for on, (moved, other) in enumerate(seen):
            if by == on or len(mover.actions) != 1 or len(moved.actions) != 1:
                continue
            first, second = mover.actions[0], moved.actions[0]
            if first.motion != second.motion or first.motion not in MOVES:
                continue
            if second.start - first.start < 0.25 or abs(first.end - second.start) > 0.15:
                continue
            gap = other.values[0, :2] - path.values[-1, :2]
            course = path.values[-1, :2] - path.values[0, :2]
            reach = np.exp(path.values[-1, 2]) + np.exp(other.values[0, 2])
            along = gap @ course / np.maximum(np.hypot(*gap) * np.hypot(*course), 1e-9)
            if along > 0.85 and np.hypot(*gap) < 1.35 * reach:
                return Hit(by, on, (first.end + second.start) / 2)
    return None
