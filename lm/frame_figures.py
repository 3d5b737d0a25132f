"""Figures of frames: how near a continuation or an infilled video comes to the true one.

Beside what needs no model: the last frame held, motion gone on with in a straight line, the ends
blended, and the codec's own reconstruction, which bounds what a model over its codes can reach. A
model that draws one of many possible futures scores below one that blurs them all. Knows pixels
and tasks. Knows no ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

Way = Callable[[Tensor, Tensor], Tensor]  # known frames, true ones to come -> a guess


def frame_figures(
    model: Model,
    clips: Sequence[Clip],
    seed: int,
    films: Sampling,
    progress: Callable[[int], None] | None = None,
) -> list[Figure]:
    """`continue_psnr` of clips of two blocks or more, and `infill_psnr`, with their baselines.

    Args:
        model: The model.
        clips: Clips it was not trained on, in its format.
        seed: Of the first clip; the others count on.
        films: How to draw.
        progress: Told of clips as they are done.
    """
    size, figures = model.codec.block_frames, []
    long = [clip for clip in clips if len(clip) >= 2 * size]
    if long and len(model.framing.main.tokens_per_block) > 1:
        errors = [_continued(model, clip, seed + i, films, progress) for i, clip in enumerate(long)]
        figures += _figures("continue_psnr", errors)
    if "fill" in model.taught:
        errors = [_filled(model, clip, seed + i, films, progress) for i, clip in enumerate(clips)]
        figures += _figures("infill_psnr", errors)
    return figures


def _continued(
    model: Model,
    clip: Clip,
    seed: int,
    films: Sampling,
    progress: Callable[[int], None] | None,
) -> dict[str, float]:
    """Mean squared error, by way, of the second half of a clip whose first half is shown."""
    keep = len(clip) // 2 // model.codec.block_frames * model.codec.block_frames
    shown, truth = clip.at(torch.arange(keep)), clip.frames[keep:]
    assert clip.fps is not None
    prompt = clip.caption or None
    made = model.continue_video(shown, len(truth) / clip.fps, prompt, seed, films)
    own = model.codec.decode(model.codec.encode(clip)).frames[keep:]
    guesses = {
        "": made.frames[keep:],
        "_last_frame": held(shown.frames, len(truth)),
        "_linear_motion": moved_on(shown.frames, len(truth)),
        "_codec": own,
    }
    if progress is not None:
        progress(1)
    return {name: _error(frames, truth) for name, frames in guesses.items()}


def _filled(
    model: Model,
    clip: Clip,
    seed: int,
    films: Sampling,
    progress: Callable[[int], None] | None,
) -> dict[str, float]:
    """Mean squared error, by way, of the frames between the first and the last."""
    stills = clip.at(torch.tensor([0, len(clip) - 1]))
    made = model.infill(stills, clip.caption or None, seed, films)
    own = model.codec.decode(model.codec.encode(clip)).frames
    guesses = {"": made.frames, "_blend": blended(clip.frames), "_codec": own}
    if progress is not None:
        progress(1)
    return {name: _error(f[1:-1], clip.frames[1:-1]) for name, f in guesses.items()}


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


def blended(frames: Tensor) -> Tensor:
    """The first frame faded into the last, as many frames as there are."""
    shares = torch.linspace(0, 1, len(frames))[:, None, None, None]
    return ((1 - shares) * frames[0].float() + shares * frames[-1].float()).round().byte()


def _error(frames: Tensor, truth: Tensor) -> float:
    return float(squared_error(frames, truth).mean())


def _figures(name: str, errors: Sequence[dict[str, float]]) -> list[Figure]:
    """PSNR of the pooled error, with an interval over clips for each way."""
    figures, rng = [], np.random.default_rng(0)
    drawn = rng.integers(len(errors), size=(1000, len(errors)))
    for way in errors[0]:
        values = np.array([each[way] for each in errors])
        means = values[drawn].mean(1)
        high, low = (psnr(float(q)) for q in np.quantile(means, (0.025, 0.975)))
        value, n = psnr(float(values.mean())), len(errors)
        figures.append(Figure(name + way, value, n, low=low, high=high, unit="dB"))
    return figures
