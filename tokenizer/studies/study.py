"""The command `study`: a file of clips and curves to curves on disk, their gaps, a table, a page.

A curve that is there already with the same protocol and clips is kept; anything else is measured,
and a codec that is to be trained is trained first. It does not know how things are measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from data.source import Source, open_source
from tokenizer.codec import Codec
from tokenizer.commands import open_codec, progress_bar
from tokenizer.entropy import Prior
from tokenizer.priors import AdaptivePrior, StaticPrior
from tokenizer.studies.classical import ClassicalCoder, MissingEncoder
from tokenizer.studies.comparing import Comparison, compare, match_tokens, write_comparisons
from tokenizer.studies.curve import Curve, load_curve, save_curve
from tokenizer.studies.learned import CodecCoder, prior_of_source
from tokenizer.studies.measuring import ClipSet, Coder, measure, protocol_of, survey
from tokenizer.studies.pages import write_csv, write_page
from tokenizer.studies.plan import CurvePlan, StudyPlan, read_plan
from tokenizer.studies.trainings import train

Tell = Callable[[str], None]
PRIOR_CLIPS = 512  # of the train split, whose codes a static prior counts


@dataclass(frozen=True)
class StudyCurve:
    """A curve of a study."""

    name: str
    file: str
    num_points: int
    measured: bool  # False where it was there already
    psnr_rgb: tuple[float, float]  # dB, worst and best
    bits_per_pixel: tuple[float, float]  # least and most, of the kind the curve's protocol names


@dataclass(frozen=True)
class StudyReport:
    """What a study gave."""

    name: str
    out: str
    page: str
    num_clips: int
    curves: list[StudyCurve]
    comparisons: list[Comparison]
    missing: list[str]  # curves that could not be made, with the reason

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        table.add_column("curve", min_width=10, overflow="fold")
        for column in ("bits/pixel", "PSNR dB", "BD-rate %", "BD-PSNR dB"):
            table.add_column(column, justify="right", no_wrap=True)
        gaps = {gap.curve: gap for gap in self.comparisons if gap.quality == "psnr-rgb"}
        for curve in self.curves:
            gap = gaps.get(curve.name)
            bits = " ".join(f"{value:.3g}" for value in curve.bits_per_pixel)
            quality = " ".join(f"{value:.1f}" for value in curve.psnr_rgb)
            told = ("", "") if gap is None else (gap.text("bd_rate"), gap.text("bd_quality"))
            table.add_row(Text(curve.name), bits, quality, *told)
        against = {gap.anchor for gap in self.comparisons}
        notes = [f"anchor    {name}" for name in against]
        notes += [f"no gap    {note}" for gap in gaps.values() for note in gap.reasons]
        notes += [f"left out  {reason}" for reason in self.missing]
        return Group(table, "", Text("\n".join([*notes, f"page      {self.page}"])))


def study(study: Path, out: Path) -> StudyReport:
    """Measure codecs against each other and against classical encoders, on the same clips.

    The study file names clips, curves (codecs by folder, codecs to be trained, x264, x265, svt-av1,
    vp9, or JSON made before) and the anchor that the others are compared with. OUT gets
    curves/NAME.json for each, summary.csv, bd.json (BD-rate, BD-PSNR and gains at equal tokens with 95 %
    intervals over clips) and report.html. Run again, it goes on where it stopped: a curve is measured again only
    if its settings, its codec or the clips have changed.

    Example: kinolex study configs/study/rates.yaml --out runs/study

    Args:
        study: A YAML file; configs/study/rates.yaml is one to start from.
        out: Folder for results.
    """
    plan = read_plan(study)
    if out.is_file():
        raise ValueError(f"out={out} is a file: give a folder for the study")
    tell = Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print
    clips = plan.clips
    source = open_source(
        clips.source,
        split=clips.split,
        num_frames=clips.num_frames,
        height=clips.height,
        width=clips.width,
        fps=clips.fps,
        num_clips=clips.num_clips,
    )
    with progress_bar("looking through the clips") as progress:
        seen = survey(source, progress)
    coders, missing = _coders(plan, out, tell)  # after the clips: it may train for long
    curves, made = [], []
    for number, (wanted, coder) in enumerate(coders, 1):
        file = out / "curves" / f"{wanted.file_name}.json"
        title = f"{number}/{len(coders)} {wanted.name}"
        curve, measured = _curve(wanted, coder, source, seen, file, title, tell)
        curves.append(curve)
        made.append(_summary(curve, file, measured))
    comparisons = compare(curves, plan.anchor_name)
    matches = match_tokens(curves, plan.anchor_name)
    write_comparisons(out / "bd.json", plan.anchor_name, comparisons, missing, matches)
    write_csv(out / "summary.csv", curves)
    write_page(out / "report.html", plan, curves, comparisons, missing, matches)
    page = str(out / "report.html")
    return StudyReport(plan.name, str(out), page, seen.num_clips, made, comparisons, missing)


Made = Coder | Curve  # what measures a curve, or the curve itself


def _coders(
    plan: StudyPlan, out: Path, tell: Tell
) -> tuple[list[tuple[CurvePlan, Made]], list[str]]:
    """What measures each curve, in order, and which cannot be had; nothing is trained before all
    ready ones have been opened."""
    made: dict[str, Made] = {}
    missing = []
    for wanted in sorted(plan.curves, key=lambda curve: curve.train is not None):
        try:
            made[wanted.name] = _coder(wanted, plan, out, tell)
        except MissingEncoder as error:
            missing.append(f"{wanted.name}: {error}")
            tell(f"left out {missing[-1]}")
    if not made:
        raise ValueError(f"no curve of '{plan.name}' can be made: {'; '.join(missing)}")
    return [(curve, made[curve.name]) for curve in plan.curves if curve.name in made], missing


def _coder(wanted: CurvePlan, plan: StudyPlan, out: Path, tell: Tell) -> Made:
    if wanted.curve is not None:
        return load_curve(wanted.curve)
    if wanted.encoder is not None:
        pixels, options = wanted.pixels or "yuv420p", wanted.options
        return ClassicalCoder(wanted.encoder, wanted.crf or [], pixels, options)
    folders, own = list(wanted.codec or []), [None] * len(wanted.codec or [])
    for number, training in enumerate(wanted.train or [], 1):
        run = out / "runs" / f"{wanted.file_name}-{number}"
        folders.append(train(training, plan.clips, run, tell))
        own.append(training.rates)
    codecs = [open_codec(folder) for folder in folders]
    priors = None
    if wanted.prior is not None:
        priors = [StaticPrior.load(wanted.prior)]
    elif wanted.coding is not None:
        priors = [_prior(codec, wanted, plan, out) for codec in codecs]
    return CodecCoder(codecs, wanted.rates or [], wanted.shares or [], priors, own)


def _prior(codec: Codec, wanted: CurvePlan, plan: StudyPlan, out: Path) -> Prior:
    """What a codec's tokens are coded under; a static prior is kept beside the curves."""
    if wanted.coding == "adaptive":
        return AdaptivePrior(codec.codebook_size, codec.layout)
    clips = plan.clips
    settings = (clips.source, clips.num_frames, clips.height, clips.width, clips.fps)
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:8]
    file = out / "priors" / f"{codec.codec_id}-{digest}.prior"
    if not file.is_file():
        source = open_source(
            clips.source,
            split="train",
            num_frames=clips.num_frames,
            height=clips.height,
            width=clips.width,
            fps=clips.fps,
            num_clips=PRIOR_CLIPS,
        )
        with progress_bar(f"{wanted.name}: counting codes of training clips") as progress:
            prior_of_source(codec, source, progress).save(file)
    return StaticPrior.load(file)


