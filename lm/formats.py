"""`VideoFormat`: what a video header says, as numbers: size, frames, times and tokens per block.

Knows how timestamps become a frame rate or a list of intervals and back. Knows no token ids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tokenizer.tokens import VideoTokens

TOLERANCE = 1e-3  # seconds: frames this close to an even grid are on it
EXACT = 1e-9  # seconds: what is left of a grid's own times, after rounding


@dataclass(frozen=True)
class VideoFormat:
    """The shape of a video in the stream; hashable, so that common ones become one token."""

    height: int  # pixels
    width: int  # pixels
    num_frames: int
    fps: Fraction | None  # frames a second; None for one frame, or when times are uneven
    intervals: tuple[int, ...]  # milliseconds from each frame to the next, where uneven; else ()
    tokens_per_block: tuple[int, ...]

    @classmethod
    def of(cls, tokens: VideoTokens) -> tuple[VideoFormat, int]:
        """The format of a video and its start in whole milliseconds; see `at`."""
        blocks = tuple(len(block) for block in tokens.codes)
        return cls.at(tokens.timestamps.tolist(), tokens.height, tokens.width, blocks)

    @classmethod
    def at(
        cls, times: Sequence[float], height: int, width: int, tokens_per_block: tuple[int, ...]
    ) -> tuple[VideoFormat, int]:
        """The format of frames at these times in seconds, and their start in whole milliseconds.

        Evenly spaced frames (within 1 ms, if need be of their whole milliseconds) get a frame
        rate; others the interval between each pair in milliseconds, so uneven times survive to
        half a millisecond. The times that a format gives have that format.
        """
        start = round(times[0] * 1000)
        if start < 0:
            raise ValueError(
                f"the first timestamp is {times[0]} s: shift the clip to start at >= 0"
            )
        fps = _even_rate(times)
        intervals: tuple[int, ...] = ()
        if fps is None:
            stamps = [round(t * 1000) for t in times]
            fps = _even_rate([stamp / 1000 for stamp in stamps])
        if fps is None:
            intervals = tuple(b - a for a, b in zip(stamps, stamps[1:], strict=False))
            if any(step < 1 for step in intervals):
                raise ValueError("uneven timestamps closer than 1 ms: resample the clip (fps:...)")
        if 0 in tokens_per_block:
            raise ValueError("a block without tokens: keep at least one token in each block")
        return cls(height, width, len(times), fps, intervals, tokens_per_block), start

    def timestamps(self, start_ms: int) -> Tensor:
        """Seconds of each frame, float64 (num_frames,)."""
        if self.fps is not None:
            steps = torch.arange(self.num_frames, dtype=torch.float64)
            return start_ms / 1000 + steps * self.fps.denominator / self.fps.numerator
        stamps = torch.tensor([start_ms, *self.intervals], dtype=torch.float64).cumsum(0)
        return stamps / 1000

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last; 0 for one frame."""
        if self.num_frames < 2:
            return 0.0
        span = self.timestamps(0)[-1].item()
        return span * self.num_frames / (self.num_frames - 1)

    @property
    def block_rate(self) -> Fraction | None:
        """Tokens a block, if each block has the running total's growth, rounded down.

        That is how a codec shares out a rate that is no whole number (`rate.block_tokens`). The
        simplest such number of 1 or more; None if there is none.
        """
        return _simplest_rate(self.tokens_per_block)

    def with_blocks(self, num_blocks: int, block_frames: int) -> VideoFormat:
        """The same rate and size, `num_blocks` blocks long (even frame rates only)."""
        per_block = max(self.tokens_per_block)
        frames = num_blocks * block_frames
        if num_blocks == len(self.tokens_per_block):
            frames = self.num_frames
        return replace(self, num_frames=frames, tokens_per_block=(per_block,) * num_blocks)

    def with_rate(self, tokens_per_block: int) -> VideoFormat:
        """The same video cut to at most `tokens_per_block` tokens of each block."""
        blocks = tuple(min(k, tokens_per_block) for k in self.tokens_per_block)
        return replace(self, tokens_per_block=blocks)

    def to_json(self) -> dict[str, Any]:
        return {
            "height": self.height,
            "width": self.width,
            "num_frames": self.num_frames,
            "fps": None if self.fps is None else [self.fps.numerator, self.fps.denominator],
            "intervals": list(self.intervals),
            "tokens_per_block": list(self.tokens_per_block),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> VideoFormat:
        return cls(
            height=fields["height"],
            width=fields["width"],
            num_frames=fields["num_frames"],
            fps=None if fields["fps"] is None else Fraction(*fields["fps"]),
            intervals=tuple(fields["intervals"]),
            tokens_per_block=tuple(fields["tokens_per_block"]),
        )

    def __str__(self) -> str:
        rate = "uneven" if self.fps is None else f"{float(self.fps):g} fps"
        return (
            f"{self.width}x{self.height}, {self.num_frames} frames, {rate}, "
            f"{len(self.tokens_per_block)} blocks of {max(self.tokens_per_block)} tokens"
        )


def counts_at(rate: Fraction, num_blocks: int) -> tuple[int, ...]:
    """Tokens of each block at so many (1 or more) a block."""
    totals = [rate.numerator * b // rate.denominator for b in range(num_blocks + 1)]
    return tuple(b - a for a, b in pairwise(totals))


def _simplest_rate(counts: Sequence[int]) -> Fraction | None:
    low, high, total = Fraction(1), Fraction(sum(counts) + 1), 0
    for b, count in enumerate(counts, 1):
        total += count
        low, high = max(low, Fraction(total, b)), min(high, Fraction(total + 1, b))
    for per in range(1, len(counts) + 1):
        tokens = math.ceil(low * per)
        if tokens < high * per:
            return Fraction(tokens, per)
    return None


def _even_rate(times: Sequence[float]) -> Fraction | None:
    """The simplest frame rate that explains every time within the tolerance; None if none does.

    One that explains them exactly comes first: else the times it gives could have a simpler one.
    """
    if len(times) < 2 or not times[-1] > times[0]:
        return None
    mean = (len(times) - 1) / (times[-1] - times[0])
    candidates = [Fraction(round(mean)), Fraction(round(mean * 1.001) * 1000, 1001)]
    candidates += [Fraction(mean).limit_denominator(limit) for limit in (10, 100, 1001)]
    candidates = [fps for fps in candidates if 1 <= fps.numerator <= 999_999]
    for start, tolerance in ((times[0], EXACT), (round(times[0] * 1000) / 1000, TOLERANCE)):
        for fps in candidates:
            step = fps.denominator / fps.numerator
            if all(math.fabs(start + i * step - t) <= tolerance for i, t in enumerate(times)):
                return fps
    return None
