"""Orderings: in which order a block's grid of latents becomes tokens, coarse to fine.

A block's tokens may be cut off anywhere; an ordering says which latents are sent first and with
what the decoder fills the places whose tokens it never got. It knows grids of whole numbers, not
networks, rates or codes.

Legend: B blocks, C channels, N = t*h*w places of the grid in raster order, also tokens in order.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Order = Literal["interlaced", "time-interlaced", "raster"]
ORDERS: tuple[Order, ...] = get_args(Order)
MAX_LEVEL = 12  # halvings told apart: 2^12 places of a block, beyond which levels look alike
NOTHING = MAX_LEVEL + 1  # the number of hops that stands for: no token of the grid was kept


@dataclass(frozen=True)
class Ordering:
    """One order of the places of a grid.

    permutation: int64 (N,), the place of each token, coarse to fine.
    rank: int64 (N,), the token of each place: the inverse of `permutation`.
    parent: int64 (N,), the place that stands in for a place whose token is missing; it always has
    a lower rank, and the first token's place is its own.
    level: int64 (N,), 0 to MAX_LEVEL, the coarseness of each place, known to the encoder.
    """

    permutation: Tensor
    rank: Tensor
    parent: Tensor
    level: Tensor

    def to_tokens(self, grid: Tensor) -> Tensor:
        """Latents in raster order (B, N, C) in the order of their tokens."""
        return grid[:, self.permutation]  # (B, N, C)

    def sources(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Where each place takes its vector when only some tokens were kept.

        Args:
            counts: int64 (B,), tokens kept of each block, 0 to N.

        Returns:
            tokens: int64 (B, N), the token whose vector each place takes: its own, or that of the
                nearest kept ancestor.
            hops: int64 (B, N), how many steps up that ancestor is, 0 where the own token is kept,
                at most MAX_LEVEL; NOTHING where the block kept none.
        """
        empty, counts = counts < 1, counts.clamp(min=1)
        place = torch.arange(len(self.rank)).expand(len(counts), -1)
        hops = torch.zeros_like(place)
        while bool((missing := self.rank[place] >= counts[:, None]).any()):
            hops += missing
            place = torch.where(missing, self.parent[place], place)
        hops = hops.clamp(max=MAX_LEVEL).masked_fill(empty[:, None], NOTHING)
        return self.rank[place], hops


def order_grid(order: Order, time: int, height: int, width: int) -> Ordering:
    """The ordering of a grid of `time` x `height` x `width` latents.

    interlaced: every prefix covers the whole block evenly. The coordinates' bits are interleaved
    (time, height, width) and places sorted by that number read backwards, so that the places
    divisible by the largest powers of two come first and each doubling of the tokens halves the
    spacing along one axis: width, then height, then time, over and over. The rank of one place
    relative to another depends on neither the size of the grid nor the place of a crop on it.

    time-interlaced: the same with time, then width, then height: half a block's tokens say how it
    goes on before pictures get their last detail. Better where all moves (docs/log.md).

    raster: time, then rows, then columns; a cut keeps the first frames.
    """
    with torch.inference_mode(False):  # cached: must serve training too
        return _order_grid(order, time, height, width)


@cache
def _order_grid(order: Order, time: int, height: int, width: int) -> Ordering:
    num = time * height * width
    place = torch.arange(num)
    t, h, w = place // (height * width), place // width % height, place % width
    if order == "raster":
        parent = torch.where(t > 0, place - height * width, torch.where(w > 0, place - 1, place))
        parent = torch.where((t == 0) & (w == 0) & (h > 0), place - width, parent)
        return Ordering(place, place.clone(), parent, torch.zeros_like(place))
    if order not in ORDERS:
        raise ValueError(f"order={order!r}: choose one of {', '.join(ORDERS)}")
    axes = [(w, 1), (h, width), (t, height * width)]  # coarsest first
    if order == "time-interlaced":
        axes = [axes[2], *axes[:2]]
    bits = max(1, (max(time, height, width) - 1).bit_length())
    backwards = torch.zeros_like(place)  # Morton code read from its lowest bit
    level = torch.full_like(place, MAX_LEVEL)
    parent = place.clone()
    for bit in reversed(range(bits)):
        for number, (coordinate, stride) in enumerate(axes):
            on = coordinate >> bit & 1
            backwards += on << 3 * (bits - 1 - bit) + number
            level = torch.where(on > 0, min(MAX_LEVEL, 3 * bit + 2 - number), level)
            parent = torch.where(on > 0, place - (on << bit) * stride, parent)
    permutation = backwards.argsort()
    rank = torch.empty_like(permutation)
    rank[permutation] = place
    return Ordering(permutation, rank, parent, level)


@dataclass(frozen=True)
class BlockLayout:
    """Where the tokens of a block stand, for pictures of any size.

    A place's number counts the summary's tokens first, then the grid in raster order: time, rows,
    columns; then the grid again for each further depth.
    """

    order: Order  # of the grid's tokens, coarse to fine
    time: int  # latents of a block in time
    space_stride: int  # pixels per latent, both ways
    summary: int = 0  # tokens before the grid's
    depth: int = 1  # tokens of a place of the grid: all first ones, then all second ones, ...
    regional: int = 0  # of the summary's last tokens, for each quadrant of the picture, in turns

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """Latents of a block in time, height and width, for a picture of this many pixels."""
        if height < 1 or width < 1:
            raise ValueError(f"{height}x{width} pixels: a picture has at least one")
        return self.time, -(-height // self.space_stride), -(-width // self.space_stride)

    def slots(self, height: int, width: int) -> int:
        """Tokens of a block at the full rate."""
        return self.summary + self.depth * math.prod(self.grid(height, width))

    def as_read(self, height: int, width: int, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` tokens of a block as one would read them: summary, then raster order.

        Coarse to fine says what may be cut off; but neighbours in space and time stand far apart
        in it, and at distances that change from place to place. In raster order they stand at
        the same few distances everywhere, which a language model learns sooner (docs/log.md).

        Returns:
            tokens: int64 (count,), the token (coarse to fine) at each step of the reading.
            places: int64 (count,), its place's number.
        """
        return _as_read(self, self.grid(height, width), count)

    def to_json(self) -> dict[str, Any]:
        """JSON values that build this layout again, without those that most do not need."""
        plain = ("depth", 1), ("regional", 0)
        return {k: v for k, v in asdict(self).items() if (k, v) not in plain}


@cache
def _as_read(layout: BlockLayout, grid: tuple[int, int, int], count: int) -> tuple[Tensor, Tensor]:
    grids = order_grid(layout.order, *grid).permutation.repeat(layout.depth)
    deeper = torch.arange(layout.depth).repeat_interleave(math.prod(grid)) * math.prod(grid)
    placed = torch.cat([torch.arange(layout.summary), layout.summary + deeper + grids])
    if not 1 <= count <= len(placed):
        raise ValueError(f"{count} tokens in a block: at this size blocks have 1 to {len(placed)}")
    places, tokens = placed[:count].sort()
    return tokens, places
