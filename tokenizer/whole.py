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
from tokenizer.rate import Rate
from tokenizer.rate_control import RateChoice, RateControl
from tokenizer.steps import blocks_at_once, decode_blocks
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from tokenizer.codec import Codec


def encode_clips(
    codec: Codec, frames: Tensor, timestamps: Tensor | None, rates: Sequence[Rate]
) -> list[RateChoice]:
    """The tokens of clips uint8 (S, T, 3, H, W) at a rate each; see `Codec.encode_batch`."""
    check_frames(frames)
    clips, length, _, height, width = frames.shape
    if length < 1:
        raise ValueError("0 frames: a clip has at least one")
    if timestamps is None:
        timestamps = torch.arange(length, dtype=torch.float64).expand(clips, -1)
    served, num_blocks = codec.served(height, width), -(-length // codec.block_frames)
    for rate in rates:
        served.check(rate, num_blocks)
    blocks, state = codec.encode_step(frames, codec.start())
    blocks += codec.finish(state)
    choices = []
    for i, rate in enumerate(rates):
        control = RateControl(codec, rate, height, width)
        for part, codes in zip(frames[i].split(codec.block_frames), blocks, strict=True):
            control.add(part, codes[i])
        choices.append(control.choose(timestamps[i]))
    return choices


def decode_clips(codec: Codec, tokens: Sequence[VideoTokens]) -> list[Clip]:
    """The clips of tokens, decoding those of one size and number of blocks together."""
    groups: dict[tuple[int, int, int], list[int]] = {}
    codec_id = codec.tokens_id
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
        run = blocks_at_once(codec, len(members), height, width)
        in_turn = list(zip(*(tokens[i].codes for i in members), strict=True))
        for start in range(0, num_blocks, run):
            part, state = decode_blocks(codec, in_turn[start : start + run], state)
            parts.append(part)
        frames = torch.cat(parts, 1)  # (S, T, 3, H, W)
        for row, i in zip(frames, members, strict=True):
            times = tokens[i].timestamps
            clips[i] = Clip(row[: len(times)].clone(), times, source=codec_id)
    return [clips[i] for i in range(len(tokens))]
