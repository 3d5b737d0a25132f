"""`Footage`: how long and how large a video is, said in words or read off a file.

Knows how durations and sizes are spelled. Knows no tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lm.sequence import LIMITS
from tokenizer.rate import mean_duration


@dataclass(frozen=True)
class Footage:
    """Length and size of a video."""

    num_frames: int
    seconds: float  # 0 for one frame
    height: int  # pixels
    width: int  # pixels

    @classmethod
    def of(cls, times: Sequence[float], height: int, width: int) -> Footage:
        """Of frames at these seconds."""
        return cls(len(times), mean_duration(times) or 0.0, height, width)

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}"
        if not self.seconds:
            return f"1 frame of {size}"
        fps = self.num_frames / self.seconds
        return f"{self.num_frames:,} frames of {size}, {self.seconds:g} s at {fps:.4g} fps"


def read_footage(
    duration: str | None, fps: float | None, size: str | None, video: Path | None
) -> tuple[list[float], int, int]:
    """Seconds of each frame, height and width in pixels, of a file or of what is said.

    Args:
        duration: As `read_duration` takes it.
        fps: Frames a second; None: 24.
        size: As `read_size` takes it; None: 1080p.
        video: A file, in place of the others.

    Raises:
        FileNotFoundError: no such file.
        ValueError: both or neither are given, a value is wrong, or there are too many frames.
    """
    if video is not None:
        given = {"duration": duration, "fps": fps, "size": size}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name}={value} with a video: leave it out, the file says it")
        from data.reading import probe, read_times

        info = probe(video)
        times, height, width = read_times(video).tolist(), info.height, info.width
        what = str(video)
    else:
        if duration is None:
            raise ValueError("no video: give --duration (with --fps and --size) or --video")
        rate = 24.0 if fps is None else fps
        if not (rate > 0 and math.isfinite(rate)):
            raise ValueError(f"fps={rate:g}: give frames a second above 0")
        seconds, what = read_duration(duration), f"duration={duration} at {rate:g} fps"
        height, width = read_size("1080p" if size is None else size)
        count = seconds * rate
        if count <= LIMITS["frames"]:
            times = [i / rate for i in range(max(1, round(count)))]
        else:
            times = [0.0] * (LIMITS["frames"] + 1)
    if len(times) > LIMITS["frames"]:
        raise ValueError(
            f"{what}: more than the {LIMITS['frames']:,} frames a header holds: plan it in parts "
            "or at fewer frames a second"
        )
    return times, height, width


def read_duration(text: str) -> float:
    """Seconds of `90`, `90.5`, `1:30` or `1:30:00`.

    Raises:
        ValueError: it is spelled otherwise, or 0.
    """
    parts = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", text.strip())
    seconds = 0.0
    if parts is not None:
        first, *others = [float(part) for part in parts.groups() if part is not None]
        if any(part >= 60 for part in others):
            raise ValueError(f"duration={text}: after a colon give less than 60")
        seconds = first
        for part in others:
            seconds = seconds * 60 + part
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"duration={text}: give seconds such as 90, or 1:30 or 1:30:00, above 0")
    return seconds


def read_size(text: str) -> tuple[int, int]:
    """Height and width in pixels of `1080p` (16:9, an even width) or `WIDTHxHEIGHT`.

    Raises:
        ValueError: it is spelled otherwise, or beyond what a header holds.
    """
    word = text.strip().lower()
    lines, sides = re.fullmatch(r"(\d+)p", word), re.fullmatch(r"(\d+)[x*](\d+)", word)
    height, width = 0, 0
    if lines is not None:
        height = int(lines[1])
        width = 2 * round(height * 8 / 9)
    elif sides is not None:
        width, height = int(sides[1]), int(sides[2])
    if not (1 <= height <= LIMITS["height"] and 1 <= width <= LIMITS["width"]):
        raise ValueError(f"size={text}: give 1080p, 720p or WIDTHxHEIGHT such as 64x64, in pixels")
    return height, width
