"""Blocks of frames: padding to whole ones, pixel values, and what a stream remembers between two.

Knows no network.

Legend: S clips side by side, T, H, W frames and pixels, N places (tokens) of a block.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tokenizer.rate import FULL, Rate


@dataclass(frozen=True)
class Reconstruction:
    """What a training pass makes of a batch of clips."""

    pixels: Tensor  # float (S, T, 3, H, W), -1 black to 1 white, not clamped
    codes: Tensor  # int64 (S, blocks, N), all codes whatever the counts kept
    vectors: Tensor  # float (S, blocks, N, D), of the codes
    quantizer_loss: Tensor  # scalar


@dataclass(frozen=True)
class DecoderState:
    """All that decoding remembers between two calls."""

    height: int  # pixels
    width: int  # pixels
    past: tuple[Tensor, ...] | None = None
    num_blocks: int = 0  # blocks decoded so far


@dataclass(frozen=True)
class Probe:
    """All that trying each block of a stream at several numbers of tokens remembers."""

    counts: tuple[int, ...]  # numbers of tokens tried, rising from 1 to all
    decoders: tuple[DecoderState, ...]  # each of an even run of the counts
    curves: tuple[tuple[float, ...], ...] = ()  # of the last blocks: squared error at each count
    credit: float = 0.0  # tokens that `auto` left of its mean so far; below 0 overspent


@dataclass(frozen=True)
class EncoderState:
    """All that encoding remembers between two calls; its size does not grow with time."""

    rate: Rate = FULL
    pending: Tensor | None = None  # uint8 (S, n, 3, H, W), n < block_frames, frames of no block yet
    past: tuple[Tensor, ...] | None = None  # last input frame of each convolution
    num_blocks: int = 0  # blocks coded so far
    num_frames: int = 0  # frames received so far
    probe: Probe | None = None  # where the rate is `auto`


def to_float(frames: Tensor) -> Tensor:
    """uint8 pixels as float32 from -1 (black) to 1."""
    return frames.float().div_(127.5).sub_(1.0)


def to_uint8(pixels: Tensor) -> Tensor:
    """The inverse of `to_float`, rounded and clamped."""
    return pixels.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def check_frames(frames: Tensor) -> None:
    """ValueError unless `frames` are uint8 (S, T, 3, H, W) with at least one pixel."""
    if frames.is_floating_point():
        wrong = " with NaN" if bool(frames.isnan().any()) else ""
        raise ValueError(
            f"frames are {frames.dtype}{wrong}: give uint8, 0 black to 255 white (values from 0 to "
            "1 times 255, rounded)"
        )
    if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[2] != 3:
        raise ValueError(
            f"frames are {frames.dtype} {tuple(frames.shape)}: give uint8 (clips, T, 3, H, W)"
        )
    if 0 in (frames.shape[0], *frames.shape[3:]):
        raise ValueError(f"frames are {tuple(frames.shape)}: a clip has at least one pixel")


def check_streams(rate: Rate, num_streams: int) -> None:
    """ValueError for a rate that streams cannot have."""
    if rate.whole_clip:
        raise ValueError(
            f"rate {rate}: it depends on the whole clip, encode that at once or give the stream "
            "tokens_per_frame, bits_per_pixel, share, block_tokens or rate='auto'"
        )
    if rate.auto is not None and num_streams > 1:
        raise ValueError(
            f"rate {rate} for {num_streams} streams side by side: their blocks would differ in "
            "length, encode each by itself"
        )


def pad_codes(codes: Sequence[Tensor], slots: int, codebook_size: int) -> tuple[Tensor, Tensor]:
    """A block's codes of several streams, int64 (K,) each, as (S, slots) and the counts K (S,)."""
    counts = torch.tensor([len(block) for block in codes])
    padded = torch.zeros(len(codes), slots, dtype=torch.int64)
    for row, block in zip(padded, codes, strict=True):
        if not 1 <= len(block) <= slots:
            raise ValueError(
                f"{len(block)} tokens in a block: at this size the codec's blocks have 1 to {slots}"
            )
        row[: len(block)] = block
    low, high = int(padded.min()), int(padded.max())
    if low < 0 or high >= codebook_size:
        wrong = low if low < 0 else high
        raise ValueError(f"code {wrong}: codes of this codec lie in [0, {codebook_size})")
    return padded, counts


def pad_frames(frames: Tensor, block_frames: int, stride: int) -> Tensor:
    """(S, T, 3, H, W) with last frame, row and column repeated up to whole blocks and strides."""
    _, length, _, height, width = frames.shape
    late, low, right = -length % block_frames, -height % stride, -width % stride
    if late:
        frames = torch.cat([frames, frames[:, -1:].expand(-1, late, -1, -1, -1)], 1)
    if low or right:
        flat = F.pad(frames.flatten(0, 1).float(), (0, right, 0, low), mode="replicate")
        frames = flat.to(frames.dtype).unflatten(0, frames.shape[:2])
    return frames


def to_blocks(frames: Tensor, block_frames: int, stride: int) -> Tensor:
    """uint8 (S, n, 3, H, W), padded, as float32 blocks (B, 3, T, H', W'), a stream's in a row."""
    x = to_float(pad_frames(frames, block_frames, stride))
    return x.unflatten(1, (-1, block_frames)).flatten(0, 1).transpose(1, 2)


def to_clips(pixels: Tensor, num_blocks: int) -> Tensor:
    """Blocks (B, 3, T, H, W), so many of each stream in a row, as (S, blocks * T, 3, H, W)."""
    return pixels.transpose(1, 2).unflatten(0, (-1, num_blocks)).flatten(1, 2)


class SizeWarning(UserWarning):
    """Pictures are far from the size that a codec was trained at."""


def is_far(trained: tuple[int, int] | None, height: int, width: int, factor: int = 4) -> bool:
    """Whether a picture is more than `factor` times larger or smaller than trained ones."""
    if trained is None:
        return False
    tall, wide = height / trained[0], width / trained[1]
    return min(tall, wide) * factor < 1 or max(tall, wide) > factor


def warn_size(trained: tuple[int, int] | None, height: int, width: int) -> None:
    """Warn when a picture is far from the size of the trained ones."""
    if trained is not None and is_far(trained, height, width):
        warnings.warn(
            f"{height}x{width} pixels: this codec was trained at {trained[0]}x{trained[1]}, "
            "expect a poorer picture this far from it",
            SizeWarning,
            stacklevel=3,
        )
