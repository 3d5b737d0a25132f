"""Clips of one size put together as a batch. Knows neither where they come from nor who trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from data.clip import Clip


@dataclass(frozen=True)
class ClipBatch:
    """Clips of equal length and size."""

    frames: Tensor  # uint8 (B, T, 3, H, W), RGB
    timestamps: Tensor  # float64 (B, T), seconds
    clips: tuple[Clip, ...]  # B clips, their frames views of `frames` as it was on the CPU

    def __len__(self) -> int:
        return len(self.frames)

    def to(self, *args: Any, **kwargs: Any) -> ClipBatch:
        """The batch with its frames moved as `Tensor.to` would; times and clips stay."""
        return replace(self, frames=self.frames.to(*args, **kwargs))

    def pin_memory(self) -> ClipBatch:
        """The batch with its frames in pinned memory (`DataLoader(pin_memory=True)` calls it)."""
        return replace(self, frames=self.frames.pin_memory())


def collate(clips: Sequence[Clip]) -> ClipBatch:
    """The clips as one batch.

    Raises:
        ValueError: No clips, or clips of different length or size.
    """
    if not clips:
        raise ValueError("0 clips: a batch has at least one")
    first = clips[0]
    for clip in clips:
        if clip.frames.shape != first.frames.shape:
            raise ValueError(
                f"{_describe(first)} and {_describe(clip)} do not fit one batch: "
                "give num_frames, height and width to the source, or a batch size of 1"
            )
    frames = torch.stack([clip.frames for clip in clips])
    # The clips of the batch view the batch, so that pixels are held and sent once.
    views = tuple(replace(clip, frames=part) for clip, part in zip(clips, frames, strict=True))
    return ClipBatch(frames, torch.stack([clip.timestamps for clip in clips]), views)


def _describe(clip: Clip) -> str:
    name = clip.source or "a clip"
    return f"{name} ({len(clip)} frames of {clip.height}x{clip.width})"
