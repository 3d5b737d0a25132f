"""Frames as they come, from a file, a pipe or a camera, into a token file that grows with them.

It does not know where frames come from, nor how records are laid out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from tokenizer.codec import Codec
from tokenizer.entropy import Prior
from tokenizer.file_writing import TokenWriter


def write_stream(
    codec: Codec,
    frames: Iterable[tuple[np.ndarray, float]],
    path: Path | str,
    tokens_per_frame: float | None = None,
    prior: Prior | None = None,
) -> None:
    """Encode frames as they come into a token file, which grows with each block.

    When `frames` raises, the blocks so far stay in the file, which can be read with a warning.

    Args:
        codec: The codec, in eval mode.
        frames: Any number, uint8 (H, W, 3) of one size, each with its seconds.
        path: File to write.
        tokens_per_frame: The rate; None asks for the full one.
        prior: What to code under; None packs codes.

    Raises:
        ValueError: No frames, or frames of two sizes, or a rate out of range.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("0 frames: a clip has at least one")
    height, width = size = first[0].shape[:2]
    codec.check_rate(tokens_per_frame, height, width)
    state = codec.start(tokens_per_frame)
    waiting: list[torch.Tensor] = []
    times: list[float] = []
    with TokenWriter(
        path, codec.codec_id, height, width, codec.block_frames, codec.codebook_size, prior
    ) as writer:
        for image, seconds in itertools.chain((first,), frames):
            if image.shape[:2] != size:
                raise ValueError(
                    f"a frame of {image.shape[0]}x{image.shape[1]} after frames of "
                    f"{height}x{width}: start a new file"
                )
            waiting.append(torch.from_numpy(image).permute(2, 0, 1))
            times.append(seconds)
            if len(waiting) == codec.block_frames:
                blocks, state = codec.encode_step(torch.stack(waiting)[None], state)
                writer.append(blocks[0][0], times)
                waiting, times = [], []
        if waiting:
            _, state = codec.encode_step(torch.stack(waiting)[None], state)
            writer.append(codec.finish(state)[0][0], times)
