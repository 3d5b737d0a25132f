"""Samplers: which frames of a clip to keep. They see timestamps only, never pixels or files.

Each `select(timestamps)` returns increasing indices without repeats, so that the kept frames
carry their own true times; a clip with fewer frames than asked for keeps all it has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from data.clip import Clip

SAMPLER_FORMS = "uniform:16, every:3, fps:8, window:16, window:16@1.5 or window:16@1.5/2"


@runtime_checkable
class Sampler(Protocol):
    """Chooses frames by their times."""

    def select(self, timestamps: Tensor) -> Tensor:
        """Indices int64 (N,), increasing, of the frames to keep of `timestamps` float64 (T,) s."""
        ...


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}={value}: must be a positive number")


def _check_count(name: str, value: int) -> None:
    if value != int(value) or value < 1:
        raise ValueError(f"{name}={value}: must be a whole number of at least 1")


@dataclass(frozen=True)
class Uniform:
    """`num_frames` frames spread evenly over the clip, first and last included; one: the middle."""

    num_frames: int

    def __post_init__(self) -> None:
        _check_count("num_frames", self.num_frames)

    def select(self, timestamps: Tensor) -> Tensor:
        total, wanted = len(timestamps), self.num_frames
        if total <= wanted:
            return torch.arange(total)
        if wanted == 1:
            return torch.tensor([(total - 1) // 2])
        steps = torch.arange(wanted)  # in integers: rounding a float grid could repeat a frame
        return (steps * (total - 1) * 2 + wanted - 1) // (2 * (wanted - 1))


@dataclass(frozen=True)
class EveryNth:
    """Frames 0, n, 2n, ..."""

    n: int

    def __post_init__(self) -> None:
        _check_count("n", self.n)

    def select(self, timestamps: Tensor) -> Tensor:
        return torch.arange(0, len(timestamps), self.n)


@dataclass(frozen=True)
class TargetFps:
    """The frames nearest in time to a grid of `fps` a second that starts at the first frame.

    A target above the native rate keeps every frame: frames are never invented. It goes by true
    times, so a variable frame rate comes out as even as its frames allow.
    """

    fps: float

    def __post_init__(self) -> None:
        _check_positive("fps", self.fps)

    def select(self, timestamps: Tensor) -> Tensor:
        times = timestamps.to(torch.float64)
        if len(times) < 2:
            return torch.arange(len(times))
        gaps = times.diff()
        if float(gaps.min()) * self.fps >= 1 - 1e-6:
            return torch.arange(len(times))
        # Each frame owns the times nearer to it than to its neighbours; the last one lasts
        # half a gap beyond its own time, as the others do.
        tie = 1e-9  # a grid time half-way between two frames goes to the earlier one
        edges = times[:-1] + gaps / 2 + tie
        end = float(times[-1] - times[0] + gaps[-1] / 2)
        count = int(end * self.fps + 1e-6) + 1
        grid = times[0] + torch.arange(count, dtype=torch.float64) / self.fps
        return torch.unique(torch.searchsorted(edges, grid))


@dataclass(frozen=True)
class Window:
    """`num_frames` neighbouring frames from `start` seconds on, taking every `stride`-th.

    The first frame is the first at or after `start` (in the clip's own time). Where the clip
    ends earlier the window is shorter.
    """

    num_frames: int
    start: float = 0.0  # seconds
    stride: int = 1  # frames

    def __post_init__(self) -> None:
        _check_count("num_frames", self.num_frames)
        _check_count("stride", self.stride)
        if not math.isfinite(self.start):
            raise ValueError(f"start={self.start}: must be a number of seconds")

    def select(self, timestamps: Tensor) -> Tensor:
        times = timestamps.to(torch.float64)
        first = int(torch.searchsorted(times, self.start - 1e-6))
        if first >= len(times):
            raise ValueError(
                f"window starts at {self.start} s but the last frame is at "
                f"{float(times[-1]) if len(times) else 0.0:.3f} s: start it earlier"
            )
        return torch.arange(first, len(times), self.stride)[: self.num_frames]


def parse_sampler(text: str) -> Sampler:
    """The sampler that `text` names.

    Args:
        text: `uniform:N`, `every:N`, `fps:F`, or `window:N`, `window:N@SECONDS`,
            `window:N@SECONDS/STRIDE`.

    Raises:
        ValueError: Not one of those forms.
    """
    kind, _, value = text.strip().partition(":")
    try:
        if kind == "uniform":
            return Uniform(int(value))
        if kind == "every":
            return EveryNth(int(value))
        if kind == "fps":
            return TargetFps(float(value))
        if kind == "window":
            count, _, rest = value.partition("@")
            start, _, stride = rest.partition("/")
            return Window(int(count), float(start or 0.0), int(stride or 1))
    except ValueError as error:
        raise ValueError(f"sampler '{text}': {error}; write e.g. {SAMPLER_FORMS}") from None
    raise ValueError(f"sampler '{text}' is unknown: write e.g. {SAMPLER_FORMS}")


def sample(clip: Clip, sampler: Sampler) -> Clip:
    """The clip with only the frames that `sampler` selects, each with its own true time."""
    return clip.at(sampler.select(clip.timestamps))
