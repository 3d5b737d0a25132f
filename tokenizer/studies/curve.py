"""`Curve`: rate against distortion of one codec on one set of clips, and its JSON file.

The layout is CompressAI's (`name`, `description`, `results`: equally long lists by metric), with
the protocol and every clip's own figures beside it, from which the results are pooled and can be
pooled again over other draws of the clips. It knows no codec and measures nothing.

Legend: P points of a curve, n clips, R draws of the clips.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.atomic import write_atomically
from tokenizer.metrics import psnr

PRICES = ("coded", "packed", "packets")  # which bits `bpp` counts: the first that a curve has
Lists = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class ClipResult:
    """One clip at all points of a curve; sequences run over the points."""

    source: str  # file or world it came from
    height: int  # pixels
    width: int  # pixels
    num_frames: int
    seconds: float | None  # how long it is shown; None for a single frame
    moving: float  # share of its pixels that changed since the frame before, 0 to 1
    mse: tuple[float, ...]  # mean squared error on 0..255
    moving_mse: tuple[float, ...]  # of the pixels that changed; 0 where none did
    ssim: tuple[float, ...]  # mean over frames
    bits: dict[str, tuple[float, ...]]  # by kind: nominal, packed, coded; packets; file
    tokens: tuple[float, ...] | None = None  # None where there are none


@dataclass(frozen=True)
class Curve:
    """Points of rate and quality in the order they were asked for.

    Keys of `results`: `bpp` bits per pixel of the kind that `protocol["bpp"]` names, `bpp-KIND`
    of each kind, `bps` and `bps-KIND` bits per second likewise, `tokens-per-frame` and
    `tokens-per-second`; `used-codes` the share of the codebook seen and `entropy` of the codes in
    bits a token; `psnr-rgb` dB of the error
    pooled over all pixels, `psnr-rgb-mean` dB mean over clips, `psnr-moving` dB pooled over pixels
    that changed, `ssim-rgb`. A curve made elsewhere may have others, and no clips.
    """

    name: str
    description: str
    results: dict[str, tuple[float, ...]]
    protocol: dict[str, Any] = field(default_factory=dict)  # JSON values: all needed to repeat it
    clips: tuple[ClipResult, ...] = ()
    timing: dict[str, tuple[float, ...]] = field(  # seconds over all clips; never twice the same
        default_factory=dict, compare=False
    )

    def __post_init__(self) -> None:
        lengths = {key: len(values) for key, values in self.results.items()}
        if not lengths or not min(lengths.values()):
            raise ValueError(f"curve '{self.name}' has no results: it wants at least one point")
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{key} {length}" for key, length in lengths.items())
            raise ValueError(f"curve '{self.name}' has lists of unequal length: {told}")
        for key, values in self.results.items():
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"curve '{self.name}': {key} holds what is no finite number")

    @classmethod
    def of_clips(
        cls,
        name: str,
        description: str,
        clips: Sequence[ClipResult],
        protocol: dict[str, Any],
        timing: Lists | None = None,
        others: Lists | None = None,
    ) -> Curve:
        """The curve whose results are pooled over clips, beside `others` that were found so."""
        pooled = pool(clips, np.ones((1, len(clips))))
        return cls(
            name,
            description,
            {key: tuple(values[0].tolist()) for key, values in pooled.items()}
            | {key: tuple(values) for key, values in (others or {}).items()},
            {**protocol, "bpp": price(clips)},
            tuple(clips),
            {key: tuple(values) for key, values in (timing or {}).items()},
        )

    @property
    def num_points(self) -> int:
        return len(next(iter(self.results.values())))

    def metric(self, key: str) -> tuple[float, ...]:
        """The list of a metric; ValueError naming those there are."""
        if key not in self.results:
            known = ", ".join(self.results)
            raise ValueError(f"curve '{self.name}' has no '{key}': it has {known}")
        return self.results[key]


def price(clips: Sequence[ClipResult]) -> str:
    """The kind of bits that `bpp` counts: actual ones, without a container's headers."""
    kinds = clips[0].bits
    return next((kind for kind in PRICES if kind in kinds), next(iter(kinds)))


