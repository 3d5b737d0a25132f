"""What comparing backbones gives: results as dataclasses, and their tables.

It knows figures, how they scale and how they are told, not how they were measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tokenizer.studies.costs import Cost, Kind, Manner, Shape
from tokenizer.studies.scaling import Exponent, fit_exponent

Axis = Literal["frames", "block", "area"]
AXES: dict[Axis, str] = {
    "frames": "T, more blocks of the same length",
    "block": "T, all in one block",
    "area": "H x W",
}
Measure = Literal["operations", "memory", "seconds"]
MEASURES: dict[Measure, str] = {"operations": "FLOP", "memory": "MiB", "seconds": "time"}
UNLIKE = 1.5  # times the median of parameters, or less than its inverse, from which a note says so


@dataclass(frozen=True)
class Measured:
    """What clips of one shape cost a backbone."""

    shape: Shape
    axes: list[Axis]  # lines that the shape is a point of
    clip: Cost  # encoding and decoding all clips of the shape
    step: Cost  # a training step on them


@dataclass(frozen=True)
class Growth:
    """How one figure grows along one axis."""

    kind: Kind
    measure: Measure
    axis: Axis
    exponent: Exponent


@dataclass(frozen=True)
class Quality:
    """Held-out clips after training for a time."""

    minutes: float  # of training
    steps: int
    psnr: float  # dB at the full rate, pooled
    ssim: float | None
    used_codes: float  # share of the codebook, 0 to 1
    tokens_per_frame: float  # the full rate
    mean_colour_psnr: float  # dB of a baseline without a codec: each clip in its mean colour
    num_clips: int
    protocol: dict[str, Any]  # source, sizes, seed, metrics, codec


@dataclass(frozen=True)
class BackboneReport:
    """One backbone's row."""

    name: str
    network: str  # class and, of attention, its kind
    parameters: int  # of the whole codec
    costs: list[Measured]
    growth: list[Growth]
    quality: Quality | None  # None where nothing was trained
    file: str


@dataclass(frozen=True)
class BackboneComparison:
    """Backbones beside each other."""

    backbones: list[BackboneReport]
    base: Shape  # of the costs in the first table
    manner: Manner
    machine: dict[str, Any]
    notes: list[str]  # what to mind
    page: str

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = []
        for title, head, rows in tables(self):
            parts += [_table(title, head, rows), ""]
        notes = [*caption(self), *(f"note      {note}" for note in self.notes)]
        return Group(*parts, Text("\n".join([*notes, f"page      {self.page}"])))


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    table.title, table.title_justify = title, "left"
    table.add_column(head[0], min_width=12)
    for name in head[1:]:
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for first, *rest in rows:
        table.add_row(Text(first, overflow="fold"), *rest)
    return table


def caption(found: BackboneComparison) -> list[str]:
    """On what and how it was measured, in a few lines."""
    base, manner = found.base, found.manner
    told = ", ".join(f"{key} {value}" for key, value in found.machine.items() if value is not None)
    return [
        f"machine   {told}",
        f"manner    {manner.threads} thread(s), {manner.precision}, {manner.clock} time, median of "
        f"{manner.repeats}, seed {manner.seed}; {base.clips} clips at once, whole in a step, too",
        "counts    GFLOP of products, convolutions and attention; MiB above a process that has "
        "done one tiny clip; exponents of log-log fits, after a stroke the slope between the "
        "two largest where it differs",
    ]


