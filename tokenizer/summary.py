"""Summary tokens: a few vectors that speak for a whole block, sent before its grid of latents.

Convolutions say what is where; what a block shows as a whole (which thing, which colour, how it
moves) is spread over many latents. A summary pools it into the block's first tokens, so that the
lowest rates still tell it, a decoder has it everywhere at once, and a language model need not
piece it together. They know features and vectors, not codes or labels.

Some of them may speak for a quadrant each. That there is something red and a ring somewhere does
not say that the ring is red; that both are in one corner nearly does (docs/log.md has the gain).

Legend: B blocks, S summary tokens, R of each quadrant, D dimensions of a vector, t, h, w latents, C
channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenizer.layers import Linear, silu

QUADRANTS = 4


def check_regional(summary: int, regional: int) -> None:
    """ValueError unless a summary has room for quadrants and for the whole block."""
    if regional and summary <= QUADRANTS * regional:
        raise ValueError(
            f"regional={regional} with summary={summary}: {QUADRANTS * regional} tokens of the "
            f"summary are the quadrants', give it {QUADRANTS * regional + 1} or more, or regional 0"
        )


class Summarise(nn.Module):
    """The strongest response of each feature in the block, or a quadrant of it, mapped to vectors.

    Args:
        channels: C.
        dim: D.
        count: S.
        regional: R. The last 4 R vectors are of the strongest responses in the upper left, upper
            right, lower left and lower right quarter, the first of each, then the second, ...
    """

    def __init__(self, channels: int, dim: int, count: int, regional: int = 0) -> None:
        super().__init__()
        self.count, self.regional = count, regional
        self.out = Linear(channels, (count - QUADRANTS * regional) * dim)
        self.regions = Linear(channels, regional * dim) if regional else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, h, w, C) to (B, S, D)."""
        x = F.rms_norm(x, x.shape[-1:])
        whole = self.count - QUADRANTS * self.regional
        told = self.out(x.amax((1, 2, 3))).unflatten(1, (whole, -1))
        if self.regions is None:
            return told
        height, width = x.shape[2:4]
        top, bottom = slice((height + 1) // 2), slice(height // 2, None)
        left, right = slice((width + 1) // 2), slice(width // 2, None)
        corners = (top, left), (top, right), (bottom, left), (bottom, right)
        pooled = torch.stack([x[:, :, row, column].amax((1, 2, 3)) for row, column in corners], 1)
        parts = self.regions(pooled).unflatten(2, (self.regional, -1))  # (B, 4, R, D)
        return torch.cat([told, parts.transpose(1, 2).flatten(1, 2)], 1)


class Spread(nn.Module):
    """S vectors back to a feature for every place of the block; those not kept count as zero.

    A place is told what its quadrant's tokens say: the middle row or column of an odd grid, which
    `Summarise` counts to both halves, is the first half's.
    """

    def __init__(self, channels: int, dim: int, count: int, regional: int = 0) -> None:
        super().__init__()
        self.regional = regional
        self.mix = Linear(count * (dim + 1), channels)
        self.out = Linear(channels, channels)
        self.regions = Linear(regional * (dim + 1), channels) if regional else None

    def forward(self, vectors: Tensor, counts: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(B, S, D), of which the first counts (B,) were kept, to features.

        Returns:
            (B, 1, h, w, C), or (B, 1, 1, 1, C) without quadrants.
        """
        kept = kept_of(vectors, counts)
        known = torch.cat([vectors * kept, kept], 2)  # (B, S, D + 1)
        mixed = self.mix(known.flatten(1))
        if self.regions is None:
            return self.out(silu(mixed))[:, None, None, None]
        parts = quadrants_of(known, self.regional).flatten(2)  # (B, 4, R * (D + 1))
        each = self.out(silu(mixed[:, None] + self.regions(parts))).unflatten(1, (2, 2))
        _, height, width = grid
        rows = torch.arange(height, device=each.device) * 2 // height
        columns = torch.arange(width, device=each.device) * 2 // width
        return each[:, rows][:, :, columns][:, None]


def quadrants_of(vectors: Tensor, regional: int) -> Tensor:
    """Of summaries (..., S, D) what each quadrant's tokens say, (..., 4, R, D)."""
    parts = vectors[..., vectors.shape[-2] - QUADRANTS * regional :, :]
    return parts.unflatten(-2, (regional, QUADRANTS)).transpose(-3, -2)


def kept_of(vectors: Tensor, counts: Tensor) -> Tensor:
    """1 for each of the first counts (B,) of vectors (B, S, D), else 0: (B, S, 1)."""
    places = torch.arange(vectors.shape[1], device=vectors.device)
    return (places < counts.to(vectors.device)[:, None]).to(vectors.dtype)[:, :, None]
