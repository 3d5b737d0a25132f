"""The command `study`: a file of clips and curves to curves on disk, their gaps, a table, a page.

A curve that is there already with the same protocol and clips is kept; anything else is measured,
and a codec that is to be trained is trained first. It does not know how things are measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from data.source import Source, open_source
from tokenizer.prior_choice import OpenPrior
from tokenizer.progress import progress_bar
from tokenizer.studies.coders import CoderMaker, Made, Tell
from tokenizer.studies.comparing import Comparison, Match, compare, match_tokens, write_comparisons
from tokenizer.studies.curve import Curve, load_curve, save_curve
from tokenizer.studies.gauges import NewGauge, PerceptualGauge, RandomFrechet
from tokenizer.studies.measuring import ClipSet, measure, protocol_of, survey
from tokenizer.studies.pages import Chapter, write_csv, write_page
from tokenizer.studies.plan import ClipsPlan, CurvePlan, StudyPlan, read_plan


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
class StudyChapter:
    """What a study gave on one set of clips."""

    clips: str  # name of the set; "" where it is the only one
    num_clips: int
    curves: list[StudyCurve]
    comparisons: list[Comparison]
    matches: list[Match]


@dataclass(frozen=True)
class StudyReport:
    """What a study gave."""

    name: str
    out: str
    page: str
    chapters: list[StudyChapter]
    missing: list[str]  # curves that could not be made, with the reason

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        notes = [f"left out  {reason}" for reason in self.missing] + [f"page      {self.page}"]
        tables = [part for chapter in self.chapters for part in _told(chapter)]
        return Group(*tables, Text("\n".join(notes)))


def _told(chapter: StudyChapter) -> list[Any]:
    """A chapter as people read it: a table, and what is to be known of its gaps."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title=chapter.clips or None, title_justify="left")
    table.add_column("curve", min_width=10, overflow="fold")
    for column in ("bits/pixel", "PSNR dB", "BD-rate %", "BD-PSNR dB"):
        table.add_column(column, justify="right", no_wrap=True)
    gaps = {gap.curve: gap for gap in chapter.comparisons if gap.quality == "psnr-rgb"}
    for curve in chapter.curves:
        gap = gaps.get(curve.name)
        bits = " ".join(f"{value:.3g}" for value in curve.bits_per_pixel)
        quality = " ".join(f"{value:.1f}" for value in curve.psnr_rgb)
        told = ("", "") if gap is None else (gap.text("bd_rate"), gap.text("bd_quality"))
        table.add_row(Text(curve.name), bits, quality, *told)
    notes = [f"anchor    {name}" for name in dict.fromkeys(gap.anchor for gap in gaps.values())]
    notes += [f"no gap    {note}" for gap in gaps.values() for note in gap.reasons]
    return [table, "", *([Text("\n".join(notes))] if notes else [])]


def study(study: Path, out: Path, open_model_prior: OpenPrior | None = None) -> StudyReport:
    """Measure codecs against each other and against classical encoders, on the same clips.

    The study file names clips (one set, or a list of named ones), curves (codecs by folder, codecs
    to be trained, x264, x265, svt-av1, vp9, or JSON made before; `sweep` makes one curve many) and
    the anchor that the others are compared with. OUT gets curves/NAME.json for each, bd.json
    (BD-rate, BD-PSNR and gains at equal tokens, with 95 % intervals over clips), both in a folder
    for each set where there are several, summary.csv and report.html. Run again, it goes on where
    it stopped: a curve is measured again only if its settings, its codec or the clips have changed.

    Example: kinolex study configs/study/rates.yaml --out runs/study

    Args:
        study: A YAML file; configs/study/rates.yaml is one to start from.
        out: Folder for results.
        open_model_prior: Opens the prior of a language model; the command knows how.
    """
    plan = read_plan(study)
    if out.is_file():
        raise ValueError(f"out={out} is a file: give a folder for the study")
    tell = Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print
    gauges = _gauges(plan)
    sets = [_open(clips) for clips in plan.clips]
    maker = CoderMaker(plan, out, tell, open_model_prior)
    coders, missing = maker.all()  # after the clips: it may train for long
    told, chapters = [], []
    for clips, (source, seen) in zip(plan.clips, sets, strict=True):
        folder = out / clips.file_name if clips.name else out
        curves, made = [], []
        for number, (wanted, coder) in enumerate(coders, 1):
            if wanted.clips is not None and clips.name not in wanted.clips:
                continue
            file = folder / "curves" / f"{wanted.file_name}.json"
            title = f"{clips.name} {number}/{len(coders)} {wanted.name}".strip()
            curve, measured = _curve(wanted, coder, source, seen, file, title, tell, gauges)
            curves.append(curve)
            made.append(_summary(curve, file, measured))
        gaps, matches = compare(curves, plan.anchor_name), match_tokens(curves, plan.anchor_name)
        write_comparisons(folder / "bd.json", plan.anchor_name, gaps, missing, matches)
        chapters.append(Chapter(clips.name, curves, gaps, matches))
        told.append(StudyChapter(clips.name, seen.num_clips, made, gaps, matches))
    write_csv(out / "summary.csv", chapters)
    write_page(out / "report.html", plan, chapters, missing)
    return StudyReport(plan.name, str(out), str(out / "report.html"), told, missing)


def _gauges(plan: StudyPlan) -> list[NewGauge]:
    gauges: list[NewGauge] = [RandomFrechet] if plan.frechet else []
    if plan.perceptual is not None:
        gauges.append(partial(PerceptualGauge, plan.perceptual))
        gauges[-1]()  # what is wrong with the weights is told now, not after the trainings
    return gauges


def _open(clips: ClipsPlan) -> tuple[Source, ClipSet]:
    source = open_source(
        clips.source,
        split=clips.split,
        num_frames=clips.num_frames,
        height=clips.height,
        width=clips.width,
        fps=clips.fps,
        num_clips=clips.num_clips,
    )
    with progress_bar(f"looking through the clips {clips.name}".strip()) as progress:
        return source, survey(source, progress)


def _curve(
    wanted: CurvePlan,
    made: Made,
    source: Source,
    clips: ClipSet,
    file: Path,
    title: str,
    tell: Tell,
    gauges: list[NewGauge],
) -> tuple[Curve, bool]:
    """The curve, saved, and whether it was measured just now."""
    if isinstance(made, Curve):
        curve = replace(made, name=wanted.name, description=wanted.description or made.description)
        save_curve(curve, file)
        return curve, False
    protocol = protocol_of(made, clips, gauges)
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
        curve = measure(
            made, source, wanted.name, wanted.description, clips, progress, gauges=gauges
        )
    save_curve(curve, file)
    return curve, True


def _summary(curve: Curve, file: Path, measured: bool) -> StudyCurve:
    quality, bits = curve.metric("psnr-rgb"), curve.metric("bpp")
    ranges = (min(quality), max(quality)), (min(bits), max(bits))
    return StudyCurve(curve.name, str(file), curve.num_points, measured, *ranges)
