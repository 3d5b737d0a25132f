"""Commands about when things happen, as plain functions: their docstrings are the commands' help.

They know files and tasks, not prompts or ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lm.tasks import Model


@dataclass(frozen=True)
class Located:
    """When something happens in a video."""

    video: str
    event: str
    start: float  # seconds
    end: float | None  # seconds; None for a moment

    def __str__(self) -> str:
        return stretch(self.start, self.end)


@dataclass(frozen=True)
class Happening:
    """What happens in a stretch of a video."""

    video: str
    start: float  # seconds
    end: float | None  # seconds; None for a moment
    text: str

    def __str__(self) -> str:
        return f"{stretch(self.start, self.end)}: {self.text}"


def locate(video: Path, event: str, model: Path) -> Located:
    """Say at which second something happens in a video.

    The model must have been taught times: clips with events, `--data.mixture.events 2`.

    Example: kinolex locate clip.mp4 "the red circle appears" --model runs/model

    Args:
        video: A video, GIF or folder of images.
        event: What to look for.
        model: Folder of a model.
    """
    found = Model.load(model).locate(video, event)
    return Located(str(video), event, found.start, found.end)


def events(
    video: Path, model: Path, start: float | None = None, end: float | None = None
) -> list[Happening]:
    """List what happens in a video and when, or say what happens in one stretch of it.

    The model must have been taught times: clips with events, `--data.mixture.events 2`.

    Example: kinolex events clip.mp4 --start 1.0 --end 1.5 --model runs/model

    Args:
        video: A video, GIF or folder of images.
        model: Folder of a model.
        start: Second at which the stretch begins; all that happens is listed if left out.
        end: Second at which it ends; a moment if left out.
    """
    if start is None and end is not None:
        raise ValueError(f"end={end:g} without a start: give both, or neither")
    loaded = Model.load(model)
    if start is not None:
        return [Happening(str(video), start, end, loaded.describe(video, start, end))]
    return [Happening(str(video), e.start, e.end, e.text) for e in loaded.events(video)]


def stretch(start: float, end: float | None) -> str:
    """A moment or a stretch of time in words."""
    return f"{start:g} s" if end is None else f"{start:g} to {end:g} s"
