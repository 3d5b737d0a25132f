"""The command `tokenizer compare-backbones`: what each costs, how that grows, what it gives.

Each backbone has a JSON file that its figures are added to as they come; figures that are there
already from the same design, manner and machine are kept. It does not know how costs are measured.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console

from data.atomic import check_writable
from data.source import open_source
from tokenizer.commands import heldout_split, open_codec
from tokenizer.evaluate import METRICS, Progress, evaluate
from tokenizer.progress import progress_bar
from tokenizer.running import Clock, Precision, running
from tokenizer.studies.backbone_page import write_backbone_page, write_costs
from tokenizer.studies.backbone_report import (
    Axis,
    BackboneComparison,
    BackboneReport,
    Measured,
    Quality,
    growth_of,
    notes_of,
)
from tokenizer.studies.backbone_rows import add_quality, read_costs, read_quality, save_row
from tokenizer.studies.costs import Design, Kind, Manner, Shape, machine, measure_cost
from tokenizer.studies.plan import ClipsPlan, TrainingPlan
from tokenizer.studies.trainings import train

COMMAND = "kinolex tokenizer compare-backbones"
BASE = Path("configs/tokenizer/base.yaml")


@dataclass(frozen=True)
class _Entry:
    """A backbone to compare."""

    name: str
    configs: list[Path]  # layered in this order
    design: Design
    size: tuple[int, int, int]  # frames, height and width that it is trained at

    @property
    def settings(self) -> dict[str, Any]:
        """All of the design that figures depend on, as JSON has it."""
        told = {**dataclasses.asdict(self.design), "backbone": self.design.backbone.__name__}
        return {"design": {**told, "quantizer": self.design.quantizer.__name__}}


def compare_backbones(
    out: Path,
    backbones: Sequence[Path] = (BASE, BASE.parent / "backbone"),
    base: Sequence[Path] = (BASE,),
    frames: Sequence[int] = (8, 16, 32),
    block_frames: Sequence[int] = (8, 16, 32),
    sizes: Sequence[int] = (32, 64, 128),
    clips: int = 2,
    repeats: int = 5,
    minutes: float = 0.0,
    source: str = "scenes:easy",
    num_clips: int = 64,
    precision: Precision = "fp32",
    clock: Clock = "wall",
    seed: int = 0,
) -> BackboneComparison:
    """Measure on this machine what backbones cost, how that grows with the clip, what they give.

    Costs are operations, peak memory and time of encoding with decoding and of a whole training
    step, against T (more blocks; one longer block) and against H x W, with fitted exponents.
    Quality is that of held-out clips after equal training time. OUT gets a JSON for each backbone,
    costs.csv and report.html; run again, what is there from the same settings and machine is kept.

    Example: kinolex tokenizer compare-backbones --minutes 2 --out runs/backbones

    Args:
        out: Folder for results.
        backbones: Configs over the base, or folders of them; the base itself is one, too.
        base: Configs below each backbone's, in this order.
        frames: Frames of a clip in blocks as configured; the first stands where others vary.
        block_frames: Frames of a clip that is one block; give one number to leave this line out.
        sizes: Pixels of each side; the first stands where others vary.
        clips: Clips handled at once. Of one alone a training step convolves a copy, too.
        repeats: Of which times are the median.
        minutes: Training time for quality, of each backbone, at the size of the configs; 0 trains
            nothing.
        source: Clips for quality: its train split is trained on, its held-out one scored.
        num_clips: Held-out clips scored, at most.
        precision: fp32, or bf16 where the processor has it.
        clock: wall, or cpu: the processor time of the process, for machines shared with other work.
        seed: Of weights, noise and training.
    """
    check_writable(out / "report.html")
    numbers = {"frames": frames, "block_frames": block_frames, "sizes": sizes, "clips": [clips]}
    for name, given in {**numbers, "repeats": [repeats], "num_clips": [num_clips]}.items():
        if min(given) < 1:
            raise ValueError(f"{name}={min(given)}: give 1 or more")
    if minutes < 0:
        raise ValueError(f"minutes={minutes:g}: give a time above 0, or 0 to train nothing")
    entries = _read(backbones, base)
    manner = Manner(repeats, precision, clock, torch.get_num_threads(), seed)
    with progress_bar("measuring costs") as progress:
        lines = [_lines(e.design.block_frames, frames, block_frames, sizes, clips) for e in entries]
        total, before = sum(map(len, lines)), 0
        reports = []
        for entry, shapes in zip(entries, lines, strict=True):
            told = partial(_tell_from, progress, before, total)
            reports.append(_measured(entry, shapes, manner, out, told))
            before += len(shapes)
    if minutes:
        plan = _Training(minutes, source, num_clips, manner)
        reports = [_trained(*pair, plan) for pair in zip(entries, reports, strict=True)]
    shape = Shape(clips, frames[0], sizes[0], sizes[0], entries[0].design.block_frames)
    page = out / "report.html"
    found = BackboneComparison(reports, shape, manner, machine(), notes_of(reports), str(page))
    write_costs(out / "costs.csv", found)
    write_backbone_page(page, found)
    return found


def _tell_from(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _read(backbones: Sequence[Path], base: Sequence[Path]) -> list[_Entry]:
    """The backbones that files and folders describe, in order."""
    from tokenizer.training import configured

    files = []
    for path in backbones:
        files += sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    for path in [*base, *files]:
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no such config: paths start at the current folder; give --backbones and "
                "--base"
            )
    if not files:
        raise ValueError(f"no config in {', '.join(map(str, backbones))}: give YAML files")
    names = [file.stem for file in files]
    if twins := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two backbones are called {min(twins)}: rename one of their files")
    entries = []
    for file in files:
        configs = [*base, *([] if file in base else [file])]
        training, data = configured(configs, COMMAND)
        design = Design.of(training.codec, training.recipe)
        entries.append(_Entry(file.stem, configs, design, data.watched_size))
    return entries


def _lines(
    own: int, frames: Sequence[int], blocks: Sequence[int], sizes: Sequence[int], clips: int
) -> dict[Shape, list[Axis]]:
    """The shapes to measure, each with the axes that it is a point of."""
    shapes: dict[Shape, list[Axis]] = {}
    side = sizes[0]
    line: list[tuple[Axis, Shape]] = [
        *(("frames", Shape(clips, number, side, side, own)) for number in frames),
        *(("block", Shape(clips, number, side, side, number)) for number in blocks),
        *(("area", Shape(clips, frames[0], size, size, own)) for size in sizes),
    ]
    for axis, shape in line:
        axes = shapes.setdefault(shape, [])
        axes += [] if axis in axes else [axis]
    return shapes


def _measured(
    entry: _Entry,
    shapes: dict[Shape, list[Axis]],
    manner: Manner,
    out: Path,
    told: Callable[[int], None],
) -> BackboneReport:
    """A backbone's row without quality; what its file has from the same settings is kept."""
    file, codec = out / f"{entry.name}.json", entry.design.build()
    settings = {**entry.settings, "manner": dataclasses.asdict(manner), "machine": machine()}
    known = read_costs(file, settings)
    backbone = codec.backbone
    kind = backbone.arguments.get("attention")
    report = BackboneReport(
        name=entry.name,
        network=type(backbone).__name__ + (f", {kind}" if kind else ""),
        parameters=sum(p.numel() for p in codec.parameters()),
        costs=[],
        growth=[],
        quality=read_quality(file),
        file=str(file),
    )
    asked: list[Measured] = []
    for number, (shape, axes) in enumerate(shapes.items()):
        told(number)
        costs = known.get(shape)
        if costs is None:
            costs = [measure_cost(entry.design, k, shape, manner) for k in get_args(Kind)]
        known[shape] = costs
        asked.append(Measured(shape, axes, *costs))
        report = replace(report, costs=asked, growth=growth_of(asked))
        save_row(report, settings, known)
    return report


