"""Frames as they come, from a file, a pipe or a camera, into a token file that grows with them.

It does not know where frames come from, nor how records are laid out.
"""

from __future__ import annotations

import itertools
import warnings
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.clip import Clip
from tokenizer.blocks import EncoderState
from tokenizer.codec import Codec
from tokenizer.entropy import Prior
from tokenizer.file_reading import TokenReader
from tokenizer.file_writing import TokenWriter
from tokenizer.rate import FULL, Rate
from tokenizer.rate_control import RateStream, Reached
from tokenizer.record_file import UnclosedWarning
from tokenizer.state_files import load_encoder_state, save_state
from tokenizer.steps import blocks_at_once, decode_blocks


def encode_stream(
    codec: Codec,
    frames: Iterable[tuple[np.ndarray, float]],
    path: Path | str,
    rate: Rate = FULL,
    prior: Prior | None = None,
    state: Path | str | None = None,
    patient: bool = False,
) -> Reached:
    """Encode frames as they come into a token file, which grows with each block.

    With `state` one stream may be encoded in several runs: the file is at all times that of the
    frames so far, and in the end byte for byte that of one run.
    When `frames` raises, the whole blocks so far stay in the file, which can be read with a
    warning, and `state` is that after them.

    Args:
        codec: The codec, in eval mode.
        frames: Any number, of a file, a pipe or a camera: uint8 (H, W, 3) of one size, each with
            its seconds, which increase, also from run to run.
        path: File to write.
        rate: Any but those that depend on the whole clip, see `choose_stream`.
        prior: What to code under; None packs codes.
        state: File of what the stream remembers, a .safetensors by custom. If it is there, `path`
            is gone on with; it is written when `frames` end.
        patient: Whether to wait for as many blocks as the network takes together: quicker for
            small pictures, where frames need not be waited for. Codes are the same.

    Returns:
        What was reached by the frames of this run.

    Raises:
        ValueError: No frames, or frames of two sizes, or a rate out of range, or a state of
            another codec, rate or file, or none for a file that is there.
    """
    size, frames = _begun(frames)
    codec.served(*size).check(rate)
    told, waiting = codec.start(rate=rate), list[tuple[Tensor, float]]()
    if state is not None and Path(state).exists():
        told, writer, waiting = _go_on(codec, state, rate, path, prior, size)
    elif state is not None and Path(path).exists():
        raise ValueError(
            f"{path} is there, but {state} is not, without which its stream cannot be gone on "
            "with: give another path, or remove it and encode from the first frame on"
        )
    else:
        writer = _writer(codec, path, size, prior)
    chosen = RateStream(codec, rate, *size, told)
    whole = told.num_blocks * codec.block_frames
    told = replace(told, rate=FULL, pending=None, num_frames=whole, probe=None)
    remembered = replace(told, rate=rate, probe=chosen.probe)
    try:
        with writer:
            run = blocks_at_once(codec, 1, *size) if patient else 1
            for parts in _in_runs(_parts(frames, size, codec.block_frames, waiting), run):
                codes, told = codec.encode_step(torch.cat([p.frames for p in parts])[None], told)
                blocks = codes + codec.finish(told)
                for number, (part, (block,)) in enumerate(zip(parts, blocks, strict=True)):
                    before = chosen.probe
                    kept = chosen.add(part.frames, block)
                    assert kept is not None, "`start` refuses rates of the whole clip"
                    writer.append(kept, part.timestamps)
                    # Of a last block that is not full the state is the one before it.
                    probe = chosen.probe if number < len(codes) else before
                    remembered = replace(told, rate=rate, probe=probe)
    finally:
        if state is not None and remembered.num_frames:
            save_state(codec, remembered, state)
    return chosen.reached()


def choose_stream(
    codec: Codec,
    frames: Iterable[tuple[np.ndarray, float]],
    path: Path | str,
    rate: Rate,
    prior: Prior | None = None,
) -> Reached:
    """Encode frames into a token file at a rate that depends on all of them.

    Until the last frame their codes are held, in 2 bytes each for codebooks up to 65,536, and a
    few numbers for each block; then the file is written.

    Args:
        codec: The codec, in eval mode.
        frames: Any number, uint8 (H, W, 3) of one size, each with its seconds.
        path: File to write.
        rate: `psnr` or `budget`; `encode_stream` has the others.
        prior: What to code under; None packs codes.

    Raises:
        ValueError: No frames, or frames of two sizes, or a rate that they cannot have.
    """
    if not rate.whole_clip:
        raise ValueError(f"rate {rate} does not wait for the last frame: use encode_stream")
    size, frames = _begun(frames)
    chosen, times = RateStream(codec, rate, *size), array("d")
    for part, codes in code_parts(codec, _parts(frames, size, codec.block_frames)):
        chosen.add(part.frames, codes)
        times.extend(part.timestamps.tolist())
    blocks = chosen.settle()
    with _writer(codec, path, size, prior) as writer:
        for number, kept in enumerate(blocks):
            first = number * codec.block_frames
            writer.append(kept, times[first : first + codec.block_frames])
    return chosen.reached()


