"""What a codec's diagnosis gives: figures as dataclasses, and their tables for people.

It knows how findings are named and printed, not how they are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizer.reporting import Score, empty_table

LISTED = 24  # dead codes named in the table; JSON has all


@dataclass(frozen=True)
class Estimate:
    """A figure over clips with the 95 % interval of a bootstrap over clips."""

    value: float
    low: float | None  # None where there are fewer than two clips
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class PositionUse:
    """Codes at one position in the block, or at a run of them: 0 is the coarsest token."""

    first: int
    last: int
    tokens: int  # seen there
    used_codes: float  # share of the codebook, 0 to 1
    perplexity: float
    entropy_bits: float


@dataclass(frozen=True)
class Borders:
    """Frames beside a border of two blocks against the other ones, a clip's ends left out."""

    error_db: Estimate | None  # 10 log10 of border over inside error; above 0 borders are worse
    change_db: Estimate | None  # likewise, error of the change from one frame to the next
    psnr_by_position: list[float]  # dB, of each frame of a block, all of a clip's frames counted


@dataclass(frozen=True)
class Flicker:
    """Change from frame to frame where the original stands still, as root mean square."""

    original: float  # levels of 255
    decoded: float  # levels of 255
    ratio: Estimate | None  # decoded over original; None where the original is perfectly still


@dataclass(frozen=True)
class FrameBias:
    """How much too bright the frames from one number on are."""

    frame: int  # number of the first frame that is meant
    bias: float  # levels of 255, decoded minus original, mean over pixels and clips


@dataclass(frozen=True)
class Drift:
    """Brightness over time."""

    slope: Estimate | None  # levels a second, mean over clips of two frames or more
    bias: float  # levels, over all frames
    by_frame: list[FrameBias]


@dataclass(frozen=True)
class LeakCheck:
    """What changed in earlier blocks when a later block was replaced; all must be exactly 0."""

    way: str  # parallel: all blocks in one pass, as in training; stream: step by step
    trials: int  # blocks replaced, one at a time
    codes_changed: int  # earlier codes that differ
    pixel_change: float  # largest change of an earlier pixel, of 255

    @property
    def leaks(self) -> bool:
        return self.codes_changed > 0 or self.pixel_change > 0


@dataclass(frozen=True)
class ContentScore:
    """Reconstruction of some of what was shown."""

    by: str  # moving, detail, or the name of a label
    group: str  # the range or the label's value
    count: int  # blocks (moving, detail) or clips (labels)
    psnr: float  # dB, pooled


@dataclass(frozen=True)
class SourceDiagnosis:
    """All findings on one source."""

    source: str
    num_clips: int
    num_frames: int
    sizes: list[str]  # heights x widths seen, at most 8
    skipped: int  # clips the source could not read
    tokens: int
    tokens_per_frame: float
    score: Score
    baselines: dict[str, Score]  # mean colour, first frame
    used_codes: float  # share of the codebook, 0 to 1
    perplexity: float
    entropy_bits: float
    by_position: list[PositionUse]
    borders: Borders
    flicker: Flicker
    drift: Drift
    leaks: list[LeakCheck]
    by_content: list[ContentScore]

    @property
    def gain(self) -> float:
        """dB over the better baseline."""
        return self.score.psnr - max(score.psnr for score in self.baselines.values())


@dataclass(frozen=True)
class Diagnosis:
    """A codec's diagnosis with all that is needed to repeat it."""

    codec_id: str
    protocol: str  # metrics and their version
    rate: str  # what was asked for
    sources: list[SourceDiagnosis]
    codebook_size: int
    dead_codes: list[int]  # codes that no clip of any source has
    seconds: float
    out: str | None = None  # folder of diagnosis.json and report.html

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [_shift_table(self.sources), ""]
        for source in self.sources:
            parts += [Text("\n".join(_findings(source))), ""]
        return Group(*parts, Text("\n".join(self._caption())))

    def _caption(self) -> list[str]:
        dead = self.dead_codes
        named = ", ".join(map(str, dead[:LISTED])) + (" ..." if len(dead) > LISTED else "")
        lines = [
            f"codec     {self.codec_id}, rate {self.rate}",
            f"protocol  {self.protocol}",
            f"dead      {len(dead)} of {self.codebook_size} codes{': ' if dead else ''}{named}",
            f"time      {self.seconds:.1f} s",
        ]
        return lines if self.out is None else [*lines, f"written   {self.out}"]


def _shift_table(sources: Sequence[SourceDiagnosis]) -> Any:
    """A row for each source: how the codec carries over, beside trivial baselines."""
    from rich.text import Text

    found = empty_table(
        "source",
        ("clips", "tokens/\nframe", "PSNR\ndB", "moving\ndB", "mean\ncolour", "first\nframe"),
        ("codes\nused", "per-\nplexity"),
    )
    for source in sources:
        moved = source.score.psnr_moving
        found.add_row(
            Text(source.source, overflow="fold"),
            str(source.num_clips),
            f"{source.tokens_per_frame:.4g}",
            f"{source.score.psnr:.2f}",
            "" if moved is None else f"{moved:.2f}",
            *(f"{score.psnr:.2f}" for score in source.baselines.values()),
            f"{source.used_codes:.1%}",
            f"{source.perplexity:.1f}",
        )
    return found


def _findings(source: SourceDiagnosis) -> list[str]:
    """The other figures of one source, a line each."""
    borders, flicker, drift = source.borders, source.flicker, source.drift
    lines = [
        f"{source.source}: {source.num_frames} frames of {', '.join(source.sizes)}",
        f"  block borders    error {_or(borders.error_db)} dB, change {_or(borders.change_db)} dB "
        "above that inside",
        f"  flicker          {flicker.decoded:.2f} of 255 where the original has "
        f"{flicker.original:.2f}; ratio {_or(flicker.ratio)}",
        f"  brightness       {drift.bias:+.2f} of 255, drifts {_or(drift.slope)} a second",
    ]
    for leak in source.leaks:
        told = "none" if not leak.leaks else "LEAKS: the codec is not causal"
        lines.append(
            f"  leak {leak.way:<9}   {told} ({leak.codes_changed} codes, pixels by "
            f"{leak.pixel_change:g}, {leak.trials} blocks replaced)"
        )
    for by in dict.fromkeys(item.by for item in source.by_content):
        groups = [
            f"{item.group} {item.psnr:.1f} ({item.count})"
            for item in source.by_content
            if item.by == by
        ]
        more = f"; {len(groups) - 8} more" if len(groups) > 8 else ""
        lines.append(f"  dB by {by:<10} {'; '.join(groups[:8])}{more}")
    return lines


def _or(estimate: Estimate | None) -> str:
    return "-" if estimate is None else str(estimate)
