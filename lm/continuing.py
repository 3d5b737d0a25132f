"""Continuing: what comes after a video that is there, in the format the model was trained on.

The model reads the video's last blocks as the beginning of one of its own clips and writes the
rest. Knows framing and filming. Knows no ids.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import torch

from data.clip import Clip
from data.reading import MAX_FRAMES
from lm.drawing import Sampling
from lm.filming import MAX_STREAMED, plan_shot, shoot
from lm.rolling import Take, roll

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
    negative: str | None = None,
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
        negative: What guidance is to lead away from; None: from no words at all.

    Raises:
        ValueError: the clip is shorter than a block, the model makes clips of one block only, or a
            bad length, prompt or overlap.
    """
    most = MAX_FRAMES  # all are held
    take = continue_stream(model, clip, seconds, prompt, seed, sampling, overlap, negative, most)
    parts = list(take)
    return replace(
        parts[0], frames=torch.cat([part.frames for part in parts]), timestamps=take.timestamps
    )


def continue_stream(
    model: Model,
    clip: Clip,
    seconds: float,
    prompt: str | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
    overlap: int | None = None,
    negative: str | None = None,
    most: int = MAX_STREAMED,
) -> Take:
    """What `continue_clip` makes, as it is made: the clip, then a clip of each window.

    most: Frames that may be added; of the new ones only those of a window are held.
    """
    shot = plan_shot(model.vocabulary, model.framing, seconds, overlap=overlap, most=most)
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
    begun = model.codec.encode(tail).keep(model.framing.max_block_tokens)
    windows = shoot(
        model.decoder,
        model.grammar,
        [prompt],
        [seed],
        replace(shot, num_blocks=keep + math.ceil(shot.num_frames / size)),
        sampling or Sampling(guidance=2.0),
        begun=[begun],
        negative=negative,
    )
    steps = torch.arange(1, shot.num_frames + 1, dtype=torch.float64) / float(shot.format.fps)
    times = shown.timestamps[-1] + steps
    source = f"{clip.source or 'clip'}, continued"
    new = roll(model.codec, windows, times, (shown.height, shown.width), prompt, source, begun)
    captions = () if prompt is None else (prompt,)
    first = Clip(shown.frames, shown.timestamps, captions, source=source)
    whole = torch.cat([shown.timestamps, times])
    return Take(chain((first,), new), whole, shown.height, shown.width)
