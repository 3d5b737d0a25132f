"""Commands that ask when: their docstrings are the commands' help.

They return results and print nothing. They know files and tasks, not prompts or ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lm.long.answer import LongAnswer
from lm.long.asking import check_rate
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


def locate(
    video: Path,
    event: str,
    model: Path,
    tokens_per_frame: float | None = None,
    long: str | None = None,
) -> Located | LongAnswer:
    """Say at which second something happens in a video.

    The model must have been taught times: clips with events, `--data.mixture.events 2`.

    Example: kinolex locate clip.mp4 "the red circle appears" --model runs/model

    Args:
        video: A video, GIF or folder of images.
        event: What to look for.
        model: Folder of a model.
        tokens_per_frame: Read at most so many; the rate the model was trained at if left out.
        long: Of a video of any length: chunks, overlap, keyframes or recall, see
            docs/long-video.md.
    """
    if long is not None:
        check_rate(long, tokens_per_frame)
        return Model.load(model).locate_long(video, event, long)
    found = Model.load(model).locate(video, event, tokens_per_frame)
    return Located(str(video), event, found.start, found.end)


def events(
    video: Path,
    model: Path,
    start: float | None = None,
    end: float | None = None,
    tokens_per_frame: float | None = None,
    long: str | None = None,
) -> list[Happening] | LongAnswer:
    """List what happens in a video and when, or say what happens in one stretch of it.

    The model must have been taught times: clips with events, `--data.mixture.events 2`.

    Example: kinolex events clip.mp4 --start 1.0 --end 1.5 --model runs/model

    Args:
        video: A video, GIF or folder of images.
        model: Folder of a model.
        start: Second at which the stretch begins; all that happens is listed if left out.
        end: Second at which it ends; a moment if left out.
        tokens_per_frame: Read at most so many; the rate the model was trained at if left out.
        long: Of a video of any length: chunks, overlap, keyframes or recall, see
            docs/long-video.md.
    """
    if start is None and end is not None:
        raise ValueError(f"end={end:g} without a start: give both, or neither")
    if start is not None and long is not None:
        raise ValueError(f"start={start:g} with long={long}: leave one of them out")
    check_rate(long, tokens_per_frame)
    loaded = Model.load(model)
    if long is not None:
        return loaded.events_long(video, long)
    if start is not None:
        said = loaded.describe(video, start, end, tokens_per_frame)
        return [Happening(str(video), start, end, said)]
    listed = loaded.events(video, tokens_per_frame)
    return [Happening(str(video), e.start, e.end, e.text) for e in listed]


def stretch(start: float, end: float | None) -> str:
    """A moment or a stretch of time in words."""
    return f"{start:g} s" if end is None else f"{start:g} to {end:g} s"
