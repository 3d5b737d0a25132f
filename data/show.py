"""A look at a source: its clips as moving pictures on one page, with what is said about them.

It knows any source by its face alone, and neither codecs nor models.
"""

from __future__ import annotations

import base64
import html
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from data.atomic import write_atomically
from data.clip import Clip, Event
from data.sampling import Uniform, sample
from data.source import Skipped, Source, open_source
from data.writing import encode_gif

_LONGEST = 48  # frames of a picture on the page
_MOST_VALUES = 20  # values of a label that are counted one by one
_SMALLEST, _LARGEST = 128, 320  # pixels, sides of a picture on the page


@dataclass(frozen=True)
class SourceReport:
    """What a source holds, by a count over clips spread evenly through it."""

    source: str
    split: str
    page: str  # the page that was written
    clips: int  # in the source, those left out not among them
    counted: int  # clips that the figures below are taken from
    frames: int  # over the counted clips
    seconds: float  # mean length of a clip, its last frame's share included
    fps_lowest: float | None  # frames a second; None where every clip is one frame
    fps_highest: float | None  # frames a second
    sizes: dict[str, int]  # clips by "HEIGHTxWIDTH" in pixels
    captions_per_clip: float
    distinct_captions: int
    questions_per_clip: float
    questions: dict[str, int]  # questions by kind
    labels: dict[str, dict[str, int]]  # per label, clips by value; the commonest values
    skipped: list[Skipped] = field(default_factory=list)  # clips that cannot be read


def show(
    source: str,
    *,
    out: Path,
    split: str = "train",
    num_clips: int = 16,
    num_counted: int = 256,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    seed: int = 0,
    strict: bool = False,
) -> SourceReport:
    """Write a page of clips from any source: OUT/index.html, and each picture as a GIF beside it.

    The page needs no other file and no network. Clips are spread evenly through the source.

    Example: kinolex data show scenes:easy --out page

    Args:
        source: A folder of clips, `scenes:easy|standard|hard`, or `hub:NAME_OR_PATH`.
        out: Folder for the page and the pictures.
        split: Part of the source, e.g. train or heldout.
        num_clips: Clips on the page.
        num_counted: Clips that lengths, sizes, captions and labels are counted over.
        num_frames: Frames a clip; the default keeps clips whole.
        height: Pixels.
        width: Pixels.
        fps: Frames a second to sample at.
        seed: Chooses the clips of a made world.
        strict: Stop at the first clip that cannot be read instead of leaving it out.

    Raises:
        FileNotFoundError: No such source.
        ValueError: No readable clip, or a number out of range.
    """
    from rich.console import Console
    from rich.progress import track

    for name, value in (("num_clips", num_clips), ("num_counted", num_counted)):
        if value < 1:
            raise ValueError(f"{name}={value}: give at least 1")
    opened = open_source(
        source,
        split=split,
        num_frames=num_frames,
        height=height,
        width=width,
        fps=fps,
        seed=seed,
        strict=strict,
    )
    total = len(opened)
    shown = set(_spread(total, num_clips))
    count = _Count()
    cards: list[str] = []
    order = sorted(shown | set(_spread(total, num_counted)))
    bar = {"console": Console(stderr=True), "transient": True, "disable": len(order) < 100}
    for number in track(order, "Reading clips", **bar):
        clip = opened[number]
        count.add(clip)
        if number in shown:
            picture = _picture(clip)
            write_atomically(out / f"clip-{number:06d}.gif", picture)
            cards.append(_card(number, clip, picture))
    page = out / "index.html"
    report = count.report(source, split, str(page), total, opened.skipped)
    write_atomically(page, _page(opened, report, cards).encode())
    return report


def _spread(total: int, wanted: int) -> list[int]:
    return Uniform(wanted).select(torch.arange(total, dtype=torch.float64)).tolist()


class _Count:
    def __init__(self) -> None:
        self.clips = self.frames = self.captions = 0
        self.seconds = 0.0
        self.rates: list[float] = []
        self.sizes: Counter[str] = Counter()
        self.distinct: set[str] = set()
        self.questions: Counter[str] = Counter()
        self.labels: dict[str, Counter[str]] = {}

    def add(self, clip: Clip) -> None:
        self.clips += 1
        self.frames += len(clip)
        if clip.fps is not None:
            self.rates.append(clip.fps)
            self.seconds += len(clip) / clip.fps
        self.sizes[f"{clip.height}x{clip.width}"] += 1
        self.captions += len(clip.captions)
        self.distinct.update(clip.captions)
        self.questions.update(question.kind for question in clip.questions)
        for key, value in clip.labels.items():
            self.labels.setdefault(key, Counter())[value] += 1

    def report(
        self, source: str, split: str, page: str, total: int, skipped: Iterable[Skipped]
    ) -> SourceReport:
        return SourceReport(
            source=source,
            split=split,
            page=page,
            clips=total,
            counted=self.clips,
            frames=self.frames,
            seconds=round(self.seconds / self.clips, 3),
            fps_lowest=round(min(self.rates), 3) if self.rates else None,
            fps_highest=round(max(self.rates), 3) if self.rates else None,
            sizes=dict(self.sizes.most_common()),
            captions_per_clip=round(self.captions / self.clips, 2),
            distinct_captions=len(self.distinct),
            questions_per_clip=round(self.questions.total() / self.clips, 2),
            questions=dict(self.questions.most_common()),
            labels={key: _commonest(counts) for key, counts in self.labels.items()},
            skipped=list(skipped),
        )


