"""Probes of a codec's habits: running sums over blocks, so that clips of any length stream through.

Each is shown every block of a clip in turn, is told where a clip ends, and gives its findings at
the end. They know pixels and codes, not codecs, sources or reports' tables.

Legend: T, H, W frames and pixels of a block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tokenizer.bootstrap import Ratio, decibels, estimate
from tokenizer.diagnosis import (
    Borders,
    ContentScore,
    Drift,
    Flicker,
    FrameBias,
    PositionUse,
)
from tokenizer.metrics import CodeUsage, psnr

EXACT = 64  # positions of a block that are told apart; later ones by doubling runs
POINTS = 240  # of brightness over time
MOVING_EDGES = (0.01, 0.05, 0.2)  # of the share of pixels that move in a block


@dataclass(frozen=True)
class Shown:
    """A block with what it was decoded to."""

    frames: Tensor  # float (T, 3, H, W), 0 to 255; a clip's last block may be shorter
    decoded: Tensor  # likewise
    before: tuple[Tensor, Tensor] | None  # the frame before, of both, (3, H, W); None at a start
    moving: Tensor  # bool (T, H, W)
    times: Tensor  # float64 (T,) seconds
    codes: Tensor  # int64 (K,)
    labels: Mapping[str, str]

    @property
    def changes(self) -> tuple[Tensor, Tensor]:
        """Change from frame to frame of both; one fewer than frames where none was before."""
        if self.before is None:
            return self.frames.diff(dim=0), self.decoded.diff(dim=0)
        return (
            torch.cat([self.before[0][None], self.frames]).diff(dim=0),
            torch.cat([self.before[1][None], self.decoded]).diff(dim=0),
        )


class BorderProbe:
    """Squared error beside block borders against inside; likewise of the change between frames."""

    def __init__(self, block_frames: int) -> None:
        self._beside, self._inside, self._seams, self._within = (Ratio() for _ in range(4))
        self._by_position = torch.zeros(2, block_frames, dtype=torch.float64)  # errors, values
        self._last: tuple[float, float] | None = None  # of a frame that may stand at a border

    def add(self, shown: Shown) -> None:
        length, full = len(shown.frames), self._by_position.shape[1]
        errors = (shown.frames - shown.decoded).square().flatten(1).double()
        sums, size = errors.sum(1).tolist(), errors.shape[1]
        self._by_position[0, :length] += errors.sum(1)
        self._by_position[1, :length] += size
        if self._last is not None:
            self._beside.add(*self._last)  # the block before goes on here
        for place, error in enumerate(sums):
            if place == 0:
                if shown.before is not None:
                    self._beside.add(error, size)
            elif place < full - 1:
                self._inside.add(error, size)
        self._last = (sums[-1], size) if length == full and full > 1 else None
        true, made = shown.changes
        off = (true - made).square().flatten(1).double().sum(1).tolist()
        if shown.before is not None:
            self._seams.add(off.pop(0), size)
        self._within.add(sum(off), size * len(off))

    def end_clip(self) -> None:
        self._last = None
        for part in (self._beside, self._inside, self._seams, self._within):
            part.end_clip()

    def result(self) -> Borders:
        errors, values = self._by_position.tolist()
        seen = [(e, v) for e, v in zip(errors, values, strict=True) if v]
        return Borders(
            decibels(self._beside, self._inside),
            decibels(self._seams, self._within),
            [psnr(error / count) for error, count in seen],
        )


class FlickerProbe:
    """Energy of the change from frame to frame where the original does not move."""

    def __init__(self) -> None:
        self._energy = Ratio()
        self._values = 0

    def add(self, shown: Shown) -> None:
        true, made = shown.changes
        if not len(true):
            return
        still = ~shown.moving[-len(true) :][:, None]  # (n, 1, H, W)
        energies = [float((x.square() * still).double().sum()) for x in (made, true)]
        self._energy.add(*energies)
        self._values += 3 * int(still.sum())

    def end_clip(self) -> None:
        self._energy.end_clip()

    def result(self) -> Flicker:
        made, true = (
            math.sqrt(sum(sums) / max(1, self._values))
            for sums in (self._energy.top, self._energy.low)
        )
        top, low = self._energy.drawn()
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = estimate(np.sqrt(top / low))
        return Flicker(true, made, ratio)


class DriftProbe:
    """Signed error of the brightness, by frame number and as a slope in time."""

    def __init__(self) -> None:
        self._sums: list[float] = []  # by frame number, of each clip's mean over pixels
        self._counts: list[int] = []
        self._slopes = Ratio()
        self._fit = torch.zeros(5, dtype=torch.float64)  # n, t, e, t*t, t*e of this clip
        self._frame, self._origin = 0, 0.0

    def add(self, shown: Shown) -> None:
        bias = (shown.decoded - shown.frames).flatten(1).double().mean(1)
        if self._frame == 0:
            self._origin = float(shown.times[0])
        t = shown.times - self._origin
        self._fit += torch.stack([torch.ones_like(t), t, bias, t * t, t * bias]).sum(1)
        for number, value in enumerate(bias.tolist(), self._frame):
            if number == len(self._sums):
                self._sums.append(0.0)
                self._counts.append(0)
            self._sums[number] += value
            self._counts[number] += 1
        self._frame += len(bias)

    def end_clip(self) -> None:
        n, t, e, tt, te = self._fit.tolist()
        spread = n * tt - t * t
        if n > 1 and spread > 0:
            self._slopes.add((n * te - t * e) / spread, 1)
        self._slopes.end_clip()
        self._fit = torch.zeros_like(self._fit)
        self._frame = 0

    def result(self) -> Drift:
        top, low = self._slopes.drawn()
        slope = estimate(top / low) if low[0] else None
        run = -(-len(self._sums) // POINTS)
        points = [
            FrameBias(first, sum(self._sums[first : first + run]) / sum(self._counts[first:][:run]))
            for first in range(0, len(self._sums), max(1, run))
        ]
        return Drift(slope, sum(self._sums) / max(1, sum(self._counts)), points)


class PositionProbe:
    """Which codes occur, over all and at each position in the block."""

    def __init__(self, codebook_size: int) -> None:
        self.all = CodeUsage(codebook_size)
        self._exact = max(1, min(EXACT, 2**24 // codebook_size))
        self._runs: dict[tuple[int, int], CodeUsage] = {}

    def add(self, shown: Shown) -> None:
        self.all.update(shown.codes)
        for first, last in self._spans(len(shown.codes)):
            codes = shown.codes[first : last + 1]
            use = self._runs.setdefault((first, last), CodeUsage(len(self.all.counts)))
            use.update(codes)

    def _spans(self, count: int) -> list[tuple[int, int]]:
        spans = [(place, place) for place in range(min(count, self._exact))]
        first, last = self._exact, 2 * self._exact - 1
        while first < count:
            spans.append((first, last))
            first, last = last + 1, 2 * last + 1
        return spans

    def end_clip(self) -> None:
        pass

    def result(self) -> list[PositionUse]:
        return [
            PositionUse(first, last, int(use.counts.sum()), use.used, use.perplexity, use.entropy)
            for (first, last), use in sorted(self._runs.items())
        ]


class ContentProbe:
    """Squared error by label, by the share of pixels that move and by detail."""

    def __init__(self) -> None:
        self._blocks: list[tuple[float, float, float, int]] = []  # moving, detail, error, values
        self._labels: dict[str, dict[str, list[float]]] = {}  # error, values, clips
        self._clip, self._now = (0.0, 0), dict[str, str]()

    def add(self, shown: Shown) -> None:
        error = float((shown.frames - shown.decoded).square().double().sum())
        values = shown.frames.numel()
        share = float(shown.moving.float().mean())
        self._blocks.append((share, detail(shown.frames), error, values))
        self._clip = self._clip[0] + error, self._clip[1] + values
        self._now = dict(shown.labels)

    def end_clip(self) -> None:
        for name, value in self._now.items():
            sums = self._labels.setdefault(name, {}).setdefault(value, [0.0, 0.0, 0.0])
            for place, more in enumerate((*self._clip, 1)):
                sums[place] += more
        self._clip = (0.0, 0)

    def result(self, most: int) -> list[ContentScore]:
        """Scores by all; labels of 2 to `most` values, which name kinds rather than clips."""
        if not self._blocks:
            return []
        blocks = np.array(self._blocks)
        edges = np.unique(np.quantile(blocks[:, 1], (0.25, 0.5, 0.75)))
        found = _binned("moving", blocks, 0, MOVING_EDGES, "{:.0%}")
        found += _binned("detail", blocks, 1, edges.tolist(), "{:.1f}")
        for name, values in sorted(self._labels.items()):
            if 2 <= len(values) <= most:
                found += [
                    ContentScore(name, value, int(clips), psnr(error / size))
                    for value, (error, size, clips) in sorted(values.items())
                ]
        return found


def detail(frames: Tensor) -> float:
    """Mean difference of neighbouring pixels, in grey levels, of frames (T, 3, H, W)."""
    grey = frames.mean(1)
    steps = [grey.diff(dim=dim).abs().flatten() for dim in (1, 2)]
    both = torch.cat(steps)
    return float(both.mean()) if len(both) else 0.0


def _binned(
    by: str, blocks: np.ndarray, column: int, edges: Sequence[float], form: str
) -> list[ContentScore]:
    place = np.searchsorted(np.array(edges), blocks[:, column], side="right")
    found = []
    for number in range(len(edges) + 1):
        chosen = blocks[place == number]
        if not len(chosen):
            continue
        low = form.format(edges[number - 1]) if number else form.format(0)
        high = f" to {form.format(edges[number])}" if number < len(edges) else " on"
        error = float(chosen[:, 2].sum() / chosen[:, 3].sum())
        found.append(ContentScore(by, low + high, len(chosen), psnr(error)))
    return found
