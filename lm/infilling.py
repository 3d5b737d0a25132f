"""Infilling: a video from a few of its frames, such as the first and the last.

The frames are read as images, each with its time; the video is written as one window of the
trained length. Knows framing and filming. Knows no ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from data.clip import Clip
from data.reading import read_clip
from lm.choosing import check_candidates, keep_best
from lm.drawing import Sampling
from lm.filming import film, plan_shot
from lm.framing import resize
from tokenizer.metrics import squared_error
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from lm.tasks import Model


def infill(
    model: Model,
    stills: Sequence[Clip],
    prompts: Sequence[str | None],
    seeds: Sequence[int],
    sampling: Sampling,
    tokens_per_frame: float | None = None,
    candidates: int = 1,
    negative: str | None = None,
) -> list[Clip]:
    """A video of the trained length for each clip of a few frames, at their times.

    Args:
        model: Reads and writes.
        stills: Known frames of each video, with their times in it in seconds.
        prompts: What each is to show; None: whatever lies between.
        seeds: One each.
        sampling: How to draw.
        tokens_per_frame: At most so many; None: the rate the model was trained at.
        candidates: Videos of each, of which the one is kept whose frames at the stills' times are
            nearest to them; the first is the one that its seed alone would give.
        negative: What guidance is to lead away from, as from no stills; None: from no words at all.

    Raises:
        ValueError: a model that was not taught to, or times outside the trained length.
    """
    check_candidates(candidates)
    if "fill" not in model.taught:
        raise ValueError(
            "this model was not taught to fill in: encode its clips with `tokenizer shards "
            "--stills 2` and train it with --data.mixture.fill 0.3"
        )
    shot = plan_shot(model.vocabulary, model.framing, None, tokens_per_frame)
    last = float(shot.format.timestamps(0)[-1])
    for clip in stills:
        late = float(clip.timestamps[-1])
        if late > last + 1e-3:
            raise ValueError(
                f"a frame at {late:g} s: this model makes videos whose last frame is at {last:g} s"
            )
    shown = [_encoded(model, clip) for clip in stills]

    def draw(rows: list[int], seeds: list[int]) -> list[Clip]:
        told, known = [prompts[row] for row in rows], [shown[row] for row in rows]
        made = film(
            model.decoder,
            model.grammar,
            told,
            seeds,
            shot,
            sampling,
            stills=known,
            negative=negative,
        )
        return [
            replace(clip, captions=() if prompt is None else (prompt,), source="filled in")
            for clip, prompt in zip(model.codec.decode_batch(made), told, strict=True)
        ]

    def score(rows: list[int], clips: list[Clip]) -> Tensor:
        pairs = zip(clips, [stills[row] for row in rows], strict=True)
        return torch.tensor([-_apart(clip, known) for clip, known in pairs])

    return keep_best(len(stills), seeds, candidates, draw, score)


def _apart(clip: Clip, stills: Clip) -> float:
    """Mean squared error of a clip at the times of stills, at its frames nearest to them."""
    nearest = (clip.timestamps[:, None] - stills.timestamps).abs().argmin(0)
    if (stills.height, stills.width) != (clip.height, clip.width):
        stills = resize(stills, clip.height, clip.width)
    return float(squared_error(clip.frames[nearest], stills.frames).mean())


def _encoded(model: Model, clip: Clip) -> list[VideoTokens]:
    """Each frame as an image of the model's size."""
    main = model.framing.main
    if (clip.height, clip.width) != (main.height, main.width):
        clip = resize(clip, main.height, main.width)
    frames, most = clip.frames[:, None], model.framing.max_block_tokens
    times = clip.timestamps[:, None]
    return [tokens.keep(most) for tokens in model.codec.encode_batch(frames, times)]


def read_stills(model: Model, paths: Sequence[Path], times: Sequence[float] | None = None) -> Clip:
    """Images as a clip of a few frames, at the model's size.

    Args:
        model: What will fill in between.
        paths: Images, in order of time.
        times: Second of each; None: spread over the model's whole length.

    Raises:
        ValueError: a video among the images, or not as many times as images, increasing, from 0 on.
    """
    main = model.framing.main
    read = [read_clip(path) for path in paths]
    for path, clip in zip(paths, read, strict=True):
        if len(clip) > 1:
            raise ValueError(f"{path} has {len(clip)} frames: give images, one for each still")
    frames = [resize(clip, main.height, main.width) for clip in read]
    seconds = spread_times(model, len(paths)) if times is None else torch.tensor(times).double()
    if len(seconds) != len(paths):
        raise ValueError(f"{len(seconds)} times for {len(paths)} stills: give one each")
    if seconds[0] < 0 or not bool((seconds.diff() > 0).all()):
        told = ", ".join(f"{second:g}" for second in seconds.tolist())
        raise ValueError(f"times {told}: give seconds of 0 or more that increase")
    return Clip(torch.cat([clip.frames for clip in frames]), seconds, source="stills")


def spread_times(model: Model, count: int) -> torch.Tensor:
    """Seconds of `count` stills spread over a video, on its frames, the ends among them."""
    times = model.framing.main.timestamps(0)
    if not 1 <= count <= len(times):
        raise ValueError(f"{count} stills: this model makes videos of {len(times)} frames")
    return times[torch.linspace(0, len(times) - 1, count).round().long()]