def _commonest(counts: Counter[str]) -> dict[str, int]:
    commonest = dict(counts.most_common(_MOST_VALUES))
    others = counts.total() - sum(commonest.values())
    return {**commonest, "(others)": others} if others else commonest


def _picture(clip: Clip) -> bytes:
    """The clip as a GIF of a size and length that a page can bear."""
    clip = sample(clip, Uniform(_LONGEST))
    frames, larger = clip.frames, max(clip.height, clip.width)
    if larger > _LARGEST:
        size = [max(side * _LARGEST // larger, 1) for side in (clip.height, clip.width)]
        scaled = torch.nn.functional.interpolate(frames.float(), size, mode="area")
        frames = scaled.round().to(torch.uint8)
    scale = max(_SMALLEST // larger, 1)
    return encode_gif(frames, min(clip.fps or 1.0, 50.0), scale)


def _card(number: int, clip: Clip, picture: bytes) -> str:
    """One clip of the page."""
    uri = "data:image/gif;base64," + base64.b64encode(picture).decode()
    text = html.escape
    rate = f" at {clip.fps:.3g} fps" if clip.fps else ""
    parts = [f'<img src="{uri}" alt="{text(clip.caption or clip.source)}">']
    parts += [f"<p>{text(caption)}</p>" for caption in clip.captions]
    if clip.questions:
        asked = "".join(
            f"<li>{text(q.question)} <b>{text(q.answer)}</b> <small>{text(q.kind)}</small></li>"
            for q in clip.questions
        )
        parts.append(f"<ul>{asked}</ul>")
    if clip.events:
        told = "".join(f"<li>{_when(event)}: {text(event.text)}</li>" for event in clip.events)
        parts.append(f"<ul>{told}</ul>")
    if clip.labels:
        tags = (f"<span>{text(key)}: {text(value)}</span>" for key, value in clip.labels.items())
        parts.append(f'<p class="tags">{" ".join(tags)}</p>')
    if clip.truth is not None:
        told = text(json.dumps(clip.truth, indent=1, ensure_ascii=False))
        parts.append(f"<details><summary>truth</summary><pre>{told}</pre></details>")
    size = f"{len(clip)} frames of {clip.height}x{clip.width}{rate}"
    parts.append(f"<footer>{number} &middot; {size} &middot; {text(clip.source)}</footer>")
    return f"<article>{''.join(parts)}</article>"


def _when(event: Event) -> str:
    end = "" if event.end is None else f" to {event.end:g}"
    return f"<b>{event.start:g}{end} s</b>"


_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px;
  padding: 0 1rem; }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); }
article { border: 1px solid #8884; border-radius: 8px; padding: .8rem; overflow-wrap: anywhere; }
img { max-width: 100%; image-rendering: pixelated; display: block; margin-bottom: .5rem; }
p, ul { margin: .3rem 0; } ul { padding-left: 1.1rem; } small, footer { opacity: .65; }
footer { font-size: 12px; margin-top: .5rem; }
.tags span { border-radius: 4px; background: #8883; padding: 0 .4em; font-size: 13px; }
pre { font-size: 11px; max-height: 14rem; overflow: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
"""


def _page(source: Source, report: SourceReport, cards: list[str]) -> str:
    """The whole page; every picture is inside it."""
    rates = {report.fps_lowest, report.fps_highest} - {None}
    figures = {
        "clips": f"{report.clips} ({report.counted} counted)",
        "length": f"{report.frames / report.counted:.4g} frames, {report.seconds:.4g} s on average",
        "frames a second": " to ".join(f"{rate:.4g}" for rate in sorted(filter(None, rates))),
        "size": _counts(report.sizes),
        "captions": f"{report.captions_per_clip:g} a clip, {report.distinct_captions} distinct",
        "questions": f"{report.questions_per_clip:g} a clip: {_counts(report.questions)}",
        **{f"label {key}": _counts(counts) for key, counts in report.labels.items()},
        "left out": "; ".join(f"{lost.path} {lost.reason}" for lost in report.skipped) or "none",
    }
    rows = "".join(
        f"<tr><td>{html.escape(key)}</td><td>{html.escape(value)}</td></tr>"
        for key, value in figures.items()
        if value
    )
    title = html.escape(f"{report.source}, {report.split}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{title}</h1><table>{rows}</table><main>{''.join(cards)}</main></html>\n"
    )


def _counts(counts: dict[str, int], most: int = 12) -> str:
    shown = [f"{key} {count}" for key, count in list(counts.items())[:most]]
    return ", ".join(shown) + (f", and {len(counts) - most} more" if len(counts) > most else "")
