"""Picking: which of the ways to read a video to take, why, and the command that does.

Knows what was counted and what was measured (docs/long-video.md). Counts nothing itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lm.planning import Task, Way

Asked = Literal["captions", "questions"]

# Of the ways that read a long video in parts: what was measured best, see docs/long-video.md
BEST: dict[Asked, str] = {"captions": "chunks", "questions": "hierarchy"}
AT_ONCE = ("whole", "spread")  # what the commands do without --long


@dataclass(frozen=True)
class Pick:
    """The way to take for captions, or for questions."""

    strategy: str | None  # None: nothing fits
    reason: str
    command: str | None  # a line for the shell, or of Python where no command does it


def pick(
    asked: Asked, task: Task, ways: Sequence[Way], video: Path | None, model: Path | None
) -> Pick:
    """The way to take: the whole, else what was measured best, else what sees most.

    Args:
        asked: What is wanted of the video.
        task: What was planned.
        ways: What each strategy costs.
        video: Its file, for the command.
        model: Folder of the language model, for the command.
    """
    way, reason = choose(asked, task, ways)
    if way is None:
        return Pick(None, reason, None)
    return Pick(way.strategy, reason, command(asked, task, way, video, model))


def choose(asked: Asked, task: Task, ways: Sequence[Way]) -> tuple[Way | None, str]:
    """The way to take, and why in one line."""
    able = {way.strategy: way for way in ways if way.fits}
    if asked == "captions":
        able.pop("hierarchy", None)  # answers questions alone
    trained, why = task.trained_frames, "the whole does not fit"
    if "whole" in able:
        if trained is None or len(task.times) <= trained:
            cost = able["whole"].tokens_each
            return able["whole"], f"all frames at once take {cost:,} of {task.context:,} tokens"
        del able["whole"]
        why = f"the whole fits, but the model has seen no clip of more than {trained} frames"
    best = able.get(BEST[asked])
    if best is not None and asked == "captions":
        parts = f"{best.readings:,} parts of at most {best.tokens_each:,} tokens"
        return best, f"{why}; {parts} do, each told for itself"
    if best is not None:
        most = f"at no more than their {best.tokens:,} tokens"
        return best, f"{why}; as right as chunks where it was measured, {most}"
    if not able:
        return None, f"nothing fits {task.context:,} tokens: give a larger context or a lower rate"
    last = min(able.values(), key=lambda way: (-way.frames, way.tokens))
    return last, f"{why}, nor does a part; of what does this sees most frames, {last.frames:,}"


def command(asked: Asked, task: Task, way: Way, video: Path | None, model: Path | None) -> str:
    """What takes a way: a command, or where it has no option for the rate a line of Python."""
    rate, own = f"{task.tokens_per_frame:g}", True
    if task.trained_frames is not None:
        own = task.tokens_per_frame * task.block_frames == task.most_per_block
    if way.strategy not in AT_ONCE and not own:
        call = "caption(tokens" if asked == "captions" else 'ask(tokens, "QUESTION"'
        return (
            f"tokens = model.codec.encode(model.framing.at_rate(clip), {rate}); "
            f'model.{call}, long="{way.strategy}")'
        )
    words = ["kinolex", "caption" if asked == "captions" else "ask", str(video or "VIDEO")]
    words += ["QUESTION"] if asked == "questions" else []
    words += ["--model", str(model or "MODEL")]
    words += [] if own else ["--tokens-per-frame", rate]
    words += [] if way.strategy in AT_ONCE else ["--long", way.strategy]
    return shlex.join(words)
