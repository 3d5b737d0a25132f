"""Stills, animated PNG and WebP, and folders of images as sequences of frames, through Pillow.

It knows where each frame is and when it is shown; it knows nothing of FFmpeg, clips or samplers.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from data.errors import VideoError, VideoWarning
from data.media import Forward, Media
from data.raster import Fit, crop_centre, fit_size, over_black

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}
_HEADS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"P5", b"P6")
_BROKEN = "save or copy the image again"
_PAUSE = 0.1  # seconds a frame is shown that has no duration of its own, as browsers do


def is_image(file: Media) -> bool:
    """Whether Pillow should read it, judged by its first bytes (GIF and the rest are FFmpeg's)."""
    if isinstance(file.source, Path) and file.source.suffix.lower() in {".mjpg", ".mjpeg"}:
        return False
    head = file.head()
    return head.startswith(_HEADS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def image_files(folder: Path) -> list[Path]:
    """The images in a folder in natural order: 2.png before 10.png."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
    return sorted((f for f in files if not f.name.startswith(".")), key=_natural)


def _natural(file: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", file.name)
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in parts]


class ImageFolder:
    """The images of a folder, shown one after another.

    Args:
        folder: Where they are.
        fps: Images a second.
    """

    def __init__(self, folder: Path, fps: float) -> None:
        if not fps > 0:
            raise ValueError(f"fps={fps}: images a second must be positive")
        self.name = str(folder)
        self._files = image_files(folder)
        if not self._files:
            raise VideoError(
                folder, "is a folder without images", "give a video file or a folder of images"
            )
        self.seconds = np.arange(len(self._files)) / fps
        self.kind = f"folder of {self._files[0].suffix[1:].lower()}"

    def images(
        self, wanted: Sequence[int], height: int | None, width: int | None, fit: Fit, largest: int
    ) -> Iterator[np.ndarray]:
        """uint8 (H, W, 3) each, all of the first one's size; a warning tells if others differ."""
        first, told = None, height is not None and width is not None  # sizes asked for
        for number in wanted:
            file = self._files[number]
            size = None if told else _size(file)
            first = first or size
            if size is not None and first is not None and size != first:
                told = True
                warnings.warn(
                    f"{file}: {size[0]}x{size[1]} pixels, the first image is {first[0]}x{first[1]}"
                    ": all are scaled and cropped to the first one's size",
                    VideoWarning,
                    stacklevel=2,
                )
            for image in _frames(file, str(file), [0], height, width, fit, largest):
                height, width = image.shape[:2]
                yield image


def _size(file: Path) -> tuple[int, int] | None:
    """Height and width of an image upright; None if it cannot be read, which is told later."""
    try:
        with Image.open(file) as image:
            lying = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return image.size if lying else (image.height, image.width)
    except _ERRORS:
        return None


class ImageFile:
    """A still, or an animation with its own durations."""

    def __init__(self, file: Media) -> None:
        self.name = file.name
        self._file = file
        try:
            with Image.open(_plain(file)) as image:
                self.kind = (image.format or "image").lower()
                pauses = []
                for number in range(getattr(image, "n_frames", 1) - 1):
                    image.seek(number)
                    image.load()  # WebP tells the duration only then
                    pauses.append((image.info.get("duration") or 1000 * _PAUSE) / 1000)
        except _ERRORS as error:
            raise VideoError(file.name, f"cannot be read as an image ({error})", _BROKEN) from None
        self.seconds = np.concatenate([[0.0], np.cumsum(pauses)])

    def images(
        self, wanted: Sequence[int], height: int | None, width: int | None, fit: Fit, largest: int
    ) -> Iterator[np.ndarray]:
        """uint8 (H, W, 3) each."""
        source = _plain(self._file)
        yield from _frames(source, self.name, wanted, height, width, fit, largest)


_ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def _plain(file: Media) -> Path | BinaryIO:
    if isinstance(file.source, Path):
        return file.source
    opened = file.open()
    assert not isinstance(opened, str | Forward), "pipes of images are read whole"
    return opened


def _frames(
    source: Path | BinaryIO,
    name: str,
    wanted: Sequence[int],
    height: int | None,
    width: int | None,
    fit: Fit,
    largest: int,
) -> Iterator[np.ndarray]:
    try:
        with Image.open(source) as image:
            if image.width * image.height > largest:
                raise too_large(name, image.height, image.width, largest)
            for number in wanted:
                image.seek(number)
                yield _raster(image, height, width, fit)
    except VideoError:
        raise
    except UnidentifiedImageError:
        raise VideoError(name, "is not an image", _BROKEN) from None
    except _ERRORS as error:
        raise VideoError(name, f"cannot be read as an image ({error})", _BROKEN) from None


def too_large(name: str, height: int, width: int, largest: int) -> VideoError:
    """The error for a single picture of more than `largest` pixels."""
    return VideoError(
        name,
        f"has pictures of {height}x{width}, more than max_pixels={largest}",
        "scale it down first, or raise max_pixels",
    )


def _raster(image: Image.Image, height: int | None, width: int | None, fit: Fit) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scale
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        upright = ImageOps.exif_transpose(Image.fromarray(grey)).convert("RGB")
    else:
        upright = ImageOps.exif_transpose(image)
        upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    if upright.mode == "RGBA":
        upright = Image.fromarray(np.ascontiguousarray(over_black(np.asarray(upright))))
    scaled, out = fit_size((upright.height, upright.width), height, width, fit)
    if scaled != (upright.height, upright.width):
        smaller = scaled[0] <= upright.height and scaled[1] <= upright.width
        method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
        upright = upright.resize((scaled[1], scaled[0]), method)
    return np.array(crop_centre(np.asarray(upright), out), order="C")