def _curve(
    wanted: CurvePlan,
    made: Made,
    source: Source,
    clips: ClipSet,
    file: Path,
    title: str,
    tell: Tell,
) -> tuple[Curve, bool]:
    """The curve, saved, and whether it was measured just now."""
    if isinstance(made, Curve):
        curve = replace(made, name=wanted.name, description=wanted.description or made.description)
        save_curve(curve, file)
        return curve, False
    protocol = protocol_of(made, clips)
    if file.is_file():
        stored = load_curve(file)
        named = replace(stored, name=wanted.name, description=wanted.description)
        changed = [
            key
            for key in {**protocol, **stored.protocol}
            if key != "bpp" and protocol.get(key) != stored.protocol.get(key)
        ]
        if not changed:
            if named != stored:
                save_curve(named, file)
            return named, False
        tell(f"{wanted.name}: {', '.join(changed)} changed since {file}: measured again")
    with progress_bar(title) as progress:
        curve = measure(made, source, wanted.name, wanted.description, clips, progress)
    save_curve(curve, file)
    return curve, True


def _summary(curve: Curve, file: Path, measured: bool) -> StudyCurve:
    quality, bits = curve.metric("psnr-rgb"), curve.metric("bpp")
    ranges = (min(quality), max(quality)), (min(bits), max(bits))
    return StudyCurve(curve.name, str(file), curve.num_points, measured, *ranges)
