"""Clips as files: video with true times, moving GIFs, still sheets.

Knows which suffix and quality ask for which encoder. It does not know what the clips are of, nor
pages and captions.
"""

from __future__ import annotations

import io
import math
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor

from data.atomic import atomic_path, check_writable, write_atomically
from data.clip import Clip
from data.interrupts import CutShort, nothing_written
from data.muxing import APNG_CLOCK, CLOCK, Encoding, Film, Muxed, mux, ticks, to_images

if TYPE_CHECKING:
    from PIL import Image

Quality = Literal["normal", "high"]

_GIF_SHORTEST = 2  # hundredths; players show a shorter frame for a tenth of a second
SUFFIXES = (".mp4", ".webm", ".mkv", ".gif", ".apng", ".png")


def write_video(
    frames: Clip | Tensor,
    path: str | Path,
    fps: float | None = None,
    *,
    quality: Quality = "normal",
) -> Path:
    """Write a clip in the format that the suffix of `path` names.

    .mp4 is H.264, in 4:2:0 for even sizes and in 4:4:4 (which fewer players show) for odd ones
    and for `quality="high"`; .webm is VP9; .mkv is lossless FFV1; .gif has up to 256 colours a
    frame; .apng is lossless; .png is a still sheet of all frames. The file starts at 0 s and
    keeps the clip's times to 1/90 ms (mp4), 1 ms (webm, mkv, apng) or 10 ms with at least 20 ms a
    frame (gif). Equal clips give equal files, but x264 has been seen to vary tiny ones (24x16) by a
    few bytes.

    Args:
        frames: A clip, or uint8 (T, 3, H, W) with `fps`.
        path: Where to; it appears whole or not at all.
        fps: Frames a second; replaces the times of a clip.
        quality: `normal` looks right; `high` is for pixels that will be measured or trained on.

    Returns:
        `path`.

    Raises:
        ValueError: An unknown suffix, or frames without times.
    """
    path = Path(path)
    check_target(path)
    suffix = path.suffix.lower()
    if quality not in ("normal", "high"):
        raise ValueError(f"quality='{quality}': give normal or high")
    clip = _with_times(frames, fps, suffix)
    if suffix == ".png":
        write_atomically(path, encode_png(sheet(clip.frames)))
    elif suffix == ".gif":
        write_atomically(path, _gif(clip.frames, _durations(clip, 100, _GIF_SHORTEST)))
    else:
        _write_muxed(clip, path, quality)
    return path


def write_film(film: Film, path: str | Path, *, quality: Quality = "normal") -> Path:
    """Write frames as they come, as `write_video` does; .gif and .png hold them all first.

    The path `-` is standard output, which gets what a .mkv would hold.

    Raises:
        CutShort: Ctrl-C. The frames that were made by then are a whole file at `path`; without
            one, what was there is as it was.
    """
    if str(path) == "-":
        muxed = _mux(film, sys.stdout.buffer, ".mkv", quality)
        sys.stdout.buffer.flush()
        _tell_cut(film, muxed, "standard output")
        return Path(path)
    path = Path(path)
    check_target(path)
    with nothing_written(path):
        if path.suffix.lower() in (".gif", ".png"):
            _write_held(film, path, quality)
        else:
            _tell_cut(film, _write_muxed(film, path, quality), path)
    return path


def _write_held(film: Film, path: Path, quality: Quality) -> None:
    held: list[Tensor] = []
    times, cut_short = film.timestamps, False
    try:
        for part in film.parts:
            held.append(part)
    except KeyboardInterrupt:
        if not held:
            raise
        times, cut_short = times[: sum(map(len, held))], True
    write_video(Clip(torch.cat(held), times, source=film.source), path, quality=quality)
    _tell_cut(film, Muxed(0, len(times), cut_short, {}), path)


def _tell_cut(film: Film, muxed: Muxed, place: str | Path) -> None:
    """Raise CutShort if not all of a film was written, with how much of it there is."""
    if muxed.cut_short:
        seconds = f" ({muxed.num_frames / film.fps:.4g} s)" if film.fps else ""
        raise CutShort(
            f"interrupted; the first {muxed.num_frames} of {len(film)} frames{seconds} are in "
            f"{place}"
        )


def _write_muxed(clip: Clip | Film, path: Path, quality: Quality) -> Muxed:
    from av.error import FFmpegError

    suffix = path.suffix.lower()
    try:
        with atomic_path(path) as partial:
            muxed = _mux(clip, partial, suffix, quality)
        return muxed
    except FFmpegError as error:
        if isinstance(error, OSError):  # no folder, no permission, a full disk
            raise OSError(error.errno, error.strerror, str(path)) from None
        size = f"{len(clip)} frames of {clip.height}x{clip.width}"
        raise ValueError(f"{path}: {size} do not fit {suffix} ({error}); try .mkv") from None


