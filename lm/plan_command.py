"""`kinolex plan`: what a video costs in tokens to read, each way, and which way to take.

Knows codecs, models and the table. The counting is planning's, durations and sizes are footage's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lm.footage import Footage, read_footage
from lm.picking import Pick, pick
from lm.planning import STRATEGIES, Task, Way, fitting_rate
from tokenizer.codec import Codec
from tokenizer.ordering import BlockLayout
from tokenizer.rate import Rate, Served

TEXT = 320  # tokens at most: a question of 64 and the longest answer that is given, 256
CONTEXT, RATE = 4096, 4.0  # where no model says
# The codec that configs/tokenizer/base.yaml trains
LAYOUT, BLOCK_FRAMES, CODES = BlockLayout("interlaced", 4, 8, summary=16), 8, 1000


@dataclass(frozen=True)
class Plan:
    """What each way of reading a video costs, and which to take."""

    video: Footage  # as it is
    read_as: Footage  # as the model is shown it
    context: int  # tokens
    block_frames: int  # frames of one of the codec's blocks
    tokens_per_frame: float  # planned with
    full_tokens_per_frame: float  # of the codec at the video's own size
    full_tokens: int  # codes of the whole video at that rate
    fitting_tokens_per_frame: float | None  # most at which all fits in one reading, even blocks
    ways: list[Way]
    captions: Pick
    questions: Pick
    remarks: list[str]

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        width = max(len(way.strategy) for way in self.ways) + 2
        ways = "\n".join(f"{way.strategy:<{width}}{way.how}" for way in self.ways)
        return Group(
            Text(self._head()), "", _table(self.ways), "", Text(ways), "", Text(self._foot())
        )

    def _head(self) -> str:
        video, seen = self.video, self.read_as
        lines = [f"video    {video}"]
        if seen != video:
            lines.append(f"read as  {seen}")
        lines.append(
            f"rate     {self.tokens_per_frame:g} tokens a frame, blocks of {self.block_frames} "
            "frames"
        )
        lines.append(
            f"         the codec's full rate at {video.width}x{video.height} is "
            f"{self.full_tokens_per_frame:,.8g} a frame, {self.full_tokens:,} in all"
        )
        return "\n".join([*lines, f"context  {self.context:,} tokens"])

    def _foot(self) -> str:
        cost = self.ways[0].largest
        lines = [
            f"whole    {cost.codes:,} codes + {cost.blocks:,} block marks + {cost.header:,} header "
            f"+ {cost.marks} other marks + {cost.text:,} kept for text = {cost.total:,}"
        ]
        if self.fitting_tokens_per_frame is None:
            lines.append("         at no rate does all of it fit in one reading")
        else:
            rate = self.fitting_tokens_per_frame
            lines.append(
                f"         fits in one reading at {rate:g} tokens a frame, "
                f"{round(rate * self.block_frames)} in every block"
            )
        lines += [f"note     {remark}" for remark in self.remarks]
        return "\n".join([*lines, *self._picks()])

    def _picks(self) -> list[str]:
        captions, questions = self.captions, self.questions
        same = (captions.strategy, captions.reason) == (questions.strategy, questions.reason)
        told = [("", [captions, questions])]
        if not same:
            told = [("captions by ", [captions]), ("questions by ", [questions])]
        lines = []
        for what, picks in told:
            lines.append(f"pick     {what}{picks[0].strategy or 'none'}: {picks[0].reason}")
            lines += [f"         {each.command}" for each in picks if each.command is not None]
        return lines


def plan(
    duration: str | None = None,
    fps: float | None = None,
    size: str | None = None,
    video: Path | None = None,
    context: int | None = None,
    tokens_per_frame: float | None = None,
    model: Path | None = None,
    text: int | None = None,
) -> Plan:
    """Count what each way of reading a video takes in tokens, and pick one that fits.

    Picked is the whole; where that does not fit chunks for captions and the hierarchy for
    questions, docs/long-video.md says why.

    Counts are exact: the stream's own grammar spells every header and mark. All ways but `whole`
    and `spread` are taken by `--long NAME` of `ask` and `caption`; where what is read depends on
    the pictures, the figures are of what is told there.

    Example: kinolex plan --duration 60 --fps 24 --size 1080p --context 4096

    Args:
        duration: Length of the video: seconds, or 1:30 or 1:30:00.
        fps: Frames a second; 24 if left out.
        size: 1080p, 720p or another height of 16:9 pictures, or WIDTHxHEIGHT; 1080p if left out.
        video: A file to take duration, frame times and size from.
        context: Tokens that a reading may have; the model's, or 4096 without one.
        tokens_per_frame: Rate to plan with; the model's, or 4 without one.
        model: Folder of a model, or of a codec alone; without one the codec of the base config.
        text: Tokens to keep for the words of a question and its answer; 320 if left out, of a
            small context a quarter.
    """
    if text is not None and text < 0:
        raise ValueError(f"text={text}: give 0 tokens or more")
    times, height, width = read_footage(duration, fps, size, video)
    task, full, remarks = _task(times, (height, width), context, tokens_per_frame, model, text)
    ways = [strategy(task) for strategy in STRATEGIES]
    speaks = None if model is None or _is_codec(model) else model
    return Plan(
        video=Footage.of(times, height, width),
        read_as=Footage.of(task.times, task.height, task.width),
        context=task.context,
        block_frames=task.block_frames,
        tokens_per_frame=task.tokens_per_frame,
        full_tokens_per_frame=full,
        full_tokens=round(full * task.block_frames) * -(-len(times) // task.block_frames),
        fitting_tokens_per_frame=fitting_rate(task),
        ways=ways,
        captions=pick("captions", task, ways, video, speaks),
        questions=pick("questions", task, ways, video, speaks),
        remarks=remarks,
    )


def _task(
    times: list[float],
    size: tuple[int, int],
    context: int | None,
    tokens_per_frame: float | None,
    folder: Path | None,
    text: int | None,
) -> tuple[Task, float, list[str]]:
    """What is to be planned, the codec's full rate at the video's size, and what was assumed."""
    if context is not None and context < 1:
        raise ValueError(f"context={context}: give 1 token or more")
    if folder is not None and not _is_codec(folder):
        return _task_of_model(times, size, context, tokens_per_frame, folder, text)
    if folder is None:
        served = Served(BLOCK_FRAMES, LAYOUT.slots(*size), *size, CODES)
        remarks = [
            f"no model given: assumed a codec as of the base config ({BLOCK_FRAMES} frames a block,"
            f" {LAYOUT.space_stride} pixels a latent) and headers in digits"
        ]
    else:
        served, remarks = Codec.load(folder).served(*size), ["a codec alone: headers in digits"]
    full = served.slots / served.block_frames
    context = CONTEXT if context is None else context
    rate = min(RATE, full) if tokens_per_frame is None else tokens_per_frame
    served.check(Rate(rate))
    task = Task(
        times=times,
        height=size[0],
        width=size[1],
        tokens_per_frame=rate,
        block_frames=served.block_frames,
        most_per_block=served.slots,
        context=context,
        text=_room(text, context),
    )
    return task, full, remarks


def _task_of_model(
    times: list[float],
    size: tuple[int, int],
    context: int | None,
    tokens_per_frame: float | None,
    folder: Path,
    text: int | None,
) -> tuple[Task, float, list[str]]:
    from lm.tasks import Model

    model = Model.load(folder)
    framing, block = model.framing, model.codec.block_frames
    most, limit = framing.max_block_tokens, model.decoder.config.context
    if context is not None and context > limit:
        raise ValueError(f"context={context}: this model's is {limit}, give at most that")
    context = limit if context is None else context
    rate = most / block if tokens_per_frame is None else tokens_per_frame
    if not 1 / block <= rate <= most / block:
        raise ValueError(
            f"tokens_per_frame={rate:g}: this model reads {1 / block:g} to {most / block:g}"
        )
    kept = len(framing.frames_at_rate(torch.tensor(times, dtype=torch.float64)))
    assert framing.main.fps is not None
    fps = float(framing.main.fps)
    task = Task(
        times=[i / fps for i in range(kept)],
        height=framing.main.height,
        width=framing.main.width,
        tokens_per_frame=rate,
        block_frames=block,
        most_per_block=most,
        context=context,
        text=_room(text, context),
        presets=frozenset(model.vocabulary.presets),
        trained_frames=framing.max_frames,
        trained_fps=fps,
    )
    return task, model.codec.max_tokens_per_frame(*size), []


def _is_codec(folder: Path) -> bool:
    return (folder / "codec.json").is_file()


def _room(text: int | None, context: int) -> int:
    return min(TEXT, context // 4) if text is None else text


def _table(ways: Sequence[Way]) -> Any:
    from tokenizer.reporting import empty_table

    columns = ("frames", "readings", "longest\nreading", "all\ntokens", "fits")
    table = empty_table("strategy", columns)
    for way in ways:
        counts = (way.frames, way.readings, way.tokens_each, way.tokens)
        table.add_row(way.strategy, *(f"{c:,}" for c in counts), "yes" if way.fits else "no")
    return table
