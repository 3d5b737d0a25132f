"""Whole clips through a codec's streaming steps: the bodies of its encode and decode.

Because whole clips take the very steps that streams take, chunked equals whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from data.clip import Clip
from tokenizer.blocks import check_frames
from tokenizer.rate import rates_of_clips
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from tokenizer.codec import Codec


def encode_clips(
    codec: Codec,
    frames: Tensor,
    timestamps: Tensor | None,
    tokens_per_frame: float | Sequence[float] | None,
) -> list[VideoTokens]:
    """The tokens of clips uint8 (S, T, 3, H, W); see `Codec.encode_batch`."""
    check_frames(frames)
    clips, length, _, height, width = frames.shape
    if length < 1:
        raise ValueError("0 frames: a clip has at least one")
    if timestamps is None:
        timestamps = torch.arange(length, dtype=torch.float64).expand(clips, -1)
    rates = rates_of_clips(tokens_per_frame, clips)
    for rate in set(rates):
        codec.check_rate(rate, height, width)
    blocks, state = codec.encode_step(frames, codec.start())
    blocks += codec.finish(state)
    codec_id = codec.codec_id
    return [
        VideoTokens(
            codes=tuple(
                codes[i, : codec.block_tokens(rate, number, codes.shape[1])].clone()
                for number, codes in enumerate(blocks)
            ),
            timestamps=timestamps[i].double(),
            height=height,
            width=width,
            block_frames=codec.block_frames,
            codebook_size=codec.codebook_size,
            codec_id=codec_id,
        )
        for i, rate in enumerate(rates)
    ]


def decode_clips(codec: Codec, tokens: Sequence[VideoTokens]) -> list[Clip]:
    """The clips of tokens, decoding those of one size and number of blocks together."""
    groups: dict[tuple[int, int, int], list[int]] = {}
    codec_id = codec.codec_id
    for i, item in enumerate(tokens):
        if item.codec_id != codec_id:
            raise ValueError(
                f"tokens of codec {item.codec_id} cannot be decoded by {codec_id}: "
                "load the codec that made them"
            )
        groups.setdefault((item.height, item.width, len(item.codes)), []).append(i)
    clips: dict[int, Clip] = {}
    for (height, width, num_blocks), members in groups.items():
        state, parts = codec.start_decoding(height, width), []
        for number in range(num_blocks):
            part, state = codec.decode_step([tokens[i].codes[number] for i in members], state)
            parts.append(part)
        frames = torch.cat(parts, 1)  # (S, T, 3, H, W)
        for row, i in zip(frames, members, strict=True):
            times = tokens[i].timestamps
            clips[i] = Clip(row[: len(times)].clone(), times, source=codec_id)
    return [clips[i] for i in range(len(tokens))]
