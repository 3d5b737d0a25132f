"""Frames as they come, from a file, a pipe or a camera, into a token file that grows with them.

It does not know where frames come from, nor how records are laid out.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from tokenizer.blocks import EncoderState
from tokenizer.codec import Codec
from tokenizer.entropy import Prior
from tokenizer.file_reading import TokenReader, UnclosedWarning
from tokenizer.file_writing import TokenWriter
from tokenizer.rate import FULL, Rate
from tokenizer.rate_control import RateChoice, RateControl
from tokenizer.state_files import load_encoder_state, save_state
from tokenizer.steps import blocks_at_once, decode_blocks


def encode_stream(
    codec: Codec,
    frames: Iterable[tuple[np.ndarray, float]],
    path: Path | str,
    rate: Rate = FULL,
    prior: Prior | None = None,
    state: Path | str | None = None,
) -> None:
    """Encode frames as they come into a token file, which grows with each block.

    With `state` one stream may be encoded in several runs: the file is at all times that of the
    frames so far, and in the end byte for byte that of one run.
    When `frames` raises, the blocks so far stay in the file, which can be read with a warning.

    Args:
        codec: The codec, in eval mode.
        frames: Any number, of a file, a pipe or a camera: uint8 (H, W, 3) of one size, each with
            its seconds, which increase, also from run to run.
        path: File to write.
        rate: Any but those that depend on the whole clip, see `choose_stream`.
        prior: What to code under; None packs codes.
        state: File of what the stream remembers, a .safetensors by custom. If it is there, `path`
            is gone on with; it is written when `frames` end.

    Raises:
        ValueError: No frames, or frames of two sizes, or a rate out of range, or a state of
            another codec, rate or file.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("0 frames: a clip has at least one")
    height, width = size = first[0].shape[:2]
    codec.served(height, width).check(rate)
    told = codec.start(rate=rate)
    if state is not None and Path(state).exists():
        resumed = load_encoder_state(codec, state)
        if resumed.rate != told.rate:
            raise ValueError(
                f"{state}: the stream is at {resumed.rate}, not {told.rate}: give that"
            )
        writer, times = _go_on(codec, resumed, path, prior, (height, width))
        told = resumed
    else:
        sizes = codec.tokens_id, height, width, codec.block_frames, codec.codebook_size
        writer, times = TokenWriter(path, *sizes, prior), []
    waiting: list[torch.Tensor] = []
    with writer:
        for image, seconds in itertools.chain((first,), frames):
            if image.shape[:2] != size:
                raise ValueError(
                    f"a frame of {image.shape[0]}x{image.shape[1]} after frames of "
                    f"{height}x{width}: start a new file"
                )
            waiting.append(torch.from_numpy(image).permute(2, 0, 1))
            times.append(seconds)
            if len(times) == codec.block_frames:
                blocks, told = codec.encode_step(torch.stack(waiting)[None], told)
                writer.append(blocks[0][0], times)
                waiting, times = [], []
        if waiting:
            _, told = codec.encode_step(torch.stack(waiting)[None], told)
            writer.append(codec.finish(told)[0][0], times)
    if state is not None:
        save_state(codec, told, state)


def _go_on(
    codec: Codec,
    state: EncoderState,
    path: Path | str,
    prior: Prior | None,
    size: tuple[int, int],
) -> tuple[TokenWriter, list[float]]:
    """A writer where a stream stopped, and the times of the frames that wait in its state."""
    pending = 0 if state.pending is None else state.pending.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnclosedWarning)
        with TokenReader(path, prior) as reader:
            header, found = reader.header, reader.num_frames
    if (header.height, header.width) != size or header.codec_id != codec.tokens_id:
        raise ValueError(
            f"{path}: holds {header.height}x{header.width} pixels of codec {header.codec_id}, not "
            f"{size[0]}x{size[1]} of {codec.tokens_id}: start a new file"
        )
    if header.prior != (None if prior is None else prior.name):
        raise ValueError(f"{path}: is {header.coding} under prior {header.prior}: give that one")
    whole, rest = divmod(found, codec.block_frames)
    if (state.num_blocks, pending) != (whole, rest):
        raise ValueError(
            f"{path}: holds {found} frames, the state is of a stream after "
            f"{state.num_blocks * codec.block_frames + pending}: start a new file"
        )
    writer, taken = TokenWriter.reopen(path, prior)
    return writer, [] if taken is None else list(taken.times)


def decode_stream(
    codec: Codec, codes: Iterable[torch.Tensor], height: int, width: int, num_frames: int
) -> Iterator[torch.Tensor]:
    """The frames of blocks as they come, a few blocks in memory at a time, one of large pictures.

    Args:
        codec: The codec, in eval mode.
        codes: int64 (K,) of each block in turn.
        height: Pixels.
        width: Pixels.
        num_frames: Frames in all; the last block is cut to them.

    Yields:
        uint8 (n, 3, H, W) of each block.
    """
    state, codes = codec.start_decoding(height, width), iter(codes)
    run = blocks_at_once(codec, 1, height, width)
    while blocks := [[block] for block in itertools.islice(codes, run)]:
        left = num_frames - state.num_blocks * codec.block_frames
        pixels, state = decode_blocks(codec, blocks, state)
        yield from pixels[0, :left].split(codec.block_frames)


def choose_stream(
    codec: Codec, frames: Iterable[tuple[np.ndarray, float]], rate: Rate
) -> RateChoice:
    """The tokens of frames at a rate of any kind; their codes are held until the last frame.

    Args:
        codec: The codec, in eval mode.
        frames: Any number, uint8 (H, W, 3) of one size, each with its seconds.
        rate: What is asked for.

    Raises:
        ValueError: No frames, or a rate that they cannot have.
    """
    state, control = codec.start(), None
    waiting: list[torch.Tensor] = []
    times: list[float] = []

    def flush() -> RateControl:
        nonlocal state
        block = torch.stack(waiting)
        chosen = control or RateControl(codec, rate, *block.shape[-2:])
        blocks, state = codec.encode_step(block[None], state)
        chosen.add(block, (blocks or codec.finish(state))[0][0])
        waiting.clear()
        return chosen

    for image, seconds in frames:
        waiting.append(torch.from_numpy(image).permute(2, 0, 1))
        times.append(seconds)
        if len(waiting) == codec.block_frames:
            control = flush()
    if waiting:
        control = flush()
    if control is None:
        raise ValueError("0 frames: a clip has at least one")
    return control.choose(torch.tensor(times, dtype=torch.float64))
