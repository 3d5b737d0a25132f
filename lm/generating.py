"""Generating: videos from words, many at once, the best of several, or one as it is made.

Knows filming, the codec and how candidates are chosen. Knows no ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from data.clip import Clip
from data.reading import MAX_FRAMES
from lm.choosing import best_of
from lm.completing import Progress
from lm.drawing import Sampling
from lm.filming import MAX_STREAMED, Shot, film, plan_shot, shoot
from lm.rolling import Take, roll

if TYPE_CHECKING:
    from lm.tasks import Model


@dataclass(frozen=True)
class Asked:
    """How videos are to be made, see `Model.generate`; None: as the model was trained."""

    tokens_per_frame: float | None = None
    negative: str | None = None
    overlap: int | None = None

    def shot(self, model: Model, seconds: float | None, most: int = MAX_FRAMES) -> Shot:
        return plan_shot(
            model.vocabulary, model.framing, seconds, self.tokens_per_frame, self.overlap, most
        )


def make_clips(
    model: Model,
    prompts: Sequence[str | None],
    seconds: float | None,
    seeds: Sequence[int] | None,
    sampling: Sampling | None,
    asked: Asked,
    candidates: int = 1,
    progress: Progress | None = None,
) -> list[Clip]:
    """`Model.generate_batch`."""
    seeds = list(range(len(prompts))) if seeds is None else seeds
    if len(seeds) != len(prompts):
        raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts: give one for each")
    if candidates != 1:
        draw = partial(make_clips, model, seconds=seconds, sampling=sampling, asked=asked)
        return best_of(model, draw, candidates, prompts, seeds, progress)
    shot = asked.shot(model, seconds)
    made = film(
        model.decoder,
        model.grammar,
        prompts,
        seeds,
        shot,
        sampling or Sampling(guidance=2.0),
        progress,
        negative=asked.negative,
    )
    frames = torch.arange(shot.num_frames)
    return [
        replace(
            clip.at(frames[: len(clip)]),
            captions=() if prompt is None else (prompt,),
            source="generated",
        )
        for clip, prompt in zip(model.codec.decode_batch(made), prompts, strict=True)
    ]


def make_stream(
    model: Model,
    prompt: str | None,
    seconds: float | None,
    seed: int,
    sampling: Sampling | None,
    asked: Asked,
) -> Take:
    """`Model.generate_stream`."""
    shot = asked.shot(model, seconds, MAX_STREAMED)
    windows = shoot(
        model.decoder,
        model.grammar,
        [prompt],
        [seed],
        shot,
        sampling or Sampling(guidance=2.0),
        negative=asked.negative,
    )
    size = shot.format.height, shot.format.width
    return roll(model.codec, windows, shot.timestamps, size, prompt, "generated")
