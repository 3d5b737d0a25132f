"""The codec's commands as plain functions: encode, decode, evaluate, and sources to shards.

Their docstrings are the commands' help; they return results and print nothing but progress.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from data.atomic import check_writable
from tokenizer.codec import Codec
from tokenizer.encoding import EncodingReport, encode_source
from tokenizer.evaluate import Progress
from tokenizer.evaluate import evaluate as evaluate_codec
from tokenizer.files import read_token_file, save_tokens
from tokenizer.rate import FULL, Rate, as_rates
from tokenizer.rate_control import RateChoice, RateControl
from tokenizer.reporting import CodecReport


@dataclass(frozen=True)
class EncodedFile:
    """What encoding one file gave."""

    source: str
    out: str
    num_frames: int
    height: int  # pixels
    width: int  # pixels
    num_tokens: int
    tokens_per_frame: float
    nominal_bits_per_pixel: float
    packed_bits_per_pixel: float
    file_bytes: int
    psnr: float | None  # dB of the decoded clip, where the rate was chosen by it
    psnr_exact: bool  # whether decoding gives just that; else it is an estimate


@dataclass(frozen=True)
class DecodedFile:
    """What decoding one token file gave."""

    source: str
    out: str
    num_frames: int
    height: int  # pixels
    width: int  # pixels
    num_tokens: int


def encode(
    inputs: list[Path],
    model: Path,
    out: Path,
    tokens_per_frame: float | None = None,
    bits_per_pixel: float | None = None,
    psnr: float | None = None,
    budget: int | None = None,
    rate: Literal["auto"] | None = None,
    height: int | None = None,
    width: int | None = None,
) -> list[EncodedFile]:
    """Encode videos into token files.

    Any length and size works; frames are read, coded and forgotten block by block. Give at most one
    of tokens_per_frame, bits_per_pixel, psnr, budget and rate; the full rate if none is given.

    Example: kinolex encode clip.mp4 --out clip.kvt --model runs/demo/model

    Args:
        inputs: Videos, GIFs, images or folders of images.
        model: Folder of a codec, or of a model with a codec in it.
        out: A .kvt file for one input, else a folder that gets NAME.kvt for each.
        tokens_per_frame: The rate.
        bits_per_pixel: The rate in nominal bits, log2 of the codebook for each token.
        psnr: Decibels: the lowest rate, of those tried, that reaches it.
        budget: Tokens of each input, at most, shared among its blocks by content.
        rate: auto shares half of the full rate out by content, block by block.
        height: Pixels to scale to before coding; the file's own if left out.
        width: Likewise.
    """
    if not inputs:
        raise ValueError("no inputs: name at least one video")
    for path in inputs:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file; check the path")
    asked = as_rates(
        1,
        tokens_per_frame,
        {"bits_per_pixel": bits_per_pixel, "psnr": psnr, "budget": budget, "rate": rate},
    )[0]
    targets = _targets(inputs, out)
    codec = open_codec(model)
    results = []
    for source, target in zip(inputs, targets, strict=True):
        choice = encode_file(codec, source, asked, height, width)
        tokens = choice.tokens
        written = save_tokens(tokens, target)
        results.append(
            EncodedFile(
                source=str(source),
                out=str(target),
                num_frames=tokens.num_frames,
                height=tokens.height,
                width=tokens.width,
                num_tokens=tokens.num_tokens,
                tokens_per_frame=tokens.tokens_per_frame,
                nominal_bits_per_pixel=tokens.bits_per_pixel,
                packed_bits_per_pixel=written.packed_bits_per_pixel,
                file_bytes=written.file_bytes,
                psnr=choice.psnr,
                psnr_exact=choice.exact,
            )
        )
    return results


def decode(file: Path, out: Path, model: Path) -> DecodedFile:
    """Decode a token file into a video.

    Example: kinolex decode clip.kvt --out again.mp4 --model runs/demo/model

    Args:
        file: A .kvt file that `encode` wrote.
        out: Video to write; its suffix (mp4, webm, mkv, gif, apng, png) chooses the format.
        model: Folder of the codec that encoded it, or of a model with that codec in it.
    """
    from data.writing import check_target, write_video

    check_target(out)
    tokens = read_token_file(file).tokens
    clip = open_codec(model).decode(tokens)
    write_video(clip, out)
    return DecodedFile(
        source=str(file),
        out=str(out),
        num_frames=len(clip),
        height=clip.height,
        width=clip.width,
        num_tokens=tokens.num_tokens,
    )


def evaluate(
    source: str,
    model: Path,
    rates: list[float] | None = None,
    shares: list[float] | None = None,
    bits_per_pixel: list[float] | None = None,
    psnr: list[float] | None = None,
    budget: list[int] | None = None,
    rate: Literal["auto"] | None = None,
    by_clip: bool = False,
    split: str | None = None,
    num_clips: int | None = None,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    strict: bool = False,
) -> CodecReport:
    """Measure a codec on held-out clips beside trivial baselines.

    Example: kinolex tokenizer evaluate --source scenes:easy --model runs/demo/model

    Args:
        source: A folder of clips, scenes:easy|standard|hard, or hub:NAME.
        model: Folder of a codec, or of a model with a codec in it.
        rates: Tokens per frame to try besides the full rate, like "[4, 8]".
        shares: Rates as shares of each clip's own full rate, like "[0.5, 0.25]"; they suit clips
            of different sizes.
        bits_per_pixel: Rates in nominal bits, like "[0.02, 0.05]".
        psnr: Decibels that each clip is to reach at its lowest rate, like "[20, 25]".
        budget: Tokens of each clip, at most, shared among its blocks by content, like "[200]".
        rate: auto shares half of the full rate out by content, block by block.
        by_clip: Score each clip by itself as well.
        split: Which part of the source; heldout if left out, or all of a folder without splits.
        num_clips: At most so many clips; all if left out.
        num_frames: Frames of a clip; whole clips if left out.
        height: Pixels; the clips' own if left out.
        width: Likewise.
        fps: Frames a second to sample at; every frame if left out.
        strict: Stop at the first clip that cannot be read.
    """
    from data.source import open_source

    asked = [  # before the clips are opened, which may take long
        *(Rate(tokens_per_frame=each) for each in rates or []),
        *(Rate(share=each) for each in shares or []),
        *(Rate(bits_per_pixel=each) for each in bits_per_pixel or []),
        *(Rate(psnr=each) for each in psnr or []),
        *(Rate(budget=each) for each in budget or []),
        *(as_rates(1, None, {"rate": rate}) if rate else []),
    ]
    codec = open_codec(model)
    clips = open_source(
        source,
        split=split or heldout_split(source),
        num_frames=num_frames,
        height=height,
        width=width,
        fps=fps,
        strict=strict,
        num_clips=num_clips,
    )
    with progress_bar("evaluating") as progress:
        return evaluate_codec(codec, clips, asked, num_clips, progress, by_clip=by_clip)


def shards(
    source: str,
    model: Path,
    out: Path,
    split: str = "train",
    tokens_per_frame: float | None = None,
    num_clips: int | None = None,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    batch_size: int = 64,
    strict: bool = False,
) -> EncodingReport:
    """Encode a source into token shards with its words, for training a language model.

    Run again with the same arguments it goes on where it stopped.

    Example: kinolex tokenizer shards clips/ --out tokens --model runs/demo/model

    Args:
        source: A folder of clips, scenes:easy|standard|hard, or hub:NAME.
        model: Folder of a codec.
        out: Folder of shards.
        split: Which part of the source.
        tokens_per_frame: The rate; the full one if left out.
        num_clips: At most so many clips; all if left out.
        num_frames: Frames of a clip; whole clips if left out.
        height: Pixels; the clips' own if left out.
        width: Likewise.
        fps: Frames a second to sample at; every frame if left out.
        batch_size: Clips coded together.
        strict: Stop at the first clip that cannot be read.
    """
    from data.source import open_source

    codec = open_codec(model)
    clips = open_source(
        source,
        split=split,
        num_frames=num_frames,
        height=height,
        width=width,
        fps=fps,
        strict=strict,
        num_clips=num_clips,
    )
    with progress_bar("encoding") as progress:
        return encode_source(codec, clips, out, tokens_per_frame, batch_size, progress)


def encode_file(
    codec: Codec,
    path: Path,
    rate: Rate = FULL,
    height: int | None = None,
    width: int | None = None,
) -> RateChoice:
    """The tokens of a file, read and coded block by block, at a rate chosen for all of it."""
    from data.reading import iterate_frames

    state, control = codec.start(), None
    times: list[float] = []
    waiting: list[torch.Tensor] = []

    def flush() -> RateControl:
        nonlocal state
        frames = torch.stack(waiting)
        chosen = control or RateControl(codec, rate, *frames.shape[-2:])
        blocks, state = codec.encode_step(frames[None], state)
        chosen.add(frames, (blocks or codec.finish(state))[0][0])
        waiting.clear()
        return chosen

    for image, seconds in iterate_frames(path, height=height, width=width):
        waiting.append(torch.from_numpy(image).permute(2, 0, 1))
        times.append(seconds)
        if len(waiting) == codec.block_frames:
            control = flush()
    if waiting:
        control = flush()
    assert control is not None  # a video has a frame, or reading it raised
    return control.choose(torch.tensor(times, dtype=torch.float64))


def heldout_split(source: str) -> str:
    """The split to evaluate on: heldout, or all of a folder that has no splits."""
    from data.layout import split_names

    names = ("train", "unseen", *split_names("heldout"))
    path = Path(source)
    if not path.is_dir() or any((path / name).is_dir() for name in names):
        return "heldout"
    warnings.warn(f"{source} has no splits: all its clips are evaluated", stacklevel=3)
    return "train"  # what a folder without splits calls all its clips


def open_codec(model: Path) -> Codec:
    """The codec in a folder, or in the codec/ folder of a model's folder."""
    inner = model / "codec"
    return Codec.load(inner if (inner / "codec.json").is_file() else model)


def _targets(inputs: list[Path], out: Path) -> list[Path]:
    if out.suffix == ".kvt":
        if len(inputs) > 1:
            raise ValueError(f"--out {out} is one file for {len(inputs)} inputs: give a folder")
        check_writable(out)
        return [out]
    if out.is_file():
        raise ValueError(f"--out {out} is a file: give a .kvt file or a folder")
    if out.suffix and not out.is_dir():
        raise ValueError(
            f"--out {out} has suffix '{out.suffix}': give a .kvt file or a folder (one with a dot "
            "in its name must be there already)"
        )
    targets = [out / f"{path.stem}.kvt" for path in inputs]
    for target in targets:
        if targets.count(target) > 1:
            raise ValueError(f"two inputs would both become {target}: encode them apart")
        check_writable(target)
    return targets


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A progress bar on stderr; yields what is to be told (done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
