"""The command that encodes videos into token files, as a plain function.

Its docstring is its help; it returns results and prints nothing. It does not know how token files
are decoded or described.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.atomic import atomic_path, check_writable
from tokenizer.codec import Codec
from tokenizer.commands import open_codec
from tokenizer.entropy import Prior
from tokenizer.files import describe
from tokenizer.prior_choice import Coding, OpenPrior, prior_for
from tokenizer.progress import shown
from tokenizer.rate import FULL, Rate, Target, as_rates
from tokenizer.rate_control import Reached
from tokenizer.record_file import UnclosedWarning
from tokenizer.running import Precision, running
from tokenizer.streaming import choose_stream, encode_stream

STDIN = Path("-")


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
    coding: str
    nominal_bits_per_pixel: float
    packed_bits_per_pixel: float
    coded_bits_per_pixel: float | None  # None where codes are packed
    file_bytes: int
    psnr: float | None  # dB of the decoded clip, where the rate was chosen by it
    psnr_exact: bool | None  # whether decoding gives just that; else it is an estimate


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
    coding: Coding = "packed",
    prior: Path | None = None,
    precision: Precision = "fp32",
    compile: bool = False,
    open_model_prior: OpenPrior | None = None,
) -> list[EncodedFile]:
    """Encode videos into token files.

    Any length and size works; frames are read, coded, written and forgotten block by block. Only
    psnr and budget must see the end first: until then the codes are held, some 2 bytes each (88 MB
    for an hour of 24 frames a second at 512 tokens each), and nothing is written.
    Ctrl-C leaves the blocks so far, where no file was. Give at most one of tokens_per_frame,
    bits_per_pixel, psnr, budget and rate; else it is the full rate.

    Example: kinolex encode clip.mp4 --out clip.kvt --model runs/demo/model --coding adaptive

    Args:
        inputs: Videos, GIFs, images or folders of images; - is a video on standard input, which
            may be endless: ffmpeg -i X -f matroska - | kinolex encode - ...
        model: Folder of a codec, or of a model with a codec in it.
        out: A .kvt file for one input, else a folder that gets NAME.kvt for each.
        tokens_per_frame: The rate.
        bits_per_pixel: The rate in nominal bits, log2 of the codebook for each token.
        psnr: Decibels: the lowest rate, of those tried, that reaches it.
        budget: Tokens of each input, at most, shared among its blocks by content.
        rate: auto shares half of the full rate out by content, block by block: half is the mean
            over long clips, short ones may get more or less.
        height: Pixels to scale to before coding; the file's own if left out.
        width: Likewise.
        coding: How codes become bytes. packed is the fastest; adaptive is smaller, learning what
            codes are frequent from the clip itself; static knows from the start, from --prior;
            model is the slowest, and the smallest for clips like those it was trained on: a
            language model foretells each code.
        prior: File of a static prior, which `tokenizer prior` wrote; for model the folder of a
            language model, that in --model if left out.
        precision: fp32 gives the same codes on every way; bf16 is quicker only where the processor
            has it (AVX512-BF16, AMX, CUDA; else many times slower), and
            about 1 code in 100 differs by rounding.
        compile: Make kernels for the network first (torch.compile, wants a C++ compiler): pays on
            long jobs of one size only, and a few codes may differ by rounding.
        open_model_prior: Opens the prior of a language model; the command knows how.
    """
    if not inputs:
        raise ValueError("no inputs: name at least one video")
    for path in inputs:
        if path != STDIN and not path.exists():
            raise FileNotFoundError(f"{path}: no such file; check the path")
    ways = Target(bits_per_pixel=bits_per_pixel, psnr=psnr, budget=budget, rate=rate)
    (asked,) = as_rates(1, tokens_per_frame, ways)
    targets = _targets(inputs, out)
    files = [path for path in inputs if path != STDIN]
    for target in targets:
        if target.exists() and any(map(target.samefile, files)):
            raise ValueError(f"--out {target} is an input itself: give another name")
    codec = open_codec(model)
    chosen = prior_for(codec, coding, prior, model, open_model_prior)
    with running(codec, precision, compile):
        found: dict[Path, Reached] = {}
        failed: list[Exception] = []
        for source, target in zip(inputs, targets, strict=True):
            try:
                found[target] = encode_file(codec, source, target, asked, height, width, chosen)
            except (ValueError, OSError) as error:
                if len(inputs) == 1:
                    raise
                failed.append(error)
    if failed:
        told = "; ".join(map(str, failed))
        raise ValueError(f"{len(failed)} of {len(inputs)} inputs were not encoded: {told}")
    results = []
    for source, target in zip(inputs, targets, strict=True):
        written, reached = describe(target), found[target]
        results.append(
            EncodedFile(
                source=str(source),
                out=str(target),
                num_frames=written.num_frames,
                height=written.height,
                width=written.width,
                num_tokens=written.num_tokens,
                tokens_per_frame=written.tokens_per_frame,
                coding=written.coding,
                nominal_bits_per_pixel=written.nominal.per_pixel,
                packed_bits_per_pixel=written.packed.per_pixel,
                coded_bits_per_pixel=None if written.coded is None else written.coded.per_pixel,
                file_bytes=written.file_bytes,
                psnr=reached.psnr,
                psnr_exact=None if reached.psnr is None else reached.exact,
            )
        )
    return results


def encode_file(
    codec: Codec,
    path: Path,
    out: Path,
    rate: Rate = FULL,
    height: int | None = None,
    width: int | None = None,
    prior: Prior | None = None,
) -> Reached:
    """Encode one file, or standard input, into a token file, whole or not at all.

    An interrupt leaves the blocks so far, where no file was.
    """
    from data.reading import iterate_frames

    source = sys.stdin.buffer if path == STDIN else path
    frames = iterate_frames(source, height=height, width=width)
    frames = shown(frames, path.name, lambda: _num_frames(path))
    with atomic_path(out) as partial:
        try:
            if rate.whole_clip:
                return choose_stream(codec, frames, partial, rate, prior)
            patient = path != STDIN  # what comes in there may come slowly
            return encode_stream(codec, frames, partial, rate, prior, patient=patient)
        except KeyboardInterrupt:  # how endless input ends
            _keep_blocks(partial, out)
            raise


def _num_frames(path: Path) -> int | None:
    """Frames of a file as its container tells; None of standard input."""
    from data.reading import read_times

    if path == STDIN:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said when it is read
        return len(read_times(path))


def _keep_blocks(partial: Path, out: Path) -> None:
    """Leave the whole blocks of an unfinished file at `out`, unless something is there."""
    with suppress(OSError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore", UnclosedWarning)
        describe(partial)  # no whole block, nothing to keep
        if not out.exists():
            partial.rename(out)


def _targets(inputs: list[Path], out: Path) -> list[Path]:
    if out == STDIN:
        raise ValueError(
            "--out -: token files are not written to standard output: give a .kvt file"
        )
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
    stems = ["stdin" if path == STDIN else path.stem for path in inputs]
    targets = [out / f"{stem}.kvt" for stem in stems]
    for target in targets:
        if targets.count(target) > 1:
            raise ValueError(f"two inputs would both become {target}: encode them apart")
        check_writable(target)
    return targets
