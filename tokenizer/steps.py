"""The steps of a codec's streams: next frames to codes, next blocks to frames.

All whole blocks of a call pass the network side by side, as many as memory and caches like. What
comes out is the same to the bit however a stream is cut into calls. They do not know whole clips.

Legend: S streams side by side, k blocks of each, T, H, W frames of a block and pixels, K tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tokenizer.blocks import (
    DecoderState,
    EncoderState,
    check_frames,
    check_streams,
    pad_codes,
    to_blocks,
    to_clips,
    to_uint8,
    warn_size,
)
from tokenizer.layers import Past
from tokenizer.passes import to_codes, to_pixels
from tokenizer.rate_control import auto_count, start_probe, try_counts

if TYPE_CHECKING:
    from tokenizer.codec import Codec

PASS_PIXELS = 2**18  # of all frames in one pass, if blocks have not more: larger ones gain nothing


def blocks_at_once(codec: Codec, num_streams: int, height: int, width: int) -> int:
    """Blocks of each of S streams, of this many pixels, that pass the network together."""
    return max(1, PASS_PIXELS // (num_streams * codec.block_frames * height * width))


@torch.no_grad()
def encode_frames(
    codec: Codec, frames: Tensor, state: EncoderState
) -> tuple[list[Tensor], EncoderState]:
    """Code the next frames of streams; see `Codec.encode_step`."""
    check_frames(frames)
    if state.pending is not None:
        if state.pending.shape[-2:] != frames.shape[-2:]:
            raise ValueError(
                f"frames of {frames.shape[-2]}x{frames.shape[-1]} after frames of "
                f"{state.pending.shape[-2]}x{state.pending.shape[-1]}: start a new stream"
            )
        frames = torch.cat([state.pending, frames], 1)
    *_, height, width = frames.shape
    check_streams(state.rate, len(frames))
    served = codec.served(height, width)
    served.check(state.rate)
    if state.num_frames == 0:
        warn_size(codec.trained_size, height, width)
    size = codec.block_frames
    whole = frames.shape[1] // size * size
    run = size * blocks_at_once(codec, len(frames), height, width)
    blocks: list[Tensor] = []
    past, number, probe = state.past, state.num_blocks, state.probe
    for start in range(0, whole, run):
        part = frames[:, start : min(start + run, whole)]
        coded, past = _encode(codec, part, past)
        for codes, pixels in zip(coded.unbind(1), part.split(size, 1), strict=True):
            if state.rate.auto is None:
                count = served.count(state.rate, number)
            else:
                probe = probe or start_probe(codec, state.rate, height, width)
                probe = try_counts(codec, probe, pixels[0], codes[0])[1]
                count, probe = auto_count(probe, state.rate.auto * served.slots)
            blocks.append(codes[:, :count])
            number += 1
    rest = frames[:, whole:]
    total = number * size + rest.shape[1]
    return blocks, EncoderState(state.rate, rest.clone(), past, number, total, probe)


def encode_rest(codec: Codec, state: EncoderState) -> list[Tensor]:
    """The codes of a stream's last, part-filled block; see `Codec.finish`."""
    if state.pending is None or state.pending.shape[1] == 0:
        return []
    late = codec.block_frames - state.pending.shape[1]
    last = state.pending[:, -1:].expand(-1, late, -1, -1, -1)
    return encode_frames(codec, last, state)[0]


def _encode(
    codec: Codec, frames: Tensor, past: tuple[Tensor, ...] | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All codes of whole blocks uint8 (S, k * T, 3, H, W), int64 (S, k, N), and the new past."""
    num_blocks = frames.shape[1] // codec.block_frames
    remembered = Past(num_blocks, past)
    frames = frames.to(_device(codec))
    blocks = to_blocks(frames, codec.block_frames, codec.backbone.space_stride)
    codes = to_codes(codec, blocks, remembered).codes
    return codes.unflatten(0, (-1, num_blocks)).cpu(), tuple(remembered.new)


@torch.no_grad()
def decode_blocks(
    codec: Codec, blocks: Sequence[Sequence[Tensor]], state: DecoderState
) -> tuple[Tensor, DecoderState]:
    """Decode the next k blocks of S streams side by side, in one pass of the network.

    Args:
        codec: The codec.
        blocks: Of each block in turn the codes of each stream, int64 (K,).
        state: What `Codec.start_decoding` or the last step returned; it is not changed.

    Returns:
        uint8 (S, k * T, 3, H, W) and the next state.
    """
    height, width, num_blocks = state.height, state.width, len(blocks)
    slots = codec.slots_per_block(height, width)
    in_turn = [codes for stream in zip(*blocks, strict=True) for codes in stream]  # S times k
    padded, counts = pad_codes(in_turn, slots, codec.codebook_size)
    past = Past(num_blocks, state.past)
    vectors = codec.quantizer.vectors(padded.to(_device(codec)))
    pixels = to_pixels(codec, vectors, counts, codec.grid(height, width), past)
    frames = to_clips(to_uint8(pixels[..., :height, :width]), num_blocks)
    state = replace(state, past=tuple(past.new), num_blocks=state.num_blocks + num_blocks)
    return frames.cpu(), state


def _device(codec: Codec) -> torch.device:
    return next(codec.parameters()).device
