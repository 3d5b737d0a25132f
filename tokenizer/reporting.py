"""What a codec's evaluation gives: scores as dataclasses, and their tables for people.

It knows how figures are named and printed, not how they are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizer.rate import Rate


@dataclass(frozen=True)
class Score:
    """How close pictures come to the originals, over all clips."""

    psnr: float  # dB, of the squared error pooled over all pixels
    psnr_mean: float  # dB, mean over clips of each clip's own
    ssim: float | None  # -1 to 1, mean over frames; None where it was not computed
    psnr_moving: float | None  # dB, pooled over pixels that changed; None where none did


@dataclass(frozen=True)
class RateScore:
    """One rate's picture and price."""

    rate: Rate  # what was asked for
    tokens_per_frame: float  # spent, over all frames
    bits_per_pixel: float  # nominal: tokens * log2(codebook), clips' pixels
    packed_bits_per_pixel: float  # as .kvt files pack codes, no headers
    score: Score
    used_codes: float  # share of the codebook that occurred, 0 to 1
    perplexity: float  # of the codes over all clips
    entropy_bits: float  # bits a code under its own frequencies


@dataclass(frozen=True)
class ClipRate:
    """One rate's picture and price for one clip."""

    rate: Rate  # what was asked for
    tokens_per_frame: float
    bits_per_pixel: float  # nominal
    psnr: float  # dB, pooled over the clip's pixels


@dataclass(frozen=True)
class ClipScore:
    """One clip at all the rates that its size can have."""

    source: str  # file or world it came from
    height: int  # pixels
    width: int  # pixels
    num_frames: int
    first_frame_psnr: float  # dB, of showing the first frame throughout
    rates: list[ClipRate]  # full rate first


@dataclass(frozen=True)
class CodecReport:
    """A codec's evaluation with all that is needed to repeat it."""

    codec_id: str
    protocol: str  # metrics and their version
    source: str
    num_clips: int
    num_frames: int  # over all clips
    sizes: list[str]  # heights x widths seen, at most 8
    rates: list[RateScore]  # full rate first
    baselines: dict[str, Score]
    seconds: float  # encoding, decoding and scoring
    skipped: int  # clips the source could not read
    left_out: dict[str, int] = field(default_factory=dict)  # rate: clips that cannot have it
    clips: list[ClipScore] = field(default_factory=list)  # where scores by clip were asked for

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        by_clip = [_clip_table(self.clips), ""] if self.clips else []
        return Group(_rate_table(self), "", *by_clip, Text("\n".join(self._caption())))

    def _caption(self) -> list[str]:
        """What the tables were measured on and how, in a few lines."""
        clips = "1 clip" if self.num_clips == 1 else f"{self.num_clips} clips"
        sizes = ", ".join(self.sizes) + (" ..." if len(self.sizes) == 8 else "")
        lines = [
            f"codec     {self.codec_id}",
            f"protocol  {self.protocol}",
            f"source    {self.source}: {clips}, {self.num_frames} frames of {sizes} pixels",
            f"time      {self.seconds:.1f} s",
        ]
        if self.skipped:
            lines.append(f"skipped   {self.skipped} that could not be read")
        for rate, count in self.left_out.items():
            lines.append(f"left out  {count} of {clips} at rate {rate}: they cannot have it")
        return lines


def _rate_table(report: CodecReport) -> Any:
    """A row for each rate, then the baselines in the same columns."""
    table = empty_table(
        "rate",
        ("tokens/\nframe", "bits/\npixel", "packed\nbits/px", "PSNR\ndB", "SSIM"),
        ("moving\ndB", "codes\nused", "per-\nplexity", "entropy\nbits"),
    )
    for rate in report.rates:
        prices = [_tokens(rate.tokens_per_frame), _bits(rate.bits_per_pixel)]
        prices.append(_bits(rate.packed_bits_per_pixel))
        use = [f"{rate.used_codes:.1%}", f"{rate.perplexity:.1f}", f"{rate.entropy_bits:.2f}"]
        table.add_row(str(rate.rate), *prices, *_pictures(rate.score), *use)
    table.add_section()
    for name, score in report.baselines.items():
        table.add_row(name, "", "", "", *_pictures(score), "", "", "")
    return table


def _clip_table(clips: Sequence[ClipScore]) -> Any:
    """Rows of each clip for each of its rates, beside a still of its first frame."""
    from rich.text import Text

    table = empty_table(
        "clip",
        ("size", "frames", "rate", "tokens/\nframe", "bits/\npixel", "PSNR\ndB"),
        ("first\nframe dB",),
    )
    for clip in clips:
        named: list[Any] = [Text(Path(clip.source).name or clip.source, overflow="fold")]
        named += [f"{clip.height}x{clip.width}", str(clip.num_frames)]
        still = f"{clip.first_frame_psnr:.2f}"
        for rate in clip.rates:
            price = [_tokens(rate.tokens_per_frame), _bits(rate.bits_per_pixel)]
            table.add_row(*named, str(rate.rate), *price, f"{rate.psnr:.2f}", still)
            named, still = ["", "", ""], ""
    return table


def empty_table(first: str, *columns: Sequence[str]) -> Any:
    """An empty table narrow enough for 80 letters."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False)
    table.add_column(first, min_width=6)
    for column in (name for names in columns for name in names):
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _tokens(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def _bits(value: float) -> str:
    return f"{value:.4f}" if value < 10 else f"{value:.1f}"


def _pictures(score: Score) -> list[str]:
    similar = "" if score.ssim is None else f"{score.ssim:.3f}"
    moved = "" if score.psnr_moving is None else f"{score.psnr_moving:.2f}"
    return [f"{score.psnr:.2f}", similar, moved]
