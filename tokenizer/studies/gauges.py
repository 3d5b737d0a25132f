"""Measures that a study can add to every curve's own: each sees all clips at all points.

`frechet-random3d` wants no weights: it compares whole sets of clips in the features of a fixed
random network. It is not FVD, whose features are learned, and its values compare with nothing but
themselves. Gauges know frames, not how they were coded.

Legend: n clips, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_CHANNELS = (3, 24, 48, 96)
_SEED = 20_240_607


class Gauge(Protocol):
    """A measure of one curve, summed up clip by clip."""

    @property
    def key(self) -> str:
        """Its name among a curve's results."""
        ...

    @property
    def about(self) -> str:
        """All that its figures depend on besides the clips."""
        ...

    def add(self, point: int, truth: Tensor, frames: Tensor) -> None:
        """Take in a clip at a point: the truth and what was decoded, both uint8 (T, 3, H, W)."""
        ...

    def values(self) -> list[float]:
        """The measure at each point, in order; ValueError where the clips do not give one."""
        ...


NewGauge = Callable[[], Gauge]  # makes one for each curve


class RandomFrechet:
    """Frechet distance between decoded and true clips in the features of a random 3D network.

    Three ReLU convolutions over space and time with fixed random weights, each one's activations
    averaged over the clip: what random features see is colour, contrast, edges and motion. The
    distance is that of FID (arXiv 1706.08500) with covariances shrunk after Ledoit and Wolf (2004),
    as clips are few, and is divided by the true clips' total variance: 0 for equal clips, about 1
    where they lie as far from the truth as true clips from each other.
    """

    key = "frechet-random3d"
    about = f"random3d-v1 seed {_SEED}, {_CHANNELS[-1]} channels, Ledoit-Wolf, of total variance"

    def __init__(self) -> None:
        luck = torch.Generator().manual_seed(_SEED)
        self._weights = [
            torch.randn(own, last, 3, 3, 3, generator=luck) * (2 / (27 * last)) ** 0.5
            for last, own in zip(_CHANNELS, _CHANNELS[1:], strict=False)
        ]
        self._truth: list[np.ndarray] = []
        self._decoded: dict[int, list[np.ndarray]] = {}
        self._length: int | None = None

    def add(self, point: int, truth: Tensor, frames: Tensor) -> None:
        if self._length not in (None, len(truth)):
            raise ValueError(
                f"{self.key} wants clips of one length, these have {self._length} and {len(truth)} "
                "frames: give num_frames, or leave frechet out"
            )
        self._length = len(truth)
        if point == 0:
            self._truth.append(self.features(truth))
        self._decoded.setdefault(point, []).append(self.features(frames))

    @torch.no_grad()
    def features(self, frames: Tensor) -> np.ndarray:
        """Features (D,) of a clip, uint8 (T, 3, H, W)."""
        x = frames.float().permute(1, 0, 2, 3)[None] / 127.5 - 1  # (1, 3, T, H, W)
        found = []
        for number, weight in enumerate(self._weights):
            # Edges are repeated, so that a border of zeros is no feature of small clips.
            x = F.pad(x, (1, 1, 1, 1, 1, 1), mode="replicate")
            x = F.relu(F.conv3d(x, weight, stride=(1 if number == 0 else 2, 2, 2)))
            found.append(x.mean((0, 2, 3, 4)))
        return torch.cat(found).double().numpy()

    def values(self) -> list[float]:
        truth = np.stack(self._truth)
        if len(truth) < 2:
            raise ValueError(f"{self.key} wants at least two clips: give more, or leave it out")
        spread = float(truth.var(0, ddof=1).sum())
        if spread == 0:
            raise ValueError(f"{self.key} wants clips that differ: all are alike")
        return [frechet(truth, np.stack(own)) / spread for _, own in sorted(self._decoded.items())]


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Squared Frechet distance between Gaussians fitted to two sets of features (n, D)."""
    means = [features.mean(0) for features in (first, second)]
    one, other = shrunk_covariance(first), shrunk_covariance(second)
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(0)).sum()
    distance = np.square(means[0] - means[1]).sum() + np.trace(one) + np.trace(other) - 2 * shared
    return max(0.0, float(distance))


def shrunk_covariance(features: np.ndarray) -> np.ndarray:
    """Covariance (D, D) of (n, D), drawn to a multiple of the identity as far as n is small.

    The amount is Ledoit and Wolf's, "A well-conditioned estimator for large-dimensional covariance
    matrices" (2004).
    """
    n, d = features.shape
    centred = features - features.mean(0)
    sample = centred.T @ centred / n
    middle = np.trace(sample) / d * np.eye(d)
    away = np.square(sample - middle).sum()
    # Sum over clips of |x x' - S|^2, without the n outer products.
    lengths = np.square(np.square(centred).sum(1)).sum()
    noise = (lengths / n - np.square(sample).sum()) / n
    amount = 1.0 if away == 0 else float(np.clip(noise / away, 0, 1))
    return (1 - amount) * sample + amount * middle


class PerceptualGauge:
    """Mean perceptual distance of frames, by weights that the user brings.

    Args:
        weights: File for `tokenizer.perceptual.load_perceptual`, whose errors are raised.
    """

    def __init__(self, weights: Path) -> None:
        from tokenizer.perceptual import load_perceptual

        self._network = load_perceptual(weights)
        self._sums: dict[int, float] = {}
        self._frames: dict[int, int] = {}
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
        self.key = "lpips" if self._network.is_lpips else "vgg-distance"
        self.about = f"VGG16 weights {digest}"

    def add(self, point: int, truth: Tensor, frames: Tensor) -> None:
        from tokenizer.perceptual import perceptual_distance

        runs = zip(truth.split(16), frames.split(16), strict=True)
        total = sum(len(a) * perceptual_distance(self._network, a, b) for a, b in runs)
        self._sums[point] = self._sums.get(point, 0.0) + total
        self._frames[point] = self._frames.get(point, 0) + len(truth)

    def values(self) -> list[float]:
        return [total / self._frames[point] for point, total in sorted(self._sums.items())]
