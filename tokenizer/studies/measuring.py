"""Measuring a curve: clips through a `Coder` at each of its points, pictures compared with truth.

One loop for every codec, so that ours and classical ones are judged by the same functions on the
same clips. It does not know how a coder works.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor

from data.clip import Clip
from data.source import Source
from tokenizer.evaluate import METRICS, Progress
from tokenizer.metrics import CodeUsage, moving, squared_error, ssim
from tokenizer.studies.curve import ClipResult, Curve
from tokenizer.studies.gauges import NewGauge

_RUN = 16  # frames compared at a time


@dataclass(frozen=True)
class Coded:
    """What coding one clip at one point gave."""

    frames: Tensor  # uint8 (T, 3, H, W), decoded
    bits: dict[str, float]  # by kind: nominal, packed, coded; packets; file
    tokens: int | None  # None where a codec has none
    encode_seconds: float
    decode_seconds: float
    codes: Tensor | None = None  # int64 (tokens,)
    codebook_size: int | None = None


class Coder(Protocol):
    """A codec with the settings it is to be tried at."""

    @property
    def points(self) -> list[str]:
        """What each point is called, e.g. "crf 23"."""
        ...

    @property
    def protocol(self) -> dict[str, Any]:
        """JSON values that tell all else about it."""
        ...

    def code(self, clip: Clip, point: int) -> Coded:
        """Code and decode a clip at point number `point`."""
        ...


@dataclass(frozen=True)
class ClipSet:
    """Which clips a curve is measured on."""

    source: str
    num_clips: int
    num_frames: int  # over all clips
    sizes: list[str]  # heights x widths in the order seen
    clips: str  # digest of all pixels and times: equal for equal clips
    skipped: int  # that the source could not read


def survey(source: Source, progress: Progress | None = None) -> ClipSet:
    """Look through the clips of a source once."""
    digest, frames, sizes = hashlib.sha256(), 0, dict[str, None]()
    for number in range(len(source)):
        clip = source[number]
        digest.update(str(clip.frames.shape).encode())
        digest.update(clip.frames.contiguous().numpy().tobytes())
        digest.update(clip.timestamps.numpy().tobytes())
        frames += len(clip)
        sizes[f"{clip.height}x{clip.width}"] = None
        if progress is not None:
            progress(number + 1, len(source))
    if not frames:
        raise ValueError(f"{source.name} has no clips: a curve wants at least one")
    name, skipped = source.name, len(source.skipped)
    return ClipSet(name, len(source), frames, list(sizes), digest.hexdigest()[:16], skipped)


def protocol_of(coder: Coder, clips: ClipSet, gauges: Sequence[NewGauge] = ()) -> dict[str, Any]:
    """All that decides a curve's figures: where it is equal, the figures are."""
    more = {gauge.key: gauge.about for gauge in (new() for new in gauges)}
    return {"metrics": METRICS, **more, **asdict(clips), **coder.protocol, "points": coder.points}


def measure(
    coder: Coder,
    source: Source,
    name: str,
    description: str = "",
    clips: ClipSet | None = None,
    progress: Progress | None = None,
    gauges: Sequence[NewGauge] = (),
) -> Curve:
    """The curve of a coder over all clips of a source.

    Args:
        coder: What codes.
        source: The clips; their pixels are the truth.
        name: Of the curve.
        description: For readers.
        clips: What `survey` says of the source, where that is known already.
        progress: Told the clips done, parts of one included, and the clips in all.
        gauges: Measures beyond a curve's own.

    Raises:
        ValueError: A clip cannot be coded at a point, or there are none.
    """
    protocol = protocol_of(coder, clips or survey(source), gauges)
    measures = [new() for new in gauges]
    points, results = range(len(coder.points)), []
    usage: dict[int, CodeUsage] = {}
    timing = {"encode_seconds": [0.0 for _ in points], "decode_seconds": [0.0 for _ in points]}
    for number in range(len(source)):
        clip, coded = source[number], []
        pictures = []
        for point in points:
            one = coder.code(clip, point)
            pictures.append(_compare(clip.frames, one.frames))
            coded.append(one)
            for gauge in measures:
                gauge.add(point, clip.frames, one.frames)
            if one.codes is not None and one.codebook_size is not None:
                usage.setdefault(point, CodeUsage(one.codebook_size)).update(one.codes)
            timing["encode_seconds"][point] += one.encode_seconds
            timing["decode_seconds"][point] += one.decode_seconds
            if progress is not None:
                progress(number + (point + 1) / len(points), len(source))
        results.append(_result(clip, clip.source or f"{source.name} {number}", coded, pictures))
    others = {one.key: one.values() for one in measures} | _code_results(usage, points)
    return Curve.of_clips(name, description, results, protocol, timing, others)


def _code_results(
    usage: Mapping[int, CodeUsage], points: Sequence[int]
) -> dict[str, Sequence[float]]:
    """How codes were used at each point, over all clips; {} where there are none."""
    if not usage:
        return {}
    used = [usage[point] for point in points]
    return {
        "used-codes": tuple(one.used for one in used),
        "entropy": tuple(math.log2(one.perplexity) for one in used),
    }


@dataclass(frozen=True)
class _Picture:
    mse: float
    moving: float  # share of pixels
    moving_mse: float
    ssim: float


def _compare(frames: Tensor, other: Tensor) -> _Picture:
    """How close decoded frames (T, 3, H, W) are to the original ones."""
    if frames.shape != other.shape:
        raise ValueError(
            f"{tuple(frames.shape)} frames were decoded to {tuple(other.shape)}: this codec lost "
            "frames or size, try others of its settings"
        )
    error = similar = moved_error = 0.0
    moved, previous = 0, None
    for run, again in zip(frames.split(_RUN), other.split(_RUN), strict=True):
        mask = moving(run, previous)
        error += float(squared_error(run, again).sum())
        similar += float(ssim(run, again).sum())
        square = (run.float() - again.float()).square().mean(1)  # (n, H, W)
        moved_error += float((square * mask).double().sum())
        moved += int(mask.sum())
        previous = run[-1]
    pixels = len(frames) * frames.shape[2] * frames.shape[3]
    return _Picture(
        mse=error / len(frames),
        moving=moved / pixels,
        moving_mse=moved_error / max(1, moved),
        ssim=similar / len(frames),
    )


def _result(
    clip: Clip, source: str, coded: Sequence[Coded], pictures: Sequence[_Picture]
) -> ClipResult:
    tokens = [one.tokens for one in coded]
    return ClipResult(
        source=source,
        height=clip.height,
        width=clip.width,
        num_frames=len(clip),
        seconds=None if clip.fps is None else len(clip) / clip.fps,  # the last frame lasts too
        moving=pictures[0].moving,
        mse=tuple(picture.mse for picture in pictures),
        moving_mse=tuple(picture.moving_mse for picture in pictures),
        ssim=tuple(picture.ssim for picture in pictures),
        bits={kind: tuple(one.bits[kind] for one in coded) for kind in coded[0].bits},
        tokens=tuple(float(t) for t in tokens if t is not None) if None not in tokens else None,
    )
