"""`Clip`, the value that travels from data to codec to page: frames with their true times.

A clip knows its pixels, when each frame is shown, what was said about it and where it came
from. It knows nothing of codecs, tokens, batches or files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Question:
    """A question about a clip with its one right answer.

    `kind` groups questions for reports (`colour`, `shape`, `direction`, ...); `choices`, when
    given, are the answers a multiple-choice reader may pick from, the right one among them.
    """

    question: str
    answer: str
    kind: str = "open"
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    """Something that happens in a clip, and when by the clip's timestamps.

    Raises:
        ValueError: no words, a time before 0, or an end that does not come after the start.
    """

    text: str
    start: float  # seconds
    end: float | None = None  # seconds; None for a moment

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError(f"an event at {self.start:g} s without words: say what happens")
        if not 0 <= self.start < math.inf:
            raise ValueError(f"event '{self.text}' at {self.start} s: give seconds of 0 or more")
        if self.end is not None and not self.start < self.end < math.inf:
            raise ValueError(
                f"event '{self.text}' from {self.start:g} to {self.end:g} s: give an end after its "
                "start, or none for a moment"
            )


@dataclass(frozen=True)
class Clip:
    """A stretch of video.

    frames: uint8 (T, 3, H, W), RGB, T >= 1.
    timestamps: float64 (T,), seconds at which each frame is shown, strictly increasing.
    """

    frames: Tensor
    timestamps: Tensor
    captions: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)  # e.g. {"action": "moves left"}
    source: str = ""  # file or world the clip came from, for messages and reports
    truth: dict[str, Any] | None = None  # a made world's full description, JSON values only
    events: tuple[Event, ...] = ()  # in order of time

    def __post_init__(self) -> None:
        frames, times = self.frames, self.timestamps
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3:
            raise ValueError(
                f"frames are {frames.dtype} {tuple(frames.shape)}: a clip wants uint8 (T, 3, H, W)"
            )
        if 0 in frames.shape:
            raise ValueError(f"frames are {tuple(frames.shape)}: a clip has at least one pixel")
        if times.shape != (len(frames),):
            raise ValueError(
                f"{len(frames)} frames with {tuple(times.shape)} timestamps: give one each"
            )
        if times.dtype != torch.float64:
            object.__setattr__(self, "timestamps", times.to(torch.float64))
        if len(times) > 1 and not bool((self.timestamps.diff() > 0).all()):
            raise ValueError("timestamps must increase: sort the frames by time and drop repeats")

    def __len__(self) -> int:
        return len(self.frames)

    @classmethod
    def from_frames(cls, frames: Tensor, fps: float, **fields: Any) -> Clip:
        """A clip whose frames (T, 3, H, W) are evenly spaced at `fps` frames a second from 0 s."""
        if not fps > 0:
            raise ValueError(f"fps={fps}: frames per second must be positive")
        times = torch.arange(len(frames), dtype=torch.float64) / fps
        return cls(frames, times, **fields)

    @property
    def height(self) -> int:
        return self.frames.shape[2]

    @property
    def width(self) -> int:
        return self.frames.shape[3]

    @property
    def fps(self) -> float | None:
        """Mean frames a second between the first and last frame; None for a single frame."""
        if len(self) < 2:
            return None
        return (len(self) - 1) / float(self.timestamps[-1] - self.timestamps[0])

    @property
    def caption(self) -> str:
        """The first caption, or '' where there is none."""
        return self.captions[0] if self.captions else ""

    def at(self, indices: Tensor) -> Clip:
        """The same clip with only the frames at `indices` (increasing), with their own times."""
        return replace(self, frames=self.frames[indices], timestamps=self.timestamps[indices])
