"""Running sums of errors, so that clips of any length are scored without being held.

They know pixels, not codecs, rates or sources.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokenizer.metrics import psnr, ssim
from tokenizer.reporting import Score


class Tally:
    """Sums of errors over frames, by clip."""

    def __init__(self) -> None:
        self.clip_errors: list[float] = []
        self.error = self.frames = self.pixels = 0.0
        self.ssim = self.moving_error = self.moving_values = 0.0
        self._clip = (0.0, 0.0)

    def add(self, frames: Tensor, other: Tensor, mask: Tensor, similarity: bool = True) -> None:
        error = (frames.float() - other.float()).square()  # (n, 3, H, W)
        total = float(error.double().sum())
        self._clip = self._clip[0] + total, self._clip[1] + error.numel()
        self.moving_error += float((error.sum(1) * mask).double().sum())
        self.moving_values += 3 * int(mask.sum())
        self.frames += len(frames)
        if similarity:
            self.ssim += float(ssim(frames, other).sum())

    def end_clip(self) -> None:
        error, values = self._clip
        self.error, self.pixels = self.error + error, self.pixels + values
        self.clip_errors.append(error / max(1.0, values))
        self._clip = (0.0, 0.0)

    def score(self, similarity: bool = True) -> Score:
        values = self.moving_values
        return Score(
            psnr=psnr(self.error / max(1.0, self.pixels)),
            psnr_mean=sum(map(psnr, self.clip_errors)) / max(1, len(self.clip_errors)),
            ssim=self.ssim / max(1.0, self.frames) if similarity else None,
            psnr_moving=psnr(self.moving_error / values) if values else None,
        )


class MeanColour(Tally):
    """The error of painting each clip in its mean colour, without keeping the clip."""

    def __init__(self) -> None:
        super().__init__()
        self._sums = (torch.zeros(3, dtype=torch.float64), 0.0, 0)

    def see(self, frames: Tensor) -> None:
        x = frames.double()
        colour, square, count = self._sums
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        self._sums = colour + x.sum((0, 2, 3)), square + float(x.square().sum()), count + pixels

    def end_clip(self) -> None:
        colour, square, count = self._sums
        self._clip = (square - float(colour.square().sum()) / max(1, count), 3.0 * count)
        self._sums = (torch.zeros(3, dtype=torch.float64), 0.0, 0)
        super().end_clip()

    def score(self, similarity: bool = False) -> Score:
        return super().score(similarity)
