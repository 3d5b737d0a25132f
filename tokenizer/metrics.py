"""Metrics of pictures and codes: pure functions of tensors, and usage gathered over many clips.

They know no codec. Pixels are uint8, or any numbers from 0 to 255.

Legend: T, H, W frames and pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

PEAK = 255.0
CEILING = 100.0  # dB reported for a perfect picture, so that means stay finite
_CACHED = 200_000  # pixels SSIM works on at a time: what a processor's cache holds


def squared_error(frames: Tensor, other: Tensor) -> Tensor:
    """Mean squared error per frame, float64 (T,), of frames (T, 3, H, W)."""
    return (frames.float() - other.float()).square().flatten(1).double().mean(1)


def psnr(error: Tensor | float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error on 0..255, at most 100."""
    error = float(error)
    return CEILING if error <= 0 else min(CEILING, 10 * math.log10(PEAK**2 / error))


def ssim(frames: Tensor, other: Tensor) -> Tensor:
    """Structural similarity per frame, float64 (T,), of frames (T, 3, H, W).

    Wang et al. 2004: Gaussian window of 11 pixels and sigma 1.5 within the picture (smaller where
    the picture is), each colour channel by itself, mean over pixels and channels.
    """
    side = min(11, frames.shape[-2], frames.shape[-1])
    places = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    line = torch.exp(-places.square() / (2 * 1.5**2))
    taps = (line / line.sum()).tolist()
    run = max(1, _CACHED // (frames.shape[-2] * frames.shape[-1]))
    planes = zip(frames.flatten(0, 1).split(run), other.flatten(0, 1).split(run), strict=True)
    similar = torch.cat([_similarity(x.float(), y.float(), taps) for x, y in planes])
    return similar.unflatten(0, frames.shape[:2]).mean(1)


def _similarity(x: Tensor, y: Tensor, taps: Sequence[float]) -> Tensor:
    """SSIM per plane, float64 (P,), of planes (P, H, W)."""
    mean_x, mean_y = _blur(x, taps), _blur(y, taps)
    var_x, var_y = _blur(x * x, taps) - mean_x**2, _blur(y * y, taps) - mean_y**2
    cov = _blur(x * y, taps) - mean_x * mean_y
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return (top / bottom).flatten(1).double().mean(1)


def _blur(planes: Tensor, taps: Sequence[float]) -> Tensor:
    """Weighted sums over windows along both sides; shifted sums are faster here than conv2d."""
    for dim in (-2, -1):
        size = planes.shape[dim] - len(taps) + 1
        total = planes.narrow(dim, 0, size) * taps[0]
        for first, weight in enumerate(taps[1:], 1):
            total.add_(planes.narrow(dim, first, size), alpha=weight)
        planes = total
    return planes


def moving(frames: Tensor, previous: Tensor | None = None, threshold: float = 8.0) -> Tensor:
    """Where pixels changed since the frame before, bool (T, H, W); nowhere without one.

    Args:
        frames: (T, 3, H, W).
        previous: The frame before the first, (3, H, W), where there is one.
        threshold: Change of the mean over colours that counts, of 255.
    """
    grey = frames.float().mean(1)
    before = grey[:1] if previous is None else previous.float().mean(0)[None]
    return torch.cat([before, grey]).diff(dim=0).abs() > threshold


class CodeUsage:
    """How often each code occurs over everything seen since `reset`."""

    def __init__(self, codebook_size: int) -> None:
        self.counts = torch.zeros(codebook_size, dtype=torch.int64)

    def reset(self) -> None:
        self.counts.zero_()

    def update(self, codes: Tensor) -> None:
        """Count codes, int64 of any shape."""
        self.counts += torch.bincount(codes.flatten().cpu(), minlength=len(self.counts))

    @property
    def used(self) -> float:
        """Share of the codebook that occurred, 0 to 1."""
        return float((self.counts > 0).double().mean())

    @property
    def entropy(self) -> float:
        """Bits of a code, each by itself; an ideal static coder would spend so many."""
        total = int(self.counts.sum())
        if not total:
            return 0.0
        share = self.counts[self.counts > 0].double() / total
        return max(0.0, float(-(share * share.log2()).sum()))

    @property
    def perplexity(self) -> float:
        """2 to the entropy: how many equally likely codes would be as diverse."""
        return 2.0**self.entropy
