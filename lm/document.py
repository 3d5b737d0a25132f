"""`Document`: texts, times and videos in the order they are read, before they become ids.

Knows what a document says. Knows neither ids nor the grammar that spells it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from lm.formats import VideoFormat
from lm.vocabulary import ROLES, TASKS
from tokenizer.tokens import VideoTokens


@dataclass(frozen=True)
class Text:
    """A text in one of the roles `caption`, `question`, `answer`, `label`, `event`, `text`.

    An event is what happens in a stretch of time; `text` is prose that is none of the others.
    """

    role: str
    text: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r}: texts are one of {', '.join(ROLES)}")


@dataclass(frozen=True)
class Task:
    """What kind of document this is; may stand first in it.

    `watch`: videos, then what is said of them. `film`: words, then a video. `fill`: words, then
    stills, then the video they are of. `talk`: words and videos in any order.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in TASKS:
            raise ValueError(f"task {self.name!r}: documents are one of {', '.join(TASKS)}")


@dataclass(frozen=True)
class Time:
    """A moment, or a stretch of time up to `end`, in seconds of the video before."""

    start: float
    end: float | None = None

    def canonical(self) -> Time:
        """The time as the stream keeps it, to 1 ms."""
        start, length = self.milliseconds
        return Time(start / 1000, None if length is None else (start + length) / 1000)

    @property
    def milliseconds(self) -> tuple[int, int | None]:
        """Start and length; no length for a moment, or what rounds to one."""
        start = round(self.start * 1000)
        return start, None if self.end is None else round(self.end * 1000) - start


@dataclass(frozen=True)
class Nothing:
    """Nothing: in place of a caption that was left out, for guidance; or no more events."""


@dataclass(frozen=True, eq=False)
class Video:
    """A video as codes. Equal when codes, times (to the bit), size and codec are."""

    tokens: VideoTokens

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Video):
            return NotImplemented
        a, b = self.tokens, other.tokens
        return (
            (a.height, a.width, a.block_frames, a.codebook_size, a.codec_id)
            == (b.height, b.width, b.block_frames, b.codebook_size, b.codec_id)
            and len(a.codes) == len(b.codes)
            and all(torch.equal(x, y) for x, y in zip(a.codes, b.codes, strict=True))
            and torch.equal(a.timestamps, b.timestamps)
        )

    def canonical(self) -> Video:
        """The video as the stream keeps it: even times on their exact grid, others to 1 ms."""
        fmt, start = VideoFormat.of(self.tokens)
        return Video(replace(self.tokens, timestamps=fmt.timestamps(start)))


Item = Task | Text | Time | Nothing | Video


@dataclass(frozen=True)
class Document:
    """Items in reading order."""

    items: tuple[Item, ...]

    @classmethod
    def of(cls, *items: Item) -> Document:
        return cls(items)

    def canonical(self) -> Document:
        """What comes back when the document is written to a stream and read again."""
        return Document(
            tuple(i.canonical() if isinstance(i, Video | Time) else i for i in self.items)
        )
