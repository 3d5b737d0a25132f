"""Reels: one face for all that can be played, so that reading need not care what it reads.

A reel tells its frames' times and hands out chosen frames as upright RGB of one size. It knows
neither clips nor samplers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from av.video.frame import VideoFrame

from data.decoding import (
    IndexMismatch,
    decode,
    decode_selected,
    index_packets,
    open_stream,
)
from data.images import ImageFile, ImageFolder, is_image, too_large
from data.media import Forward, Media, Readable, media
from data.raster import Fit, Rasterizer

MAX_PIXELS = 2**29  # over all frames of a clip: 1.6 GB of RGB
_TRIED = 256  # frames up to which a file is decoded through to know its times

Choose = Callable[[np.ndarray], list[int]]  # seconds (T,) -> numbers of the frames to keep


@dataclass(frozen=True)
class Look:
    """What frames are turned into."""

    height: int | None = None  # pixels; None: the file's own
    width: int | None = None  # pixels; None: the file's own
    fit: Fit = "cover"
    max_pixels: int = MAX_PIXELS  # larger pictures are refused before they are converted


class Reel(Protocol):
    """A video, an image, an animation or a folder of images."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def times(self) -> np.ndarray:
        """Seconds of all frames, float64 (T,), the first at 0."""
        ...

    def frames(
        self, choose: Choose | None, look: Look, *, trusting: bool = True
    ) -> Iterator[tuple[np.ndarray, float]]:
        """The chosen frames, or all: uint8 (H, W, 3) and seconds.

        Args:
            choose: Picks frames by all their times; None for every frame.
            look: What the frames are turned into.
            trusting: Believe the times that the container tells.

        Raises:
            IndexMismatch: They turned out wrong, perhaps after some frames; ask again without
                trusting and forget those.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """container, codec, pixel_format, has_audio."""
        ...


def open_reel(source: Readable, image_fps: float = 8.0, *, once: bool = False) -> Reel:
    """The reel in a file, a folder of images, bytes or a binary file object.

    With `once` its frames are asked for once and all: what comes through a pipe is not held then.

    Raises:
        FileNotFoundError: No such file.
        VideoError: Empty, or a folder without images.
    """
    if isinstance(source, str | Path) and Path(source).is_dir():
        return ImageReel(ImageFolder(Path(source), image_fps))
    file = media(source, once=once)
    if isinstance(file.source, Forward) and (is_image(file) or file.head(3) == b"GIF"):
        file = Media(file.name, file.source.rest())  # pictures are looked at from both ends
    return ImageReel(ImageFile(file)) if is_image(file) else VideoReel(file)


class VideoReel:
    """What FFmpeg reads."""

    def __init__(self, file: Media) -> None:
        self.name = file.name
        self._file = file

    def times(self) -> np.ndarray:
        """Seconds of all frames; decodes short files through and of long ones the first frame."""
        index = index_packets(self._file)
        if index is not None and len(index.ticks) > _TRIED:
            try:
                next(decode_selected(self._file, index, [0]))
                return index.seconds
            except IndexMismatch:
                pass
        return np.array([time for _, time in decode(self._file)])

    def frames(
        self, choose: Choose | None, look: Look, *, trusting: bool = True
    ) -> Iterator[tuple[np.ndarray, float]]:
        """See `Reel`."""
        raster = Rasterizer(look.height, look.width, look.fit)
        for frame, time in self._decoded(choose, trusting):
            if frame.width * frame.height > look.max_pixels:
                raise too_large(self.name, frame.height, frame.width, look.max_pixels)
            yield raster(frame), time

    def _decoded(self, choose: Choose | None, trusting: bool) -> Iterator[tuple[VideoFrame, float]]:
        if choose is None:
            yield from decode(self._file)
            return
        index = index_packets(self._file) if trusting else None
        if index is not None:
            yield from decode_selected(self._file, index, choose(index.seconds))
            return
        kept = set(choose(np.array([time for _, time in decode(self._file)])))
        for number, pair in enumerate(decode(self._file)):
            if number in kept:
                yield pair

    def facts(self) -> dict[str, Any]:
        """See `Reel`."""
        with open_stream(self._file) as (container, stream):
            context = stream.codec_context
            return {
                "container": container.format.name,
                "codec": context.name,
                "pixel_format": context.pix_fmt or "",
                "has_audio": bool(container.streams.audio),
            }


class ImageReel:
    """What Pillow reads."""

    def __init__(self, source: ImageFile | ImageFolder) -> None:
        self.name = source.name
        self._source = source

    def times(self) -> np.ndarray:
        """Seconds of all frames; the first frame is decoded to see that it can be."""
        next(self.frames(lambda seconds: [0], Look()))
        return self._source.seconds

    def frames(
        self, choose: Choose | None, look: Look, *, trusting: bool = True
    ) -> Iterator[tuple[np.ndarray, float]]:
        """See `Reel`."""
        seconds = self._source.seconds
        wanted = list(range(len(seconds))) if choose is None else choose(seconds)
        images = self._source.images(wanted, look.height, look.width, look.fit, look.max_pixels)
        for number, image in zip(wanted, images, strict=True):
            yield image, float(seconds[number])

    def facts(self) -> dict[str, Any]:
        """See `Reel`."""
        kind = self._source.kind
        return {"container": kind, "codec": kind, "pixel_format": "", "has_audio": False}
