"""Rotary positions: the turns of each position, and turning queries and keys by them.

Knows sizes and positions. Knows no stream.

Shapes: B rows, L tokens, H heads, E head size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lm.model import Sizes

Rope = tuple[Tensor, Tensor]  # cosines and signed sines of the positions


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """Rotary positions on (B, L, H, E), halves paired as in Qwen3."""
    cos, sin = rope
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin


def rope_tables(config: Sizes, dtype: torch.dtype = torch.float32) -> Rope:
    """Cosines and signed sines of every position, (context, E), computed in `dtype`."""
    angles = torch.arange(config.context)[:, None] * frequencies(config, dtype)  # (context, E / 2)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def frequencies(config: Sizes, dtype: torch.dtype = torch.float32) -> Tensor:
    """Radians that each rotary band turns in a position, (E / 2,), quick ones first."""
    steps = torch.arange(0, config.head_dim, 2, dtype=dtype)
    found = config.rope_theta ** (-steps / config.head_dim)
    if config.rope_scaling is not None:
        factor, low, high, original = config.rope_scaling
        turns = original * found / (2 * math.pi)  # within the original context
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        found = found * (kept + (1 - kept) / factor)
    return found
