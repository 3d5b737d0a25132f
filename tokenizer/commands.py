"""Commands of the codec on sources as plain functions: scores, diagnosis, token shards.

Their docstrings are the commands' help; they return results and print nothing but progress.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

from data.atomic import check_writable
from data.source import Source
from tokenizer.codec import Codec
from tokenizer.diagnosing import diagnose as diagnose_codec
from tokenizer.diagnosing import write_diagnosis
from tokenizer.diagnosis import Diagnosis
from tokenizer.encoding import EncodingReport, encode_source
from tokenizer.evaluate import evaluate as evaluate_codec
from tokenizer.exporting import Exported, export_codec
from tokenizer.progress import progress_bar
from tokenizer.rate import FULL, Rate, as_rates
from tokenizer.reporting import CodecReport
from tokenizer.running import Precision, running


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
    precision: Precision = "fp32",
    compile: bool = False,
) -> CodecReport:
    """Measure a codec on held-out clips beside trivial baselines.

    Clips stream through block by block, so that any length fits; for psnr and budget they are read
    twice, and their codes are held.

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
        precision: fp32 gives the same codes on every way; bf16 is quicker only where the processor
            has it (AVX512-BF16, AMX, CUDA; else many times slower), and
            about 1 code in 100 differs by rounding.
        compile: Make kernels for the network first (torch.compile, wants a C++ compiler): pays on
            long jobs of one size only, and a few codes may differ by rounding.
    """
    asked = [  # before the clips are opened, which may take long
        *(Rate(tokens_per_frame=each) for each in rates or []),
        *(Rate(share=each) for each in shares or []),
        *(Rate(bits_per_pixel=each) for each in bits_per_pixel or []),
        *(Rate(psnr=each) for each in psnr or []),
        *(Rate(budget=each) for each in budget or []),
        *(as_rates(1, None, {"rate": rate}) if rate else []),
    ]
    codec = open_codec(model)
    clips = open_heldout(source, split, num_frames, height, width, fps, strict, num_clips)
    with progress_bar("evaluating") as progress, running(codec, precision, compile):
        return evaluate_codec(codec, clips, asked, num_clips, progress, by_clip=by_clip)


def diagnose(
    source: list[str],
    model: Path,
    out: Path | None = None,
    share: float | None = None,
    split: str | None = None,
    num_clips: int | None = None,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    strict: bool = False,
) -> Diagnosis:
    """Look for what a mean PSNR hides: dead codes, block borders, flicker, drift, leaks, domains.

    Give several sources to see how the codec carries over. Clips stream through block by block, so
    that any length fits.

    Example: kinolex tokenizer diagnose --source scenes:easy clips/ --model runs/demo/model

    Args:
        source: Folders of clips, scenes:easy|standard|hard, or hub:NAME; one or more.
        model: Folder of a codec, or of a model with a codec in it.
        out: Folder for diagnosis.json and report.html, a page of tables and plots.
        share: Rate as a share of each clip's own full rate; the full one if left out.
        split: Which part of the sources; heldout if left out, or all of a folder without splits.
        num_clips: At most so many clips of each; all if left out.
        num_frames: Frames of a clip; whole clips if left out.
        height: Pixels; the clips' own if left out.
        width: Likewise.
        fps: Frames a second to sample at; every frame if left out.
        strict: Stop at the first clip that cannot be read.
    """
    rate = FULL if share is None else Rate(share=share)
    if out is not None:
        check_writable(out / "diagnosis.json")
    codec = open_codec(model)
    shape = num_frames, height, width, fps
    sources = [open_heldout(each, split, *shape, strict, num_clips) for each in source]
    with progress_bar("diagnosing") as progress:
        found = diagnose_codec(codec, sources, rate, num_clips, progress)
    return found if out is None else write_diagnosis(found, out)


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
    stills: int = 0,
    batch_size: int = 64,
    strict: bool = False,
    precision: Precision = "fp32",
    compile: bool = False,
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
        stills: Frames of each clip to encode as images besides, the first and the last among them:
            with 2 or more a language model learns to fill in what lies between.
        batch_size: Clips coded together.
        strict: Stop at the first clip that cannot be read.
        precision: fp32 gives the same codes on every way; bf16 is quicker only where the processor
            has it (AVX512-BF16, AMX, CUDA; else many times slower), and
            about 1 code in 100 differs by rounding.
        compile: Make kernels for the network first (torch.compile, wants a C++ compiler): pays on
            long jobs of one size only, and a few codes may differ by rounding.
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
    with progress_bar("encoding") as progress, running(codec, precision, compile):
        return encode_source(
            codec, clips, out, tokens_per_frame, batch_size, progress, stills=stills
        )


def export(
    model: Path,
    out: Path,
    height: int | None = None,
    width: int | None = None,
    onnx: bool = False,
) -> Exported:
    """Write a codec's encoder and decoder step as programs that need torch alone, or ONNX.

    Programs are for one size and one stream; a README.md beside them says how they are called.

    Example: kinolex tokenizer export --model runs/demo/model --out runs/steps

    Args:
        model: Folder of a codec, or of a model with a codec in it.
        out: Folder for encoder.pt2, decoder.pt2, steps.json and README.md.
        height: Pixels; those that the codec was trained at if left out.
        width: Likewise.
        onnx: Write encoder.onnx and decoder.onnx as well; needs the extra export.
    """
    check_writable(out / "steps.json")
    codec = open_codec(model)
    tall, wide = codec.trained_size or (None, None)
    height, width = tall if height is None else height, wide if width is None else width
    if height is None or width is None:
        raise ValueError(f"{model} does not say at what size it was trained: give height and width")
    return export_codec(codec, out, height, width, ("pt2", "onnx") if onnx else ("pt2",))


def open_heldout(
    source: str,
    split: str | None = None,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    strict: bool = False,
    num_clips: int | None = None,
) -> Source:
    """A source to evaluate on: arguments are those of `open_source`, but for `split`."""
    from data.source import open_source

    return open_source(
        source,
        split=split or heldout_split(source),
        num_frames=num_frames,
        height=height,
        width=width,
        fps=fps,
        strict=strict,
        num_clips=num_clips,
    )


def heldout_split(source: str) -> str:
    """The split to evaluate on: heldout, or all of a folder that has no splits."""
    from data.layout import WHOLE, split_names

    names = ("train", "unseen", *split_names("heldout"))
    path = Path(source)
    if not path.is_dir() or any((path / name).is_dir() for name in names):
        return "heldout"
    warnings.warn(f"{source} has no splits: all its clips are evaluated", stacklevel=4)
    return WHOLE


def open_codec(model: Path) -> Codec:
    """The codec in a folder, or in the codec/ folder of a model's folder."""
    inner = model / "codec"
    return Codec.load(inner if (inner / "codec.json").is_file() else model)
