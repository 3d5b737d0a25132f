"""Summary tokens: a few vectors that speak for a whole block, sent before its grid of latents.

Convolutions say what is where; what a block shows as a whole (which thing, which colour, how it
moves) is spread over many latents. A summary pools it into the block's first tokens, so that the
lowest rates still tell it, a decoder has it everywhere at once, and a language model need not
piece it together. They know features and vectors, not codes or labels.

Legend: B blocks, S summary tokens, D dimensions of a vector, t, h, w latents, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenizer.layers import Linear, silu


class Summarise(nn.Module):
    """The strongest response of each feature anywhere in the block, mapped to S vectors."""

    def __init__(self, channels: int, dim: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.out = Linear(channels, count * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, t, h, w, C) to (B, S, D)."""
        pooled = F.rms_norm(x, x.shape[-1:]).amax((1, 2, 3))
        return self.out(pooled).unflatten(1, (self.count, -1))


class Spread(nn.Module):
    """S vectors back to a feature for every place of the block; those not kept count as zero."""

    def __init__(self, channels: int, dim: int, count: int) -> None:
        super().__init__()
        self.mix = Linear(count * (dim + 1), channels)
        self.out = Linear(channels, channels)

    def forward(self, vectors: Tensor, counts: Tensor) -> Tensor:
        """(B, S, D), of which the first counts (B,) were kept, to (B, C)."""
        kept = kept_of(vectors, counts)
        known = torch.cat([vectors * kept, kept], 2)  # (B, S, D + 1)
        return self.out(silu(self.mix(known.flatten(1))))


def kept_of(vectors: Tensor, counts: Tensor) -> Tensor:
    """1 for each of the first counts (B,) of vectors (B, S, D), else 0: (B, S, 1)."""
    places = torch.arange(vectors.shape[1], device=vectors.device)
    return (places < counts.to(vectors.device)[:, None]).to(vectors.dtype)[:, :, None]
