"""Figures of frames: how near a continuation or an infilled video comes to the true one.

Beside what needs no model: the last frame held, motion gone on with in a straight line, known
frames blended, and the codec's own reconstruction, which bounds what a model over its codes can
reach. A model that draws one of many possible futures scores below one that blurs them all. Knows
pixels and tasks. Knows no ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from data.clip import Clip
from lm.drawing import Sampling
from lm.figures import Figure
from tokenizer.metrics import psnr, squared_error

if TYPE_CHECKING:
    from lm.tasks import Model

CANDIDATES = 4  # videos of the same stills, of which the nearest to them is measured, too
KEYFRAMES = 3  # stills of `keyframes_psnr`: the ends and the middle


def frame_figures(
    model: Model,
    clips: Sequence[Clip],
    seed: int,
    films: Sampling,
    tokens_per_frame: float | None = None,
) -> list[Figure]:
    """`continue_psnr` of clips of two blocks or more, `infill_psnr` and `keyframes_psnr`.

    Each beside its baselines, and `..._unguided`, which heeds neither words nor stills more than
    the model does by itself.

    Args:
        model: The model.
        clips: Clips it was not trained on, in its format.
        seed: Of the first clip; the others count on.
        films: How to draw.
        tokens_per_frame: At most so many, read and written; None: as trained.
    """
    size, figures = model.codec.block_frames, []
    ways = {"": films, "_unguided": replace(films, guidance=1.0, context_guidance=1.0)}
    long = [clip for clip in clips if len(clip) >= 2 * size]
    if long and len(model.framing.main.tokens_per_block) > 1:
        errors = _continued(model, long, seed, ways, tokens_per_frame)
        figures += _figures("continue_psnr", errors)
    for name, count in (("infill_psnr", 2), ("keyframes_psnr", KEYFRAMES)):
        shown = [clip for clip in clips if len(clip) > count]
        if "fill" in model.taught and shown:
            errors = _filled(model, shown, count, seed, ways, tokens_per_frame)
            figures += _figures(name, errors)
    return figures


def _continued(
    model: Model,
    clips: Sequence[Clip],
    seed: int,
    ways: dict[str, Sampling],
    tokens_per_frame: float | None,
) -> Errors:
    """Mean squared error, by way, of the second halves of clips whose first halves are shown."""
    size, errors = model.codec.block_frames, Errors()
    own = model.codec.decode_batch(model.encode_batch(clips, tokens_per_frame))
    for length in {len(clip) for clip in clips}:
        alike = [i for i, clip in enumerate(clips) if len(clip) == length]
        keep = length // 2 // size * size
        shown = [clips[i].at(torch.arange(keep)) for i in alike]
        fps = clips[alike[0]].fps
        assert fps is not None
        for name, sampling in ways.items():
            made = model.continue_batch(
                shown,
                (length - keep) / fps,
                [clips[i].caption or None for i in alike],
                [seed + i for i in alike],
                sampling,
                tokens_per_frame=tokens_per_frame,
            )
            for i, clip in zip(alike, made, strict=True):
                errors.add(name, clip.frames[keep:], clips[i].frames[keep:])
        for i, begun in zip(alike, shown, strict=True):
            truth = clips[i].frames[keep:]
            errors.add("_last_frame", held(begun.frames, len(truth)), truth)
            errors.add("_linear_motion", moved_on(begun.frames, len(truth)), truth)
            errors.add("_codec", own[i].frames[keep:], truth)
    return errors


def _filled(
    model: Model,
    clips: Sequence[Clip],
    count: int,
    seed: int,
    ways: dict[str, Sampling],
    tokens_per_frame: float | None,
) -> Errors:
    """Mean squared error, by way, of the frames between `count` known ones, ends among them."""
    errors, places = Errors(), []
    for clip in clips:
        places.append(torch.linspace(0, len(clip) - 1, count).round().long())
    stills = [clip.at(known) for clip, known in zip(clips, places, strict=True)]
    prompts = [clip.caption or None for clip in clips]
    seeds = [seed + i for i in range(len(clips))]
    guesses = {
        name: model.infill_batch(stills, prompts, seeds, sampling, tokens_per_frame)
        for name, sampling in ways.items()
    }
    guesses[f"_best_of_{CANDIDATES}"] = model.infill_batch(
        stills, prompts, seeds, ways[""], tokens_per_frame, CANDIDATES
    )
    guesses["_codec"] = model.codec.decode_batch(model.encode_batch(clips, tokens_per_frame))
    for i, (clip, known) in enumerate(zip(clips, places, strict=True)):
        unknown = torch.ones(len(clip), dtype=torch.bool)
        unknown[known] = False
        frames = {name: made[i].frames for name, made in guesses.items()}
        for name, film in {**frames, "_blend": blended(clip.frames, known)}.items():
            errors.add(name, film[unknown], clip.frames[unknown])
    return errors


class Errors(dict[str, list[float]]):
    """Mean squared errors of clips, by way."""

    def add(self, way: str, frames: Tensor, truth: Tensor) -> None:
        self.setdefault(way, []).append(float(squared_error(frames, truth).mean()))


def held(frames: Tensor, count: int) -> Tensor:
    """The last of uint8 frames (T, 3, H, W), `count` times."""
    return frames[-1:].expand(count, -1, -1, -1)


def moved_on(frames: Tensor, count: int) -> Tensor:
    """`count` frames in which the whole picture's motion goes on in a straight line.

    The motion is the one shift, in whole pixels a frame and at most 4 either way, by which the last
    frame is most like the one before; what comes in at the edge repeats the edge.
    """
    last, before = frames[-1].float(), frames[-2:][0].float()
    reach = range(-4, 5)
    shifts = [(dy, dx) for dy in reach for dx in reach]
    costs = [float((_shifted(before, dy, dx) - last).square().mean()) for dy, dx in shifts]
    dy, dx = shifts[int(np.argmin(costs))]
    return torch.stack([_shifted(last, k * dy, k * dx) for k in range(1, count + 1)]).byte()


def _shifted(picture: Tensor, dy: int, dx: int) -> Tensor:
    height, width = picture.shape[-2:]
    rows = (torch.arange(height) - dy).clamp(0, height - 1)
    columns = (torch.arange(width) - dx).clamp(0, width - 1)
    return picture[:, rows][:, :, columns]


def blended(frames: Tensor, known: Tensor) -> Tensor:
    """Each of the known frames, at least two, faded into the next, as many frames as there are.

    Args:
        frames: uint8 (T, 3, H, W).
        known: Places of those that are known, int64, increasing, 0 and T - 1 among them.
    """
    parts = [frames[:1]]
    for first, last in zip(known[:-1].tolist(), known[1:].tolist(), strict=True):
        shares = torch.linspace(0, 1, last - first + 1)[1:, None, None, None]
        parts.append(((1 - shares) * frames[first] + shares * frames[last]).round().byte())
    return torch.cat(parts)


def _figures(name: str, errors: Errors) -> list[Figure]:
    """PSNR of the pooled error, with an interval over clips for each way."""
    figures, rng = [], np.random.default_rng(0)
    number = len(errors[""])
    drawn = rng.integers(number, size=(1000, number))
    for way, each in errors.items():
        values = np.array(each)
        means = values[drawn].mean(1)
        high, low = (psnr(float(q)) for q in np.quantile(means, (0.025, 0.975)))
        value = psnr(float(values.mean()))
        figures.append(Figure(name + way, value, number, low=low, high=high, unit="dB"))
    return figures
