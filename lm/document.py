"""`Document`: texts and videos in the order they are read, before they become ids.

Knows what a document says. Knows neither ids nor the grammar that spells it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from lm.formats import VideoFormat
from lm.vocabulary import ROLES
from tokenizer.tokens import VideoTokens


@dataclass(frozen=True)
class Text:
    """A text in one of the roles `caption`, `question`, `answer`, `label`."""

    role: str
    text: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r}: texts are one of {', '.join(ROLES)}")


@dataclass(frozen=True)
class Nothing:
    """The null condition: stands where a caption was left out, for guidance."""


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


Item = Text | Nothing | Video


@dataclass(frozen=True)
class Document:
    """Items in reading order."""

    items: tuple[Item, ...]

    @classmethod
    def of(cls, *items: Item) -> Document:
        return cls(items)

    def canonical(self) -> Document:
        """What comes back when the document is written to a stream and read again."""
        return Document(tuple(i.canonical() if isinstance(i, Video) else i for i in self.items))