@dataclass(frozen=True)
class _Training:
    """How every backbone is trained and scored."""

    minutes: float
    source: str
    num_clips: int
    manner: Manner


def _trained(entry: _Entry, report: BackboneReport, plan: _Training) -> BackboneReport:
    """The row with its quality, trained for now or before."""
    manner = plan.manner
    protocol = {
        **entry.settings,
        "size": list(entry.size),
        "machine": machine(),
        "source": plan.source,
        "minutes": plan.minutes,
        "num_clips": plan.num_clips,
        "manner": {**dataclasses.asdict(manner), "repeats": None},
        "metrics": METRICS,
    }
    if report.quality is not None and report.quality.protocol == protocol:
        return report
    digest = hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:8]
    run = Path(report.file).parent / "runs" / f"{entry.name}-{digest}"
    values = {
        "seed_everything": manner.seed,
        "precision": {"fp32": "32-true", "bf16": "bf16-mixed"}[manner.precision],
        "clock": manner.clock,
    }
    tell = Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print
    tell(f"{entry.name}: training for {plan.minutes:g} minutes")
    training = TrainingPlan(entry.configs, values, plan.minutes)
    codec = open_codec(train(training, ClipsPlan(plan.source), run, tell))
    fit = json.loads((run / "finished.json").read_text(encoding="utf-8"))
    frames, height, width = entry.size
    clips = open_source(
        plan.source,
        split=heldout_split(plan.source),
        num_frames=frames,
        height=height,
        width=width,
        num_clips=plan.num_clips,
    )
    with progress_bar(f"{entry.name}: scoring") as progress, running(codec, manner.precision):
        scored = evaluate(codec, clips, (), plan.num_clips, progress)
    full = scored.rates[0]
    quality = Quality(
        minutes=fit["minutes"],
        steps=fit["steps"],
        psnr=full.score.psnr,
        ssim=full.score.ssim,
        used_codes=full.used_codes,
        tokens_per_frame=full.tokens_per_frame,
        mean_colour_psnr=scored.baselines["mean colour"].psnr,
        num_clips=scored.num_clips,
        protocol=protocol,
    )
    report = replace(report, quality=quality)
    add_quality(report)
    return report
