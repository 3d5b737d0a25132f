"""Continuing: what comes after a video that is there, in the format the model was trained on.

The model reads the video's last blocks as the beginning of one of its own clips and writes the
rest. Knows framing and filming. Knows no ids.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from data.clip import Clip
from lm.filming import film, plan_shot
from lm.sampling import Sampling

if TYPE_CHECKING:
    from lm.tasks import Model


def continue_clip(
    model: Model,
    clip: Clip,
    seconds: float,
    prompt: str | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
) -> Clip:
    """The clip at the model's frame rate and size, followed by new frames.

    Args:
        model: Reads and writes.
        clip: What is there, at least one block long.
        seconds: Length of what is added.
        prompt: What all of it is to show; None: whatever follows.
        seed: The same seed gives the same frames.
        sampling: How to draw.

    Raises:
        ValueError: the clip is shorter than a block, the model makes clips of one block only, or a
            bad length or prompt.
    """
    shot, size = plan_shot(model.vocabulary, model.framing, seconds), model.codec.block_frames
    trained = len(shot.format.tokens_per_block)
    if trained < 2 or shot.format.fps is None:
        raise ValueError(
            "this model makes clips of one block and cannot go on from another: train on clips of "
            "two blocks or more"
        )
    shown = model.framing.at_rate(clip)
    keep = min(trained // 2, len(shown) // size)
    if keep < 1:
        raise ValueError(
            f"{len(shown)} frames at {float(shot.format.fps):g} fps: give a clip of at least one "
            f"block, {size} frames"
        )
    tail = shown.at(torch.arange(len(shown) - keep * size, len(shown)))
    begun = model.codec.encode(tail).keep(model.framing.max_block_tokens)
    whole = replace(shot, num_blocks=keep + math.ceil(shot.num_frames / size))
    made = film(
        model.decoder,
        model.grammar,
        [prompt],
        [seed],
        whole,
        sampling or Sampling(guidance=2.0),
        begun=[begun],
    )
    new = model.codec.decode(made[0]).frames[keep * size :][: shot.num_frames]
    steps = torch.arange(1, len(new) + 1, dtype=torch.float64) / float(shot.format.fps)
    return Clip(
        frames=torch.cat([shown.frames, new]),
        timestamps=torch.cat([shown.timestamps, shown.timestamps[-1] + steps]),
        captions=() if prompt is None else (prompt,),
        source=f"{clip.source or 'clip'}, continued",
    )
