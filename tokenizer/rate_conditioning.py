"""`RateModulation`: tells a decoder's layers what share of a block's tokens it was given.

A gain and a shift for each channel of a residual block, read off the share kept (FiLM,
arXiv 1709.07871). One decoder serves every rate; knowing which one it is at saves it from guessing.
It knows numbers of tokens, not their codes or order.

Legend: B blocks, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tokenizer.layers import Linear, silu

HALVINGS = 8  # of the full rate told apart, about; below 2^-12 of it rates look alike
WAVES = 3
LANES = 32  # elements that processors compute at once; fewer are rounded otherwise


def describe(share: Tensor) -> Tensor:
    """Shares (B,) of a block's tokens, 0 to 1, as features of a rate (B, 2 + 2 * WAVES)."""
    share = share.float().clamp(min=2.0**-12)[:, None].expand(-1, LANES).contiguous()
    level = share.log2() / HALVINGS  # (B, LANES), all of a row alike
    turns = math.pi * level * torch.arange(1, LANES + 1, device=level.device)
    level = level[:, :1]
    return torch.cat([level, level * level, turns.sin()[:, :WAVES], turns.cos()[:, :WAVES]], 1)


class RateModulation(nn.Module):
    """The share of tokens kept to a gain and a shift, which start as doing nothing.

    Args:
        channels: Of the layer that is modulated.
        width: Of the layer between.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.read = Linear(2 + 2 * WAVES, width)
        self.out = Linear(width, 2 * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, rate: Tensor) -> tuple[Tensor, Tensor]:
        """What `describe` says of a rate to gain and shift (B, 1, 1, 1, C) each."""
        x = self.out(silu(self.read(rate)))
        gain, shift = x[:, None, None, None].chunk(2, -1)
        return 1 + gain, shift
