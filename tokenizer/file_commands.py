"""Commands on token files as plain functions: encode, decode, info, and measuring a prior.

Their docstrings are the commands' help; they return results and print nothing.
"""

from __future__ import annotations

import sys
import warnings
from array import array
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from data.atomic import atomic_path, check_writable
from tokenizer.codec import Codec
from tokenizer.commands import open_codec
from tokenizer.entropy import Prior
from tokenizer.file_reading import TokenReader, UnclosedWarning
from tokenizer.files import TokenFile, describe
from tokenizer.ordering import BlockLayout
from tokenizer.priors import AdaptivePrior, StaticPrior, bits_per_token, count_codes, measured
from tokenizer.rate import FULL, Rate, Target, as_rates
from tokenizer.rate_control import Reached
from tokenizer.running import Precision, running
from tokenizer.streaming import choose_stream, decode_stream, encode_stream

STDIN = Path("-")
Coding = Literal["packed", "static", "adaptive"]


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


@dataclass(frozen=True)
class DecodedFile:
    """What decoding one token file gave."""

    source: str
    out: str
    num_frames: int
    height: int  # pixels
    width: int  # pixels
    num_tokens: int


@dataclass(frozen=True)
class MeasuredPrior:
    """What measuring a prior gave."""

    out: str
    name: str  # as token files name it
    codec_id: str
    num_clips: int
    num_tokens: int
    nominal_bits_per_token: float
    coded_bits_per_token: float  # of these very tokens; held-out ones take a little more
    file_bytes: int


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
) -> list[EncodedFile]:
    """Encode videos into token files.

    Any length and size works; frames are read, coded, written and forgotten block by block. Only
    psnr and budget must see the end first: until then the codes are held, some 2 bytes each (45 MB
    for an hour of 256x256 at 24 frames a second and 258 tokens a frame), and nothing is written.
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
        rate: auto shares half of the full rate out by content, block by block.
        height: Pixels to scale to before coding; the file's own if left out.
        width: Likewise.
        coding: How codes become bytes. packed is the fastest; adaptive is smaller, learning what
            codes are frequent from the clip itself; static knows from the start, from --prior.
        prior: File of a static prior, which `tokenizer prior` wrote.
        precision: fp32 gives the same codes on every way; bf16 is quicker only where the processor
            has it (AVX512-BF16, AMX, CUDA; else many times slower), and
            about 1 code in 100 differs by rounding.
        compile: Make kernels for the network first (torch.compile, wants a C++ compiler): pays on
            long jobs of one size only, and a few codes may differ by rounding.
    """
    if not inputs:
        raise ValueError("no inputs: name at least one video")
    for path in inputs:
        if path != STDIN and not path.exists():
            raise FileNotFoundError(f"{path}: no such file; check the path")
    ways = Target(bits_per_pixel=bits_per_pixel, psnr=psnr, budget=budget, rate=rate)
    (asked,) = as_rates(1, tokens_per_frame, ways)
    targets = _targets(inputs, out)
    codec = open_codec(model)
    chosen = _choose_prior(codec, coding, prior)
    with running(codec, precision, compile):
        found = [
            encode_file(codec, source, target, asked, height, width, chosen)
            for source, target in zip(inputs, targets, strict=True)
        ]
    results = []
    for source, target, reached in zip(inputs, targets, found, strict=True):
        written = describe(target)
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


