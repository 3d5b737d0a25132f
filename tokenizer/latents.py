"""What backbones with channels last share: norm, space and time to depth, and a block's vectors.

It knows latents on a grid and the summary beside them, not what networks stand before and after.

Legend: B blocks, T, H, W frames and places, C channels, N = t*h*w latents of a block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenizer.backbone import Backbone
from tokenizer.ordering import NOTHING
from tokenizer.summary import Spread, Summarise


class Norm(nn.Module):
    """RMS norm over the channels of each place, with a learned gain."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.gain.to(x.dtype), 1e-6)


class LatentBackbone(Backbone):
    """A backbone whose latents are features (B, t, h, w, C); subclasses make the layers."""

    to_vector: nn.Module  # C channels to the vectors to quantize
    from_vector: nn.Module  # and back
    hops: nn.Module  # what a feature is told of how far away its vector comes from
    summarise: Summarise | None
    spread: Spread | None

    def to_vectors(self, x: Tensor) -> Tensor:
        """Features (B, t, h, w, C) to vectors (B, summary + N, dim)."""
        vectors = self.to_vector(x).flatten(1, 3)  # (B, N, dim)
        if self.summarise is None:
            return vectors
        return torch.cat([self.summarise(x), vectors], 1)

    def to_features(
        self, vectors: Tensor, hops: Tensor, grid: tuple[int, int, int], counts: Tensor
    ) -> Tensor:
        """What `decode` is given, to features (B, t, h, w, C)."""
        told, placed = vectors[:, : self.summary], vectors[:, self.summary :]
        placed = placed * (hops < NOTHING)[:, :, None]
        x = self.from_vector(placed) + self.hops(hops)  # (B, N, C)
        x = x.unflatten(1, grid)
        return x if self.spread is None else x + self.spread(told, counts, grid)


def fold(x: Tensor, time: int, space: int) -> Tensor:
    """Space and time to depth: (B, T, H, W, C) -> (B, T/time, H/space, W/space, time*space²*C)."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t // time, time, h // space, space, w // space, space, c)
    x = x.permute(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(b, t // time, h // space, w // space, time * space * space * c)


def unfold(x: Tensor, time: int, space: int) -> Tensor:
    """Depth to space and time, the inverse of `fold`."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h, w, time, space, space, c // (time * space * space))
    x = x.permute(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(b, t * time, h * space, w * space, c // (time * space * space))
