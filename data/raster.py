"""Pictures as upright RGB of one size: scaling, cropping, turning, and what shows through.

It knows single pictures only, never their times or files.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

Fit = Literal["cover", "stretch"]

# Without FULL_CHR_H_INT swscale drops half the chroma even while scaling down: 30 dB instead of
# 47 for 720p to 128 px. It costs next to nothing.
LARGEST = 2**26  # pixels of a picture that may be asked for: 8192x8192
_EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_SHRINK = Interpolation.AREA | _EXACT
_ENLARGE = Interpolation.BICUBIC | _EXACT


def fit_size(
    size: tuple[int, int], height: int | None, width: int | None, fit: Fit
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What an upright picture of `size` (height, width) is scaled to, and then cropped to.

    One of height and width alone keeps the shape. Both: `cover` scales until both are covered and
    crops the centre, `stretch` changes the shape.
    """
    for name, value in (("height", height), ("width", width)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: give at least 1 pixel")
    scaled, out = _fit(size, height, width, fit)
    if scaled != size and scaled[0] * scaled[1] > LARGEST:
        raise ValueError(
            f"height={height}, width={width}: scales {size[0]}x{size[1]} to {scaled[0]}x{scaled[1]}"
            f" pixels, more than {LARGEST}; ask for a smaller picture"
        )
    return scaled, out


def _fit(
    size: tuple[int, int], height: int | None, width: int | None, fit: Fit
) -> tuple[tuple[int, int], tuple[int, int]]:
    if height is None and width is None:
        return size, size
    if height is None or width is None:
        ratio = height / size[0] if height else (width or 1) / size[1]
        out = (height or max(round(size[0] * ratio), 1), width or max(round(size[1] * ratio), 1))
        return out, out
    if fit == "stretch":
        return (height, width), (height, width)
    if fit != "cover":
        raise ValueError(f"fit='{fit}': give cover or stretch")
    ratio = max(height / size[0], width / size[1])
    scaled = (max(round(size[0] * ratio), height), max(round(size[1] * ratio), width))
    return scaled, (height, width)


def crop_centre(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle (height, width) of an image (H, W, 3)."""
    top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
    return image[top : top + size[0], left : left + size[1]]


def over_black(rgba: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 4) -> (H, W, 3): what shows through is black."""
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return rgba[..., :3]
    return ((rgba[..., :3].astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)


class Rasterizer:
    """Turns decoded frames into upright RGB images of one size, that of the first.

    Args:
        height: Pixels; None keeps the first frame's.
        width: Pixels; None keeps the first frame's.
        fit: See `fit_size`.
    """

    def __init__(self, height: int | None, width: int | None, fit: Fit = "cover") -> None:
        self._size = height, width
        self._fit: Fit = fit
        self._reformatter = VideoReformatter()  # one for all frames: setting it up is what costs
        self._alpha: dict[str, bool] = {}
        self._matrix: bytes | None = None

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """uint8 (H, W, 3), contiguous."""
        turn = self._orientation(frame)
        native = (frame.width, frame.height) if turn[0] else (frame.height, frame.width)
        scaled, out = fit_size(native, *self._size, self._fit)
        self._size = out
        rows, columns = (scaled[1], scaled[0]) if turn[0] else scaled
        shrinking = rows <= frame.height and columns <= frame.width
        same = rows == frame.height and columns == frame.width
        rgb = self._reformatter.reformat(
            frame,
            width=columns,
            height=rows,
            format="rgba" if self._has_alpha(frame) else "rgb24",
            interpolation=_SHRINK if shrinking and not same else _ENLARGE,
            threads=1,
        )
        image = rgb.to_ndarray()
        if image.shape[2] == 4:
            image = over_black(image)
        transposed, vertical, horizontal = turn
        image = image.transpose(1, 0, 2) if transposed else image
        image = image[::-1] if vertical else image
        image = image[:, ::-1] if horizontal else image
        return np.ascontiguousarray(crop_centre(image, out))

    def _has_alpha(self, frame: VideoFrame) -> bool:
        name = frame.format.name
        if name not in self._alpha:
            parts = frame.format.components
            self._alpha[name] = name == "pal8" or any(part.is_alpha for part in parts)
        return self._alpha[name]

    def _orientation(self, frame: VideoFrame) -> tuple[bool, bool, bool]:
        """Whether to transpose, then to flip up-down, then to flip left-right."""
        data = cast(Any, frame.side_data).get(SideDataType.DISPLAYMATRIX)
        if data is not None:
            self._matrix = bytes(data)
        if self._matrix is None:
            return False, False, False
        a, b, _, c, d = np.frombuffer(self._matrix, dtype=np.int32)[:5].tolist()
        # (x, y) goes to (a x + c y, b x + d y): angles between are rounded to a right one.
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return False, d < 0, a < 0
        return True, b < 0, c < 0