def code_parts(codec: Codec, parts: Iterable[Clip]) -> Iterator[tuple[Clip, Tensor]]:
    """The blocks of a clip, each with all its codes, int64 (K,); few are held at a time.

    Args:
        codec: The codec, in eval mode.
        parts: Blocks of `codec.block_frames` frames; only the last may be shorter.
    """
    parts, state = iter(parts), codec.start()
    first = next(parts, None)
    if first is None:
        return
    run = blocks_at_once(codec, 1, first.height, first.width)
    for some in _in_runs(itertools.chain((first,), parts), run):
        codes, state = codec.encode_step(torch.cat([part.frames for part in some])[None], state)
        for part, (block,) in zip(some, codes + codec.finish(state), strict=True):
            yield part, block


def _in_runs(parts: Iterable[Clip], run: int) -> Iterator[list[Clip]]:
    """Parts, so many together; when they raise, those before come first."""
    held: list[Clip] = []
    try:
        for part in parts:
            held.append(part)
            if len(held) == run:
                yield held
                held = []
    except (Exception, KeyboardInterrupt):
        if held:
            yield held
        raise
    if held:
        yield held


def _begun(
    frames: Iterable[tuple[np.ndarray, float]],
) -> tuple[tuple[int, int], Iterator[tuple[np.ndarray, float]]]:
    """The size of frames, and all of them."""
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("0 frames: a clip has at least one")
    height, width = first[0].shape[:2]
    return (height, width), itertools.chain((first,), frames)


def _parts(
    frames: Iterable[tuple[np.ndarray, float]],
    size: tuple[int, int],
    length: int,
    waiting: Iterable[tuple[Tensor, float]] = (),
) -> Iterator[Clip]:
    """Parts of `length` frames, the last one shorter; the first begins with those `waiting`."""
    held = list(waiting)  # (3, H, W) each, with its seconds
    for image, seconds in frames:
        if image.shape[:2] != size:
            raise ValueError(
                f"a frame of {image.shape[0]}x{image.shape[1]} after frames of "
                f"{size[0]}x{size[1]}: start a new file"
            )
        held.append((torch.from_numpy(image).permute(2, 0, 1), seconds))
        if len(held) == length:
            part, held = _clip(held), []
            yield part
    if held:
        yield _clip(held)


def _clip(held: Iterable[tuple[Tensor, float]]) -> Clip:
    images, times = zip(*held, strict=True)
    return Clip(torch.stack(images), torch.tensor(times, dtype=torch.float64))


def _writer(
    codec: Codec, path: Path | str, size: tuple[int, int], prior: Prior | None
) -> TokenWriter:
    return TokenWriter(path, codec.tokens_id, *size, codec.block_frames, codec.codebook_size, prior)


def _go_on(
    codec: Codec,
    state: Path | str,
    rate: Rate,
    path: Path | str,
    prior: Prior | None,
    size: tuple[int, int],
) -> tuple[EncoderState, TokenWriter, list[tuple[Tensor, float]]]:
    """A state, a writer where its stream stopped, and the frames with their times that wait."""
    told = load_encoder_state(codec, state)
    if told.rate != rate:
        raise ValueError(f"{state}: the stream is at {told.rate}, not {rate}: give that")
    pending = () if told.pending is None else tuple(told.pending[0])
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
    if (told.num_blocks, len(pending)) != divmod(found, codec.block_frames):
        raise ValueError(
            f"{path}: holds {found} frames, the state is of a stream after "
            f"{told.num_blocks * codec.block_frames + len(pending)}: start a new file"
        )
    writer, taken = TokenWriter.reopen(path, prior)
    return told, writer, list(zip(pending, taken.times if taken else (), strict=True))


def decode_stream(
    codec: Codec, codes: Iterable[Tensor], height: int, width: int, num_frames: int
) -> Iterator[Tensor]:
    """The frames of blocks as they come, a few in memory at a time, one of large pictures.

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