def decode(
    file: Path,
    out: Path,
    model: Path,
    prior: Path | None = None,
    precision: Precision = "fp32",
    compile: bool = False,
) -> DecodedFile | None:
    """Decode a token file into a video.

    Blocks are read, decoded, written and forgotten one by one (but for .gif and .png, which hold
    the whole clip), so that any length works.

    Example: kinolex decode clip.kvt --out again.mp4 --model runs/demo/model

    Args:
        file: A .kvt file that `encode` wrote.
        out: Video to write; its suffix (mp4, webm, mkv, gif, apng, png) chooses the format. - is
            standard output, which gets a lossless Matroska stream and nothing else.
        model: Folder of the codec that encoded it, or of a model with that codec in it.
        prior: File of the static prior that it was coded under, if it was.
        precision: fp32 gives the same pixels on every way; bf16 is quicker only where the processor
            has it (AVX512-BF16, AMX, CUDA; else many times slower), and
            pixels differ by rounding.
        compile: Make kernels for the network first (torch.compile, wants a C++ compiler): pays on
            long jobs of one size only, and pixels may differ by rounding.
    """
    from data.muxing import Film
    from data.writing import check_target, write_film

    to_stdout = str(out) == "-"
    if not to_stdout:
        check_target(out)
    known = None if prior is None else StaticPrior.load(prior)
    with TokenReader(file, known) as reader:
        coding = reader.header.coding
        if prior is not None and coding != "static":
            warnings.warn(f"--prior {prior} has no effect: {file} is {coding}", stacklevel=2)
        codec = open_codec(model)
        if codec.tokens_id != reader.header.codec_id:
            raise ValueError(
                f"{file} holds tokens of codec {reader.header.codec_id}, which {codec.codec_id} in "
                f"{model} cannot decode: give the codec that made them"
            )
        height, width = reader.header.height, reader.header.width
        seconds, num_tokens = array("d"), 0
        for block in reader.blocks():  # compares all checksums before the work
            seconds.extend(block.times)
            num_tokens += block.num_tokens
        times = torch.tensor(seconds, dtype=torch.float64)
        parts = decode_stream(codec, reader.read_each(), height, width, len(times))
        with running(codec, precision, compile):
            write_film(Film(parts, times, height, width, source=codec.codec_id), out)
    if to_stdout:
        return None
    return DecodedFile(
        source=str(file),
        out=str(out),
        num_frames=len(times),
        height=height,
        width=width,
        num_tokens=num_tokens,
    )


def info(file: Path) -> TokenFile:
    """Say what a token file holds and what its tokens cost; neither codec nor prior is needed.

    nominal bits are log2 of the codebook a token, packed ones whole bits a token and whole bytes
    a block, coded ones what was written under a prior, and those of the file all there is.

    Example: kinolex info clip.kvt

    Args:
        file: A .kvt file.
    """
    return describe(file)


def prior(shards: Path, out: Path) -> MeasuredPrior:
    """Measure on token shards how frequent each code is at each place of a block.

    `encode --coding static --prior F` writes smaller files with it; `decode` then needs it too.

    Example: kinolex tokenizer prior runs/demo/tokens --out runs/demo/prior.safetensors

    Args:
        shards: Folder of token shards, made of training clips by the codec that will be used.
        out: File to write.
    """
    from data.shards import TokenShards

    check_writable(out)
    records = TokenShards(shards)
    meta = records.meta
    if "layout" not in meta:
        raise ValueError(f"{shards}: shards that do not say where tokens stand: make them again")
    layout = BlockLayout(**meta["layout"])
    everything = (records[number] for number in range(len(records)))
    counts = count_codes(everything, meta["codebook_size"], layout)
    found = measured(counts, meta["codec_id"], layout)
    found.save(out)
    return MeasuredPrior(
        out=str(out),
        name=found.name,
        codec_id=found.codec_id,
        num_clips=len(records),
        num_tokens=int(counts.sum()),
        nominal_bits_per_token=float(np.log2(found.codebook_size)),
        coded_bits_per_token=bits_per_token(counts, found),
        file_bytes=out.stat().st_size,
    )


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
    code = choose_stream if rate.whole_clip else encode_stream
    with atomic_path(out) as partial:
        try:
            return code(codec, frames, partial, rate, prior)
        except KeyboardInterrupt:  # how endless input ends
            _keep_blocks(partial, out)
            raise


def _keep_blocks(partial: Path, out: Path) -> None:
    """Leave the whole blocks of an unfinished file at `out`, unless something is there."""
    with suppress(OSError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore", UnclosedWarning)
        describe(partial)  # no whole block, nothing to keep
        if not out.exists():
            partial.rename(out)


def _choose_prior(codec: Codec, coding: Coding, prior: Path | None) -> Prior | None:
    if coding == "static":
        if prior is None:
            raise ValueError(
                "coding static needs a prior: give --prior F, which `kinolex tokenizer prior` wrote"
            )
        return StaticPrior.load(prior)
    if prior is not None:
        warnings.warn(f"--prior {prior} has no effect: coding is {coding}", stacklevel=3)
    return AdaptivePrior(codec.codebook_size, codec.layout) if coding == "adaptive" else None


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
    stems = ["stdin" if path == STDIN else path.stem for path in inputs]
    targets = [out / f"{stem}.kvt" for stem in stems]
    for target in targets:
        if targets.count(target) > 1:
            raise ValueError(f"two inputs would both become {target}: encode them apart")
        check_writable(target)
    return targets