def check_target(path: str | Path) -> None:
    """Whether `write_video` could write at `path`, asked before the work that makes the clip.

    Raises:
        ValueError: An unknown suffix.
        OSError: A place that cannot be written to.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} has suffix '{suffix}': use one of {' '.join(SUFFIXES)}")
    check_writable(path)


def _with_times(frames: Clip | Tensor, fps: float | None, suffix: str) -> Clip:
    if isinstance(frames, Clip):
        return frames if fps is None else Clip.from_frames(frames.frames, fps)
    if fps is None and len(frames) > 1 and suffix != ".png":
        raise ValueError("frames without times: give fps, or a Clip")
    return Clip.from_frames(frames, 1.0 if fps is None else fps)


def _durations(clip: Clip, ticks: int, shortest: int = 1) -> list[int]:
    """How long each frame is shown, in 1/`ticks` s; the last as long as frames last on average."""
    times = (clip.timestamps - clip.timestamps[0]).tolist()
    times.append(times[-1] + 1 / (clip.fps or 1.0))
    durations, shown = [], 0
    for time in times[1:]:  # rounded from the start, so that errors do not add up
        durations.append(max(round(time * ticks) - shown, shortest))
        shown += durations[-1]
    return durations


def _mux(clip: Clip | Film, target: Path | BinaryIO, suffix: str, quality: Quality) -> Muxed:
    even = clip.height % 2 == 0 and clip.width % 2 == 0
    small = "yuv420p" if even and quality == "normal" else "yuv444p"
    vp9 = {"b": "0", "deadline": "good", "cpu-used": "4"}
    encoding = {
        ".mp4": Encoding("mp4", "libx264", small, {"crf": "17" if quality == "normal" else "6"}),
        ".webm": Encoding(
            "webm", "libvpx-vp9", small, {"crf": "20" if quality == "normal" else "8", **vp9}
        ),
        ".mkv": Encoding("matroska", "ffv1", "bgr0", {"level": "3"}),
        ".apng": Encoding("apng", "apng", "rgb24"),
    }[suffix]
    coarsest = CLOCK if suffix == ".mp4" else APNG_CLOCK
    if len(set(ticks(clip, coarsest))) < len(clip):
        closest = float(clip.timestamps.diff().min())
        raise ValueError(
            f"{clip.source or target}: frames {closest:.2g} s apart, {suffix} tells {coarsest} s "
            "apart; sample the clip at a lower fps"
        )
    return mux(clip, target, encoding)


def encode_gif(frames: Tensor, fps: float, scale: int = 1) -> bytes:
    """An endless GIF.

    Args:
        frames: uint8 (T, 3, H, W).
        fps: Frames a second, at most 50.
        scale: Enlarge each pixel to `scale` x `scale`, so that small clips stay sharp.
    """
    if scale != int(scale) or scale < 1:
        raise ValueError(f"scale={scale}: give a whole number of at least 1")
    clip = Clip.from_frames(frames, fps)
    return _gif(clip.frames, _durations(clip, 100, _GIF_SHORTEST), scale)


def _gif(frames: Tensor, durations: list[int], scale: int = 1) -> bytes:
    # Assembled here: Pillow's own writer melts equal neighbours into one frame.
    from PIL import GifImagePlugin, Image

    height, width = frames.shape[2] * scale, frames.shape[3] * scale
    if max(height, width) > 65535:
        raise ValueError(f"{height}x{width} pixels: a GIF has at most 65535 a side, scale it down")
    images = to_images(frames)
    table, to_indices = _palette(images)
    # Logical screen: a global table of 256 colours, 8 bits each; then "loop for ever".
    parts = [b"GIF89a", struct.pack("<HH", width, height), b"\xf7\0\0", table.ljust(768, b"\0")]
    parts += [b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"]
    for image, duration in zip(images, durations, strict=True):
        indexed = to_indices(image)
        if scale > 1:
            indexed = indexed.resize((width, height), Image.Resampling.NEAREST)
        parts += [b"!\xf9\x04\x04", struct.pack("<H", min(duration, 65535)), b"\0\0"]
        parts += GifImagePlugin.getdata(indexed)
    return b"".join(parts) + b";"


def _palette(images: np.ndarray) -> tuple[bytes, Callable[[np.ndarray], Image.Image]]:
    """Up to 256 colours for a whole clip, and how an image is put in them.

    Exact where the clip has no more colours than that; otherwise fitted to a sample of its pixels
    (one palette a clip does not flicker, and is much faster than one a frame).
    """
    from PIL import Image

    weights = np.array([65536, 256, 1], dtype=np.uint32)
    colours = np.unique(images.reshape(-1, 3).astype(np.uint32) @ weights)
    if len(colours) > 256:
        pixels = images.reshape(-1, 3)[:: math.ceil(images[..., 0].size / 8192)]
        fitted = Image.fromarray(pixels[None]).quantize(256, Image.Quantize.MEDIANCUT, kmeans=1)
        table = bytes(fitted.getpalette() or [])

        def nearest(image: np.ndarray) -> Image.Image:
            return Image.fromarray(image).quantize(palette=fitted, dither=Image.Dither.NONE)

        return table, nearest

    def exact(image: np.ndarray) -> Image.Image:
        places = np.searchsorted(colours, image.astype(np.uint32) @ weights)
        return Image.fromarray(places.astype(np.uint8), mode="P")

    table = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)
    return table.astype(np.uint8).tobytes(), exact


def encode_png(image: np.ndarray | Tensor) -> bytes:
    """A still image uint8 (H, W, 3) as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def sheet(frames: Tensor, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """All frames in one image, row by row.

    Args:
        frames: uint8 (T, 3, H, W).
        columns: Frames a row; by default about as many rows as columns.
        gap: White pixels between frames.

    Returns:
        uint8 (H', W', 3); one frame alone is that frame.
    """
    images = to_images(frames)
    count, height, width, _ = images.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else min(columns, count)
    if columns < 1 or gap < 0:
        raise ValueError(
            f"columns={columns}, gap={gap}: give at least one column and no negative gap"
        )
    rows = math.ceil(count / columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    page = np.full(shape, 255, dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        page[top : top + height, left : left + width] = image
    return page
