"""Commands on token files as plain functions: decode, info, and measuring a prior.

Their docstrings are the commands' help; they return results and print nothing.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data.atomic import check_writable
from tokenizer.commands import open_codec
from tokenizer.file_reading import TokenReader
from tokenizer.files import TokenFile, describe
from tokenizer.ordering import BlockLayout
from tokenizer.prior_choice import OpenPrior, prior_named
from tokenizer.priors import bits_per_token, count_codes, measured
from tokenizer.progress import shown
from tokenizer.running import Precision, running
from tokenizer.streaming import decode_stream


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


def decode(
    file: Path,
    out: Path,
    model: Path,
    prior: Path | None = None,
    precision: Precision = "fp32",
    compile: bool = False,
    open_model_prior: OpenPrior | None = None,
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
        prior: File of the static prior that it was coded under, if it was, or folder of the
            language model, if it is not the one in --model.
        precision: fp32 gives the same pixels on every way; bf16 is quicker only where the processor
            has it (AVX512-BF16, AMX, CUDA; else many times slower), and
            pixels differ by rounding.
        compile: Make kernels for the network first (torch.compile, wants a C++ compiler): pays on
            long jobs of one size only, and pixels may differ by rounding.
        open_model_prior: Opens the prior of a language model; the command knows how.
    """
    from data.muxing import Film
    from data.writing import check_target, write_film

    to_stdout = str(out) == "-"
    if not to_stdout:
        check_target(out)
        if out.exists() and file.exists() and out.samefile(file):
            raise ValueError(f"--out {out} is the token file itself: give another name")
    with TokenReader(file) as reader:
        codec = open_codec(model)
        if codec.tokens_id != reader.header.codec_id:
            raise ValueError(
                f"{file} holds tokens of codec {reader.header.codec_id}, which {codec.codec_id} in "
                f"{model} cannot decode: give the codec that made them"
            )
        reader.prior = prior_named(reader.header, prior, model, open_model_prior, file)
        height, width = reader.header.height, reader.header.width
        seconds, num_tokens = array("d"), 0
        for block in reader.blocks():  # compares all checksums before the work
            seconds.extend(block.times)
            num_tokens += block.num_tokens
        times = torch.tensor(seconds, dtype=torch.float64)
        blocks = shown(reader.read_each(), file.name, lambda: reader.num_blocks)
        parts = decode_stream(codec, blocks, height, width, len(times))
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