def pool(clips: Sequence[ClipResult], counts: np.ndarray) -> dict[str, np.ndarray]:
    """The results, each (R, P), of R draws in which clip i occurs counts[r, i] times."""
    frames = np.array([clip.num_frames for clip in clips], dtype=np.float64)
    pixels = np.array([clip.num_frames * clip.height * clip.width for clip in clips], np.float64)
    mse = np.array([clip.mse for clip in clips])  # (n, P)
    area = (counts @ pixels)[:, None]  # (R, 1)
    kinds = {kind: np.array([clip.bits[kind] for clip in clips]) for kind in clips[0].bits}
    spent = kinds[price(clips)]
    results = {"bpp": counts @ spent / area}
    results |= {f"bpp-{kind}": counts @ bits / area for kind, bits in kinds.items()}
    seconds, length = [clip.seconds for clip in clips], None
    if None not in seconds:
        length = (counts @ np.array(seconds, np.float64))[:, None]
        results["bps"] = counts @ spent / length
        results |= {f"bps-{kind}": counts @ bits / length for kind, bits in kinds.items()}
    tokens = [clip.tokens for clip in clips]
    if None not in tokens:
        results["tokens-per-frame"] = counts @ np.array(tokens) / (counts @ frames)[:, None]
        if length is not None:
            results["tokens-per-second"] = counts @ np.array(tokens) / length
    moved = pixels * np.array([clip.moving for clip in clips])
    results["psnr-rgb"] = _psnr(counts @ (mse * pixels[:, None]) / area)
    results["psnr-rgb-mean"] = counts @ _psnr(mse) / counts.sum(1)[:, None]
    similar = np.array([clip.ssim for clip in clips])
    results["ssim-rgb"] = counts @ (similar * frames[:, None]) / (counts @ frames)[:, None]
    if moved.any():
        error = counts @ (np.array([clip.moving_mse for clip in clips]) * moved[:, None])
        results["psnr-moving"] = _psnr(error / np.maximum(counts @ moved, 1.0)[:, None])
    return results


def _psnr(error: np.ndarray) -> np.ndarray:
    return np.vectorize(psnr, otypes=[np.float64])(error)


def save_curve(curve: Curve, path: Path | str) -> None:
    """Write a curve's JSON, whole or not at all."""
    write_atomically(path, (_lines(asdict(curve)) + "\n").encode())


def load_curve(path: Path | str) -> Curve:
    """Read a curve's JSON: one that `save_curve` wrote, or one of CompressAI's.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no curve, or its lists do not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such curve: check the path")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results = {key: tuple(map(float, v)) for key, v in content["results"].items()}
        clips = tuple(_clip(clip) for clip in content.get("clips", ()))
        curve = Curve(
            name=str(content.get("name", path.stem)),
            description=str(content.get("description", "")),
            results=results,
            protocol=dict(content.get("protocol", {})),
            clips=clips,
            timing={key: tuple(map(float, v)) for key, v in content.get("timing", {}).items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a curve ({error}): give JSON with `name` and `results` by metric"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: damaged curve ({error}): measure or copy it again") from None
    if any(len(clip.mse) != curve.num_points for clip in clips):
        raise ValueError(f"{path}: damaged curve (its clips have other points): measure it again")
    return curve


def _clip(content: dict[str, Any]) -> ClipResult:
    lists = {key: tuple(content[key]) for key in ("mse", "moving_mse", "ssim")}
    tokens = content["tokens"]
    bits = {kind: tuple(values) for kind, values in content["bits"].items()}
    tokens = None if tokens is None else tuple(tokens)
    return ClipResult(**{**content, **lists, "bits": bits, "tokens": tokens})


def _lines(value: Any, indent: str = "") -> str:
    """JSON with a line for every list of numbers, so that people can read and compare it."""
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        items = [f"{json.dumps(key)}: {_lines(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(deeper + item for item in items) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        return "[\n" + ",\n".join(deeper + _lines(item, deeper) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
