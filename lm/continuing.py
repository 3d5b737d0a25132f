"""Continuing: what comes after a video that is there, in the format the model was trained on.

The model reads the video's last blocks as the beginning of one of its own clips and writes the
rest. Knows framing and filming. Knows no ids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from data.clip import Clip
from data.reading import MAX_FRAMES
from lm.drawing import Sampling
from lm.filming import MAX_STREAMED, Shot, film, plan_shot, shoot
from lm.rolling import Take, roll
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from lm.tasks import Model


def continue_clip(
    model: Model,
    clip: Clip,
    seconds: float,
    prompt: str | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
    overlap: int | None = None,
    tokens_per_frame: float | None = None,
) -> Clip:
    """The clip at the model's frame rate and size, followed by new frames.

    Args:
        model: Reads and writes.
        clip: What is there, at least one block long.
        seconds: Length of what is added.
        prompt: What all of it is to show; None: whatever follows.
        seed: The same seed gives the same frames.
        sampling: How to draw.
        overlap: Blocks that each window begins with, of the clip or of the window before (fewer
            where the clip is shorter); None: half of those the model was trained on.
        tokens_per_frame: At most so many, read and written; None: the rate the model was trained
            at.

    Raises:
        ValueError: the clip is shorter than a block, the model makes clips of one block only, or a
            bad length, prompt, overlap or rate.
    """
    most = MAX_FRAMES  # all are held
    take = continue_stream(
        model, clip, seconds, prompt, seed, sampling, overlap, tokens_per_frame, most
    )
    parts = list(take)
    return replace(
        parts[0], frames=torch.cat([part.frames for part in parts]), timestamps=take.timestamps
    )


def continue_clips(
    model: Model,
    clips: Sequence[Clip],
    seconds: float,
    prompts: Sequence[str | None],
    seeds: Sequence[int],
    sampling: Sampling | None = None,
    overlap: int | None = None,
    tokens_per_frame: float | None = None,
) -> list[Clip]:
    """`continue_clip` of many by as much, each with its prompt and seed, side by side."""
    given = zip(clips, prompts, seeds, strict=True)
    rows = [
        (_begin(model, clip, seconds, overlap, tokens_per_frame, MAX_FRAMES), prompt, seed)
        for clip, prompt, seed in given
    ]
    done: dict[int, Clip] = {}
    for keep in {start.keep for start, _, _ in rows}:
        alike = [i for i, (start, _, _) in enumerate(rows) if start.keep == keep]
        made = film(
            model.decoder,
            model.grammar,
            [rows[i][1] for i in alike],
            [rows[i][2] for i in alike],
            rows[alike[0]][0].shot,
            sampling or Sampling(guidance=2.0),
            begun=[rows[i][0].tokens for i in alike],
        )
        for i, clip in zip(alike, model.codec.decode_batch(made), strict=True):
            start, prompt, _ = rows[i]
            first = keep * model.codec.block_frames
            new = clip.frames[first : first + start.shot.num_frames]
            done[i] = replace(
                start.first(prompt),
                frames=torch.cat([start.shown.frames, new]),
                timestamps=torch.cat([start.shown.timestamps, start.times]),
            )
    return [done[i] for i in range(len(rows))]


def continue_stream(
    model: Model,
    clip: Clip,
    seconds: float,
    prompt: str | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
    overlap: int | None = None,
    tokens_per_frame: float | None = None,
    most: int = MAX_STREAMED,
) -> Take:
    """What `continue_clip` makes, as it is made: the clip, then a clip of each window.

    most: Frames that may be added; of the new ones only those of a window are held.
    """
    start = _begin(model, clip, seconds, overlap, tokens_per_frame, most)
    windows = shoot(
        model.decoder,
        model.grammar,
        [prompt],
        [seed],
        start.shot,
        sampling or Sampling(guidance=2.0),
        begun=[start.tokens],
    )
    shown, first = start.shown, start.first(prompt)
    size, times = (shown.height, shown.width), start.times
    new = roll(model.codec, windows, times, size, prompt, first.source, start.tokens)
    whole = torch.cat([shown.timestamps, times])
    return Take(chain((first,), new), whole, shown.height, shown.width)


@dataclass(frozen=True)
class _Start:
    """What a video goes on from.

    shown: the clip at the model's frame rate and size. tokens: its last blocks. shot: those blocks
    and the new ones, of which `num_frames` are shown. times: float64, seconds of these.
    """

    shown: Clip
    tokens: VideoTokens
    shot: Shot
    times: Tensor

    @property
    def keep(self) -> int:
        """Blocks of the clip that the first window begins with."""
        return len(self.tokens.codes)

    def first(self, prompt: str | None) -> Clip:
        """What is there, as the beginning of what is made."""
        source = f"{self.shown.source or 'clip'}, continued"
        captions = () if prompt is None else (prompt,)
        return Clip(self.shown.frames, self.shown.timestamps, captions, source=source)


def _begin(
    model: Model,
    clip: Clip,
    seconds: float,
    overlap: int | None,
    tokens_per_frame: float | None,
    most: int,
) -> _Start:
    shot = plan_shot(model.vocabulary, model.framing, seconds, tokens_per_frame, overlap, most)
    size, trained = model.codec.block_frames, len(shot.format.tokens_per_block)
    if trained < 2 or shot.format.fps is None:
        raise ValueError(
            "this model makes clips of one block and cannot go on from another: train on clips of "
            "two blocks or more"
        )
    shown = model.framing.at_rate(clip)
    keep = min(shot.overlap, len(shown) // size)
    if keep < 1:
        raise ValueError(
            f"{len(shown)} frames at {float(shot.format.fps):g} fps: give a clip of at least one "
            f"block, {size} frames"
        )
    tail = shown.at(torch.arange(len(shown) - keep * size, len(shown)))
    tokens = model.codec.encode(tail).keep(shot.format.tokens_per_block[0])
    steps = torch.arange(1, shot.num_frames + 1, dtype=torch.float64) / float(shot.format.fps)
    blocks = keep + math.ceil(shot.num_frames / size)
    times = shown.timestamps[-1] + steps
    return _Start(shown, tokens, replace(shot, num_blocks=blocks), times)
