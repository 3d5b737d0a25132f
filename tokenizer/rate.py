"""Rate arithmetic: tokens per frame, per block, and bits, as exact whole numbers of tokens.

A rate in tokens per frame may be any real number; the tokens of each block follow from it by one
formula that needs no look-ahead, so a stream and a whole clip agree. Nothing here knows a network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


def block_tokens(tokens_per_frame: float, block_frames: int, block: int) -> int:
    """Tokens that block number `block` (from 0) gets at a rate: the running total, rounded down.

    Over any stretch of blocks the total differs from the asked rate by less than one token, except
    that every block has at least one.
    """
    per_block = Fraction(tokens_per_frame) * block_frames
    return max(1, math.floor((block + 1) * per_block) - math.floor(block * per_block))


def tokens_of_blocks(tokens_per_frame: float, block_frames: int, num_blocks: int) -> list[int]:
    """Tokens of each of the first `num_blocks` blocks at a rate."""
    return [block_tokens(tokens_per_frame, block_frames, block) for block in range(num_blocks)]


def check_rate(
    tokens_per_frame: float, block_frames: int, slots_per_block: int, height: int, width: int
) -> float:
    """The rate itself, or a ValueError that names the range served at this size."""
    low, high = 1 / block_frames, slots_per_block / block_frames
    if not low <= tokens_per_frame <= high:
        raise ValueError(
            f"tokens_per_frame={tokens_per_frame:g}: this codec serves {low:g} to {high:g} "
            f"tokens a frame at {height}x{width} pixels"
        )
    return float(tokens_per_frame)


def rates_of_clips(
    tokens_per_frame: float | Sequence[float] | None, num_clips: int
) -> list[float | None]:
    """One rate per clip from one rate for all, a rate for each, or None for the full rate."""
    if tokens_per_frame is None or isinstance(tokens_per_frame, (int, float)):
        return [tokens_per_frame] * num_clips
    if len(tokens_per_frame) != num_clips:
        raise ValueError(
            f"{len(tokens_per_frame)} rates for {num_clips} clips: give one rate, or one per clip"
        )
    return list(tokens_per_frame)


def bits_per_code(codebook_size: int) -> int:
    """Whole bits that one packed code takes."""
    return max(1, (codebook_size - 1).bit_length())


def packed_bytes(count: int, codebook_size: int) -> int:
    """Whole bytes that a block of `count` packed codes takes."""
    return -(-count * bits_per_code(codebook_size) // 8)


def mean_duration(times: Sequence[float]) -> float | None:
    """Seconds that frames at these times last, the last as long as the mean; None for one alone."""
    if len(times) < 2:
        return None
    return (times[-1] - times[0]) * len(times) / (len(times) - 1)


@dataclass(frozen=True)
class Bits:
    """What a clip's tokens cost under one way of counting."""

    total: float
    per_token: float
    per_pixel: float  # pixels of all frames, without the codec's padding
    per_second: float | None  # of video; None for a single frame, which has no duration

    @classmethod
    def of(cls, total: float, tokens: int, pixels: int, seconds: float | None) -> Bits:
        return cls(total, total / tokens, total / pixels, total / seconds if seconds else None)
