"""Continuing: what comes after a video that is there, in the format the model was trained on.

The model reads the video's last blocks as the beginning of one of its own clips and writes the
rest. Knows framing and filming. Knows no ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from data.clip import Clip
from data.reading import MAX_FRAMES
from lm.completing import chunks
from lm.drawing import Sampling
from lm.filming import MAX_STREAMED, ROWS, Shot, plan_shot, shoot
from lm.rolling import Take, roll
from lm.watching import as_clip
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from lm.tasks import Model


def continue_clips(
    model: Model,
    videos: Sequence[Clip | str | Path],
    seconds: float,
    prompts: Sequence[str | None],
    seeds: Sequence[int],
    sampling: Sampling | None = None,
    overlap: int | None = None,
    tokens_per_frame: float | None = None,
    negative: str | None = None,
) -> list[Clip]:
    """Each clip at the model's frame rate and size, followed by new frames.

    Args:
        model: Reads and writes.
        videos: What is there, at least one block long each.
        seconds: Length of what is added.
        prompts: What all of each is to show; None: whatever follows.
        seeds: One each; a seed gives the same frames, whatever is made beside them.
        sampling: How to draw.
        overlap: Blocks that each window begins with, of the clip or of the window before (fewer
            where the clip is shorter); None: half of those the model was trained on.
        tokens_per_frame: At most so many, read and written; None: the rate the model was trained
            at.
        negative: What guidance is to lead away from; None: from no words at all.

    Raises:
        ValueError: a clip is shorter than a block, the model makes clips of one block only, or a
            bad length, prompt, overlap or rate, or not as many prompts and seeds as videos.
    """
    if not len(videos) == len(prompts) == len(seeds):
        raise ValueError(
            f"{len(prompts)} prompts and {len(seeds)} seeds for {len(videos)} videos: give one each"
        )
    shot = _plan(model, seconds, overlap, tokens_per_frame, MAX_FRAMES)  # all are held
    begun = [_Begun.of(model, as_clip(video), shot) for video in videos]
    made: dict[int, Clip] = {}
    for keep in sorted({each.keep for each in begun}):  # windows side by side begin alike
        alike = [row for row, each in enumerate(begun) if each.keep == keep]
        for rows in chunks(alike, ROWS):
            asked = [prompts[row] for row in rows], [seeds[row] for row in rows]
            starts = [begun[row] for row in rows]
            windows = list(_windows(model, starts, shot, *asked, sampling, negative))
            for place, row in enumerate(rows):
                own = ([window[place]] for window in windows)
                take = begun[row].take(model, own, shot, prompts[row])
                parts = list(take)
                frames = torch.cat([part.frames for part in parts])
                made[row] = replace(parts[0], frames=frames, timestamps=take.timestamps)
    return [made[row] for row in range(len(videos))]


def continue_stream(
    model: Model,
    clip: Clip,
    seconds: float,
    prompt: str | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
    overlap: int | None = None,
    tokens_per_frame: float | None = None,
    negative: str | None = None,
) -> Take:
    """What `continue_clips` makes of one, as it is made: the clip, then a clip of each window.

    Up to `MAX_STREAMED` frames may be added; of the new ones only those of a window are held.
    """
    shot = _plan(model, seconds, overlap, tokens_per_frame, MAX_STREAMED)
    begun = _Begun.of(model, clip, shot)
    windows = _windows(model, [begun], shot, [prompt], [seed], sampling, negative)
    return begun.take(model, windows, shot, prompt)


def _plan(
    model: Model,
    seconds: float,
    overlap: int | None,
    tokens_per_frame: float | None,
    most: int,
) -> Shot:
    shot = plan_shot(model.vocabulary, model.framing, seconds, tokens_per_frame, overlap, most)
    if len(shot.format.tokens_per_block) < 2 or shot.format.fps is None:
        raise ValueError(
            "this model makes clips of one block and cannot go on from another: train on clips of "
            "two blocks or more"
        )
    return shot


@dataclass(frozen=True)
class _Begun:
    """A clip that is there, at the model's rate and size, and the blocks that are read of it."""

    shown: Clip
    tokens: VideoTokens

    @classmethod
    def of(cls, model: Model, clip: Clip, shot: Shot) -> _Begun:
        shown, size = model.framing.at_rate(clip), model.codec.block_frames
        keep = min(shot.overlap, len(shown) // size)
        if keep < 1:
            assert shot.format.fps is not None
            raise ValueError(
                f"{len(shown)} frames at {float(shot.format.fps):g} fps: give a clip of at least "
                f"one block, {size} frames"
            )
        tail = shown.at(torch.arange(len(shown) - keep * size, len(shown)))
        return cls(shown, model.codec.encode(tail).keep(shot.format.tokens_per_block[0]))

    @property
    def keep(self) -> int:
        return len(self.tokens.codes)

    def take(
        self,
        model: Model,
        windows: Iterable[Sequence[VideoTokens]],
        shot: Shot,
        prompt: str | None,
    ) -> Take:
        """The clip, then what the windows hold."""
        shown = self.shown
        assert shot.format.fps is not None
        steps = torch.arange(1, shot.num_frames + 1, dtype=torch.float64) / float(shot.format.fps)
        times = shown.timestamps[-1] + steps
        size, source = (shown.height, shown.width), f"{shown.source or 'clip'}, continued"
        new = roll(model.codec, windows, times, size, prompt, source, self.tokens)
        captions = () if prompt is None else (prompt,)
        first = Clip(shown.frames, shown.timestamps, captions, source=source)
        return Take(chain((first,), new), torch.cat([shown.timestamps, times]), *size)


def _windows(
    model: Model,
    begun: Sequence[_Begun],
    shot: Shot,
    prompts: Sequence[str | None],
    seeds: Sequence[int],
    sampling: Sampling | None,
    negative: str | None,
) -> Iterable[list[VideoTokens]]:
    """New blocks after clips of which as many blocks are read each."""
    blocks = begun[0].keep + math.ceil(shot.num_frames / model.codec.block_frames)
    return shoot(
        model.decoder,
        model.grammar,
        prompts,
        seeds,
        replace(shot, num_blocks=blocks),
        sampling or Sampling(guidance=2.0),
        begun=[each.tokens for each in begun],
        negative=negative,
    )
