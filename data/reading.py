"""Reading video: anything FFmpeg or Pillow decodes becomes a `Clip` with true times.

Times count from a file's first frame, which is at 0 s whatever its container says. Rotation flags
are applied, what is transparent becomes black, and a damaged frame is never passed on.
It does not know where files come from nor what is said about them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.clip import Clip
from data.decoding import IndexMismatch
from data.errors import VideoError
from data.media import Readable
from data.raster import Fit
from data.reels import MAX_PIXELS, Choose, Look, Reel, open_reel
from data.sampling import Sampler

MAX_FRAMES = 20_000


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds, as reading it will give it."""

    path: str
    height: int  # pixels, upright
    width: int  # pixels, upright
    num_frames: int
    fps: float | None  # mean frames a second; None for a single frame
    duration: float  # seconds, the last frame's share included; 0 for a single frame
    container: str  # e.g. mov,mp4,m4a,3gp,3g2,mj2
    codec: str  # e.g. h264
    pixel_format: str  # e.g. yuv420p
    has_audio: bool


def read_clip(
    path: Readable,
    *,
    sampler: Sampler | None = None,
    height: int | None = None,
    width: int | None = None,
    fit: Fit = "cover",
    start: float | None = None,
    end: float | None = None,
    image_fps: float = 8.0,
    max_frames: int = MAX_FRAMES,
    max_pixels: int = MAX_PIXELS,
) -> Clip:
    """The frames of a video, GIF, image or folder of images.

    Of a long file only the wanted frames are converted and held. Frames keep their times in the
    file, counted from its first frame, also when `start` is given.

    Args:
        path: File, folder of images, bytes or an open binary file.
        sampler: Which frames of those between `start` and `end`; None for all.
        height: Pixels; alone it keeps the shape; None for the file's own.
        width: Pixels, likewise.
        fit: With both sizes given, `cover` scales and crops the centre, `stretch` reshapes.
        start: Seconds; leaves out what is shown before.
        end: Seconds; leaves out what is shown from then on.
        image_fps: Images a second where `path` is a folder of images.
        max_frames: More are refused.
        max_pixels: More, over all frames, are refused.

    Raises:
        FileNotFoundError: No such file.
        VideoError: Empty, not a video, audio only, no good frame, or too large.
    """
    reel = open_reel(path, image_fps)
    choose = None
    if not (sampler is None and start is None and end is None):
        choose = _chooser(reel.name, sampler, start, end, max_frames)
    look = Look(height, width, fit, max_pixels)
    try:
        return _collect(reel, choose, look, max_frames, trusting=True)
    except IndexMismatch:
        return _collect(reel, choose, look, max_frames, trusting=False)


def _collect(
    reel: Reel, choose: Choose | None, look: Look, max_frames: int, *, trusting: bool
) -> Clip:
    images: list[np.ndarray | None] = []
    times: list[float] = []
    pixels = 0
    for image, time in reel.frames(choose, look, trusting=trusting):
        images.append(image)
        times.append(time)
        pixels += image.shape[0] * image.shape[1]
        if len(images) > max_frames:
            raise _too_long(reel.name, f"more than max_frames={max_frames} frames")
        if pixels > look.max_pixels:
            shape = f"{len(images)} frames of {image.shape[0]}x{image.shape[1]}"
            raise _too_long(reel.name, f"{shape} or more, over max_pixels={look.max_pixels},")
    first = images[0]
    assert first is not None
    frames = torch.empty((len(images), 3, *first.shape[:2]), dtype=torch.uint8)
    for number, image in enumerate(images):
        frames[number] = torch.from_numpy(image).permute(2, 0, 1)
        images[number] = None  # never two copies of the whole
    return Clip(frames, torch.tensor(times, dtype=torch.float64), source=reel.name)


def iterate_frames(
    path: Readable,
    *,
    height: int | None = None,
    width: int | None = None,
    fit: Fit = "cover",
    image_fps: float = 8.0,
) -> Iterator[tuple[np.ndarray, float]]:
    """Frame after frame of a file of any length: uint8 (H, W, 3) and its seconds from the first.

    Arguments and errors are those of `read_clip`. A pipe is read as it comes and may be endless.
    """
    reel = open_reel(path, image_fps, once=True)
    return reel.frames(None, Look(height, width, fit, MAX_PIXELS))


def read_times(path: Readable, *, image_fps: float = 8.0) -> Tensor:
    """When each frame of a file is shown: float64 (T,), seconds from the first.

    A file of up to 256 frames is decoded through, so that damage shows; of a longer one the first
    frame is decoded and the rest believed as its container tells it.

    Raises:
        FileNotFoundError: No such file.
        VideoError: As for `read_clip`.
    """
    return torch.from_numpy(open_reel(path, image_fps).times()).to(torch.float64)


def probe(path: Readable, *, image_fps: float = 8.0) -> VideoInfo:
    """What a file holds; reads its packets and decodes as little as `read_times` does.

    Raises:
        FileNotFoundError: No such file.
        VideoError: As for `read_clip`.
    """
    reel = open_reel(path, image_fps)
    times = reel.times()
    image, _ = next(reel.frames(None, Look()))
    span = float(times[-1] - times[0])
    fps = (len(times) - 1) / span if len(times) > 1 else None
    return VideoInfo(
        path=reel.name,
        height=image.shape[0],
        width=image.shape[1],
        num_frames=len(times),
        fps=fps,
        duration=len(times) / fps if fps else 0.0,
        **reel.facts(),
    )


def _chooser(
    name: str, sampler: Sampler | None, start: float | None, end: float | None, max_frames: int
) -> Choose:
    if start is not None and end is not None and not start < end:
        raise ValueError(f"{name}: start={start} and end={end}: start must come before end")

    def choose(seconds: np.ndarray) -> list[int]:
        first = 0 if start is None else int(np.searchsorted(seconds, start - 1e-6))
        stop = len(seconds) if end is None else int(np.searchsorted(seconds, end - 1e-6))
        if first >= stop:
            raise VideoError(
                name,
                f"has no frame from {start or 0} s to {end} s, its last is at {seconds[-1]:.3f} s",
                "give times within it",
            )
        part = torch.from_numpy(np.ascontiguousarray(seconds[first:stop]))
        kept = torch.arange(len(part)) if sampler is None else sampler.select(part)
        if len(kept) > max_frames:
            raise _too_long(name, f"{len(kept)} frames, over max_frames={max_frames},")
        return (kept + first).tolist()

    return choose


def _too_long(name: str, size: str) -> VideoError:
    return VideoError(
        name,
        f"has {size} to keep",
        "give a sampler (e.g. uniform:64), start and end, or a smaller size",
    )