def tables(found: BackboneComparison) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, head and rows of each table: costs of one shape, quality, exponents by axis."""
    base = found.base
    size = f"{base.frames}x{base.height}x{base.width}"
    made = [(f"A clip of {size}, encoded and decoded, and in a training step", *_costs(found))]
    trained = [one for one in found.backbones if one.quality is not None]
    if trained:
        made.append(("Held-out clips after equal training time", *_qualities(trained)))
    for axis, title in AXES.items():
        head = ["backbone", *(f"{k} {t}" for k in get_args(Kind) for t in MEASURES.values())]
        rows = []
        for one in found.backbones:
            by = {(g.kind, g.measure): str(g.exponent) for g in one.growth if g.axis == axis}
            rows.append([one.name, *(by.get((k, m), "") for k in get_args(Kind) for m in MEASURES)])
        if any("".join(row[1:]) for row in rows):
            made.append((f"Exponents against {title}", head, rows))
    return made


def _costs(found: BackboneComparison) -> tuple[list[str], list[list[str]]]:
    head = ["backbone", "million parameters", "of median"]
    head += [f"{k} {t}" for k in get_args(Kind) for t in ("GFLOP", "MiB", "ms")]
    middle = median_parameters(found.backbones)
    rows = []
    for one in found.backbones:
        row = [one.name, f"{one.parameters / 1e6:.2f}", f"{one.parameters / middle:.2f}"]
        at = next(m for m in one.costs if m.shape == found.base)
        for cost in (at.clip, at.step):
            row.append(_per_clip(cost.operations, found.base, 1e-9, 3))
            row.append(_per_clip(cost.memory, found.base, 1, 3))
            row.append(_per_clip(cost.seconds, found.base, 1e3, 3))
        rows.append(row)
    return head, rows


def _per_clip(value: float | None, shape: Shape, unit: float, digits: int) -> str:
    return "" if value is None else f"{value * unit / shape.clips:.{digits}g}"


def _qualities(trained: Sequence[BackboneReport]) -> tuple[list[str], list[list[str]]]:
    head = ["backbone", "PSNR dB", "SSIM", "codes used", "steps", "minutes", "tokens a frame"]
    rows = []
    for one in sorted(trained, key=lambda each: -each.quality.psnr if each.quality else 0):
        q = one.quality
        assert q is not None
        ssim = "" if q.ssim is None else f"{q.ssim:.3f}"
        figures = [f"{q.psnr:.2f}", ssim, f"{q.used_codes:.0%}", str(q.steps), f"{q.minutes:.2f}"]
        rows.append([one.name, *figures, f"{q.tokens_per_frame:.4g}"])
    return head, rows


def median_parameters(backbones: Sequence[BackboneReport]) -> float:
    return statistics.median(one.parameters for one in backbones)


def growth_of(costs: Sequence[Measured]) -> list[Growth]:
    """Every figure's exponent along every axis that has at least two sizes."""
    along: dict[Axis, Callable[[Shape], float]] = {
        "frames": lambda shape: shape.frames,
        "block": lambda shape: shape.frames,
        "area": lambda shape: shape.height * shape.width,
    }
    found = []
    for axis, size in along.items():
        line = [one for one in costs if axis in one.axes]
        if len({size(one.shape) for one in line}) < 2:
            continue
        for kind in get_args(Kind):
            for measure in MEASURES:
                values = [getattr(getattr(one, kind), measure) for one in line]
                points = [(size(o.shape), v or 0.0) for o, v in zip(line, values, strict=True)]
                found.append(Growth(kind, measure, axis, fit_exponent(points)))
    return found


def notes_of(backbones: Sequence[BackboneReport]) -> list[str]:
    """What to mind of the tables: unlike sizes, empty cells, exponents of little worth."""
    notes, middle = [], median_parameters(backbones)
    for one in backbones:
        times = one.parameters / middle
        if not 1 / UNLIKE <= times <= UNLIKE:
            notes.append(
                f"{one.name} has {times:.2g} times the median of parameters: its row compares "
                "size as well as kind"
            )
    rates = {one.quality.tokens_per_frame for one in backbones if one.quality}
    if len(rates) > 1:
        notes.append("full rates differ: PSNR compares tokens as well as backbones")
    for one in backbones:
        for m in one.costs:
            s = m.shape
            for kind in get_args(Kind):
                if (reason := getattr(m, kind).reason) is not None:
                    size = f"{s.frames}x{s.height}x{s.width} in blocks of {s.block_frames}"
                    notes.append(f"{one.name}, {kind}, {size}: {reason}")
    told: dict[str, int] = {}
    for one in backbones:
        for g in one.growth:
            cause = g.exponent.note.split(":")[0].split(",")[0]
            told[cause] = told.get(cause, 0) + bool(cause)
    notes += [f"{count} exponent(s): {cause}" for cause, count in told.items() if cause]
    return notes
