"""Causality, measured: no block may change when a later one is replaced, not by the last bit.

It knows codecs by their two ways through a clip, all blocks in parallel and as a stream.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokenizer.codec import Codec
from tokenizer.diagnosis import LeakCheck

BLOCKS = 3
LARGEST = 128  # pixels a side; leaks need no more


@torch.no_grad()
def check_leaks(codec: Codec, frames: Tensor) -> list[LeakCheck]:
    """Replace each block but the first in turn and compare all the blocks before it.

    Args:
        codec: The codec, in eval mode.
        frames: uint8 (T, 3, H, W); repeated to three blocks, at most 128 pixels a side are used.

    Returns:
        One check of the parallel pass and one of the stream, where the codec could also leak by
        what its modules remember.
    """
    size = codec.block_frames
    length = BLOCKS * size
    repeats = -(-length // len(frames))
    clip = frames[..., :LARGEST, :LARGEST].repeat(repeats, 1, 1, 1)[:length][None]
    luck = torch.Generator().manual_seed(0)
    checks = []
    for way, run in (("parallel", _parallel), ("stream", _stream)):
        codes, pixels = run(codec, clip)
        changed, largest = 0, 0.0
        for block in range(1, BLOCKS):
            other = clip.clone()
            part = other[:, block * size : (block + 1) * size]
            part.copy_(torch.randint(0, 256, part.shape, dtype=torch.uint8, generator=luck))
            new_codes, new_pixels = run(codec, other)
            changed += int((codes[:block] != new_codes[:block]).sum())
            off = (pixels[: block * size] - new_pixels[: block * size]).abs().max()
            largest = max(largest, float(off))
        checks.append(LeakCheck(way, BLOCKS - 1, changed, largest))
    return checks


def _parallel(codec: Codec, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (blocks, N) and pixels (T, 3, H, W) on a scale of 255, unrounded."""
    made = codec(clip)
    return made.codes[0].cpu(), made.pixels[0].cpu() * 127.5


def _stream(codec: Codec, clip: Tensor) -> tuple[Tensor, Tensor]:
    """The same, a block at a time."""
    encoder, decoder = codec.start(), codec.start_decoding(*clip.shape[-2:])
    codes, parts = list[Tensor](), list[Tensor]()
    for frames in clip.split(codec.block_frames, 1):
        (block,), encoder = codec.encode_step(frames, encoder)
        pixels, decoder = codec.decode_step([block[0]], decoder)
        codes.append(block[0])
        parts.append(pixels[0].float())
    return torch.stack(codes), torch.cat(parts)
