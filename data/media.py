"""Something to read from: a file, bytes or an open file, named and known to be there.

It knows first and last bytes, not what they mean to a decoder.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data.errors import VideoError

Readable = str | Path | bytes | BinaryIO
BROKEN = "copy or download it again, or re-encode it"
PIPED = (
    "an MP4 or MOV whose index comes last cannot be read from a pipe: give the file, or send "
    "Matroska, WebM or MPEG-TS"
)


class Forward:
    """A pipe, read once from beginning to end and never held."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self.head = self._ahead = pipe.read(16)

    def read(self, size: int) -> bytes:
        """The next bytes as soon as there are some, at most `size`; none at the end."""
        if self._ahead:
            found, self._ahead = self._ahead[:size], self._ahead[size:]
            return found
        read = getattr(self._pipe, "read1", self._pipe.read)  # does not wait for all of `size`
        return read(size)

    def rest(self) -> bytes:
        """All that was not read yet."""
        return self._ahead + self._pipe.read()


@dataclass(frozen=True)
class Media:
    """Something to read a video from, as often as needed, or once if it is a pipe."""

    name: str  # for messages
    source: Readable | Forward

    @property
    def remedy(self) -> str:
        """What to do where nothing can be decoded."""
        return PIPED if isinstance(self.source, Forward) else BROKEN

    def open(self) -> str | BinaryIO | Forward:
        """What `av.open` wants, from its beginning."""
        if isinstance(self.source, bytes):
            return io.BytesIO(self.source)
        if isinstance(self.source, str | Path):
            return f"file:{self.source}"  # else a colon in the name would be taken for a protocol
        if not isinstance(self.source, Forward):
            self.source.seek(0)
        return self.source

    def head(self, size: int = 16) -> bytes:
        """The first bytes."""
        if isinstance(self.source, bytes):
            return self.source[:size]
        if isinstance(self.source, str | Path):
            with open(self.source, "rb") as file:
                return file.read(size)
        if isinstance(self.source, Forward):
            return self.source.head[:size]
        self.source.seek(0)
        return self.source.read(size)

    def tail(self, size: int = 64) -> bytes:
        """The last bytes."""
        if isinstance(self.source, str | Path):
            with open(self.source, "rb") as file:
                return _last_bytes(file, size)
        assert not isinstance(self.source, Forward), "it has no end yet"
        opened = io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source
        return _last_bytes(opened, size)

    def is_token_file(self) -> bool:
        """Whether it is a .kvt file, as `tokenizer.records` writes it."""
        return self.head(4) == b"\x89KVT"

    def is_cut_gif(self) -> bool:
        """Whether it is a GIF without its end mark, whose last picture is then half drawn."""
        return self.head(3) == b"GIF" and not self.tail().rstrip(b"\0").endswith(b";")


def _last_bytes(file: BinaryIO, size: int) -> bytes:
    end = file.seek(0, io.SEEK_END)
    file.seek(max(end - size, 0))
    return file.read()


def media(source: Readable, name: str | None = None, *, once: bool = False) -> Media:
    """The file, bytes or file object, known not to be missing or empty.

    A pipe is read whole first, or, if it will be read `once`, as it comes.

    Raises:
        FileNotFoundError: No such file.
        VideoError: Nothing in it.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file; check the path")
        found = Media(name or str(path), path)
    elif isinstance(source, bytes | bytearray | memoryview):
        found = Media(name or f"{len(source)} bytes", bytes(source))
    elif source.seekable():
        found = Media(name or str(getattr(source, "name", "a stream")), source)
    else:
        pipe = Forward(source)
        name = name or str(getattr(source, "name", "a stream"))
        found = Media(name, pipe if once else pipe.rest())
    if not found.head(1):
        raise VideoError(found.name, "is empty (0 bytes)", BROKEN)
    return found
