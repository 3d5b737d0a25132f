"""Framing: bringing any clip to the size, frame rate and length that a model was trained on.

Knows clips and formats. Knows no ids and no network.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from data.clip import Clip
from data.sampling import TargetFps, Uniform, sample
from lm.formats import VideoFormat

MOMENT = 1.0  # seconds that a picture without a frame rate lasts


@dataclass(frozen=True)
class Framing:
    """What clips a model knows.

    main: the commonest format, which others are brought to.
    """

    main: VideoFormat
    sizes: frozenset[tuple[int, int]]  # height, width in pixels
    rates: frozenset[Fraction | None]  # frames a second
    max_frames: int
    images: bool  # whether single frames are among them

    @classmethod
    def of(cls, formats: Sequence[VideoFormat]) -> Framing:
        """Of a vocabulary's presets, the commonest first."""
        if not formats:
            raise ValueError("the model's vocabulary has no video format: train it on video tokens")
        return cls(
            main=formats[0],
            sizes=frozenset((f.height, f.width) for f in formats),
            rates=frozenset(f.fps for f in formats),
            max_frames=max(f.num_frames for f in formats),
            images=any(f.num_frames == 1 for f in formats),
        )

    @property
    def max_block_tokens(self) -> int:
        return max(self.main.tokens_per_block)

    def fit(self, clip: Clip) -> Clip:
        """The clip as the model knows clips; warns about what had to be changed."""
        changes: list[str] = []
        clip, _ = self._fit_time(clip, changes)
        if (clip.height, clip.width) not in self.sizes:
            size = (self.main.height, self.main.width)
            changes.append(f"{clip.width}x{clip.height} to {size[1]}x{size[0]} pixels")
            clip = resize(clip, *size)
        if changes:
            name = clip.source or "clip"
            warnings.warn(
                f"{name}: brought to the model's trained format ({self.main}): "
                + ", ".join(changes),
                stacklevel=3,
            )
        return clip

    def times(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """Of each frame that `fit` makes the seconds it is given and those it had in the clip.

        Both float64 (T,), the first rising from 0, the second not falling.
        """
        fitted, had = self._fit_time(clip, [])
        return fitted.timestamps, had

    def at_rate(self, clip: Clip) -> Clip:
        """The clip at the main frame rate and size, as long as it is and from 0 s on.

        Raises:
            ValueError: the model knows single images only.
        """
        kept = self.frames_at_rate(clip.timestamps)
        if len(kept) < len(clip):
            clip = clip.at(kept)
        if (clip.height, clip.width) != (self.main.height, self.main.width):
            clip = resize(clip, self.main.height, self.main.width)
        assert self.main.fps is not None
        grid = torch.arange(len(clip), dtype=torch.float64) / float(self.main.fps)
        return replace(clip, timestamps=grid)

    def frames_at_rate(self, timestamps: Tensor) -> Tensor:
        """Which frames of a clip at these seconds `at_rate` keeps: indices, increasing.

        Raises:
            ValueError: the model knows single images only.
        """
        if self.main.fps is None:
            raise ValueError("this model reads single images, not clips")
        fps = float(self.main.fps)
        if _is_even(timestamps, fps):
            return torch.arange(len(timestamps))
        return TargetFps(fps).select(timestamps)

    def _fit_time(self, clip: Clip, changes: list[str]) -> tuple[Clip, Tensor]:
        """The clip in a known length and rate, and the seconds that its frames had."""
        begin = clip.timestamps[0]
        clip = replace(clip, timestamps=clip.timestamps - begin)
        if len(clip) == 1 and not self.images and self.main.fps is not None:
            held = self._held(clip, changes)
            return held, begin + held.timestamps * (MOMENT * float(self.main.fps) / len(held))
        if len(clip) == 1 or (self._known_rate(clip) and len(clip) <= self.max_frames):
            return clip, clip.timestamps + begin
        if self.main.fps is None:
            kept = sample(clip, Uniform(self.max_frames))
            return kept, kept.timestamps + begin
        fps = float(self.main.fps)
        before = f"{len(clip)} frames at {clip.fps:.3g} fps"
        thinned = sample(clip, TargetFps(fps))
        if len(thinned) <= self.max_frames and _is_even(thinned.timestamps, fps):
            kept, note = thinned, "at its own speed"
        else:
            kept = sample(clip, Uniform(self.max_frames))
            span = float(clip.timestamps[-1]) * len(clip) / (len(clip) - 1)
            note = f"its whole {span:.3g} s seen in {len(kept) / fps:.3g} s"
        changes.append(f"{before} to {len(kept)} at {fps:g} fps, {note}")
        grid = torch.arange(len(kept), dtype=torch.float64) / fps
        return replace(kept, timestamps=grid), kept.timestamps + begin

    def _held(self, clip: Clip, changes: list[str]) -> Clip:
        """A single frame as a clip in which nothing moves, for a model that knows clips alone."""
        count, fps = self.main.num_frames, self.main.fps
        assert fps is not None
        changes.append(f"1 frame held for {count} at {float(fps):g} fps")
        grid = torch.arange(count, dtype=torch.float64) / float(fps)
        return replace(clip, frames=clip.frames.expand(count, -1, -1, -1), timestamps=grid)

    def _known_rate(self, clip: Clip) -> bool:
        return any(
            rate is not None and _is_even(clip.timestamps, float(rate)) for rate in self.rates
        )


def _is_even(timestamps: Tensor, fps: float) -> bool:
    """Whether frames lie within a quarter of a frame of an even grid from their first."""
    grid = torch.arange(len(timestamps), dtype=torch.float64) / fps
    return bool(((timestamps - timestamps[0] - grid).abs() < 0.25 / fps).all())


def resize(clip: Clip, height: int, width: int) -> Clip:
    """The clip scaled to other pixels; what is too long for their shape is cropped evenly."""
    scale = max(height / clip.height, width / clip.width)
    tall, wide = max(height, round(clip.height * scale)), max(width, round(clip.width * scale))
    frames = F.interpolate(
        clip.frames.float(), (tall, wide), mode="bilinear", antialias=True, align_corners=False
    )
    top, left = (tall - height) // 2, (wide - width) // 2
    frames = frames[:, :, top : top + height, left : left + width]
    return replace(clip, frames=frames.round().clamp(0, 255).to(torch.uint8))
