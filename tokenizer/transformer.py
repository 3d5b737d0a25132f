"""`TransformerBackbone`: attention over a block's latents, of four kinds, on either side.

Pixels become patches at once: nothing runs at full resolution. Like every backbone it is
block-causal and its state is bounded. It knows features, not codes or training.

Legend: B blocks, P = h*w places, T latent times, C channels, N = T*P latents of a block.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tokenizer.attention import Attention, Positions, View, centres
from tokenizer.latents import LatentBackbone, Norm, fold, unfold
from tokenizer.layers import Linear, Past, silu
from tokenizer.ordering import MAX_LEVEL, NOTHING
from tokenizer.summary import Spread, Summarise

Kind = Literal["full", "factored", "window", "queries"]
Sees = Literal["block", "past"]
FINER = 2  # patches of `queries` in a latent, both ways


class TransformerBlock(nn.Module):
    """Attention and a gated map of the channels, each added to what comes in."""

    def __init__(self, channels: int, heads: int, views: list[tuple[View, bool]]) -> None:
        super().__init__()
        self.norms = nn.ModuleList([Norm(channels) for _ in views])
        self.attentions = nn.ModuleList([Attention(channels, heads, *view) for view in views])
        self.norm = Norm(channels)
        self.gate = Linear(channels, 2 * channels)
        self.widen = Linear(channels, 2 * channels)
        self.narrow = Linear(2 * channels, channels)
        with torch.no_grad():
            self.narrow.weight.mul_(0.1)

    def forward(
        self, x: Tensor, positions: Positions, past: Past, seen: Tensor | None = None
    ) -> Tensor:
        """x (B, P, T, C) after looking at itself, or at `seen` (B, P', T, C)."""
        for norm, attention in zip(self.norms, self.attentions, strict=True):
            y = norm(x)
            x = x + attention(y, y if seen is None else seen, positions, past)
        y = self.norm(x)
        return x + self.narrow(silu(self.gate(y)) * self.widen(y))


class TransformerBackbone(LatentBackbone):
    """Attention of one kind in every block.

    full: all places and times at once. factored: places of one time, then times of one place.
    window: all places of the times at most `reach` frames away. queries: latents start as the
    means of finer patches and then read these, and finer patches read latents on the way back;
    in between as full (tokens as queries: TiTok, arXiv 2406.07550; the start as a grid keeps
    codes alive).

    Args:
        dim: Dimensions of the vectors to quantize; the codec checks it against the quantizer.
        patch: Pixels per side of a latent.
        time_stride: Frames per latent.
        width: Channels of a latent.
        heads: Of each attention; width / heads must be even.
        blocks: Transformer blocks, on each side.
        attention: The kind.
        reach: Frames back that a layer sees of earlier blocks, at most one block; a multiple of
            time_stride, 0 for blocks that know no past. With `window` also how far it sees within
            the block, back and ahead.
        sees: Whether a time sees the later ones of its own block (block), or none (past). Frames
            of one latent always see each other.
        summary: Vectors that speak for the whole block, before those of its latents.
        regional: Of the summary, tokens that speak for one quadrant, of each; see `Summarise`.
    """

    def __init__(
        self,
        dim: int = 4,
        patch: int = 8,
        time_stride: int = 2,
        width: int = 128,
        heads: int = 4,
        blocks: int = 3,
        attention: Kind = "full",
        reach: int = 4,
        sees: Sees = "block",
        summary: int = 0,
        regional: int = 0,
    ) -> None:
        super().__init__()
        arguments = {
            "dim": dim,
            "patch": patch,
            "time_stride": time_stride,
            "width": width,
            "heads": heads,
            "blocks": blocks,
            "attention": attention,
            "reach": reach,
            "sees": sees,
            "summary": summary,
        }
        if regional:  # left out at 0: codecs keep the name they had before it
            arguments["regional"] = regional
        self.remember(arguments)
        check_arguments(arguments)
        self.time_stride, self.space_stride = time_stride, patch
        self.finer = FINER if attention == "queries" else 1
        back = reach // time_stride
        view = View(back, back if attention == "window" else None, sees == "block")
        views = [(view, True)]
        if attention == "factored":
            views = [(View(0, 0), True), (view, False)]
        pixels = 3 * time_stride * (patch // self.finer) ** 2
        self.stem = Linear(pixels, width)
        self.level = nn.Embedding(MAX_LEVEL + 1, width)
        crosses = attention == "queries"
        read = [(View(0, None, sees == "block"), True)]  # no past: the latents have it
        self.down = TransformerBlock(width, heads, read) if crosses else None
        self.encoder = nn.ModuleList([TransformerBlock(width, heads, views) for _ in range(blocks)])
        self.to_vector = nn.Sequential(Norm(width), Linear(width, dim))
        self.from_vector = Linear(dim, width)
        self.hops = nn.Embedding(NOTHING + 1, width)
        self.decoder = nn.ModuleList([TransformerBlock(width, heads, views) for _ in range(blocks)])
        self.widen = Linear(width, FINER * FINER * width) if crosses else None
        self.up = TransformerBlock(width, heads, read) if crosses else None
        self.head_norm = Norm(width)
        self.head = Linear(width, pixels)
        self.summarise = Summarise(width, dim, summary, regional) if summary else None
        self.spread = Spread(width, dim, summary, regional) if summary else None
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.hops.weight)

    def encode(self, pixels: Tensor, level: Tensor, past: Past) -> Tensor:
        x = pixels.permute(0, 2, 3, 4, 1).contiguous()  # (B, frames, H, W, 3)
        x = self.stem(fold(x, self.time_stride, self.space_stride // self.finer))
        fine, x = x, _means(x, self.finer)  # (B, T, h * finer, w * finer, C), (B, T, h, w, C)
        grid = x.shape[1:4]
        x = _by_place(x + self.level(level).view(x.shape[1:]))  # (B, P, T, C)
        if self.down is not None:
            x = self.down(x, self._positions(grid, 1, self.finer, x), past, _by_place(fine))
        positions = self._positions(grid, 1, 1, x)
        for block in self.encoder:
            x = block(x, positions, past)
        return self.to_vectors(_by_time(x, grid))

    def decode(
        self,
        vectors: Tensor,
        hops: Tensor,
        grid: tuple[int, int, int],
        past: Past,
        counts: Tensor,
    ) -> Tensor:
        x = _by_place(self.to_features(vectors, hops, grid, counts))
        positions = self._positions(grid, 1, 1, x)
        for block in self.decoder:
            x = block(x, positions, past)
        if self.up is not None and self.widen is not None:
            fine = unfold(self.widen(_by_time(x, grid)), 1, self.finer)
            positions = self._positions(grid, self.finer, 1, x)
            x = self.up(_by_place(fine), positions, past, x)
        sizes = grid[0], grid[1] * self.finer, grid[2] * self.finer
        x = self.head(self.head_norm(_by_time(x, sizes)))
        x = unfold(x, self.time_stride, self.space_stride // self.finer)
        return x.permute(0, 4, 1, 2, 3)  # (B, 3, T * time_stride, H, W)

    def _positions(self, grid: tuple[int, ...], query: int, seen: int, x: Tensor) -> Positions:
        """Of places `query` and `seen` times finer than the grid."""
        _, height, width = grid
        asking, asked = (
            centres(height * n, width * n, self.space_stride // n, x.device) for n in (query, seen)
        )
        return Positions(asking, asked, (self.time_stride, self.space_stride))


def check_arguments(arguments: dict[str, object]) -> None:
    """Refuse what no `TransformerBackbone` can be built from, naming the value."""
    for name, choices in (("attention", get_args(Kind)), ("sees", get_args(Sees))):
        if arguments[name] not in choices:
            raise ValueError(f"{name}={arguments[name]!r}: choose one of {', '.join(choices)}")
    numbers = {k: v for k, v in arguments.items() if isinstance(v, int)}
    if numbers["width"] % (2 * numbers["heads"]):
        raise ValueError(
            f"width={numbers['width']} with heads={numbers['heads']}: give a multiple of "
            f"{2 * numbers['heads']}, so that each head has an even number of channels"
        )
    if numbers["reach"] % numbers["time_stride"]:
        raise ValueError(
            f"reach={numbers['reach']}: give a multiple of time_stride={numbers['time_stride']}"
        )
    if arguments["attention"] == "queries" and numbers["patch"] % FINER:
        raise ValueError(f"patch={numbers['patch']}: queries need a multiple of {FINER}")


def _means(x: Tensor, size: int) -> Tensor:
    """Means of size x size places: (B, T, H, W, C) to (B, T, H / size, W / size, C)."""
    if size == 1:
        return x
    return x.unflatten(3, (-1, size)).unflatten(2, (-1, size)).mean((3, 5))


def _by_place(x: Tensor) -> Tensor:
    """(B, T, h, w, C) to (B, P, T, C)."""
    return x.flatten(2, 3).transpose(1, 2)


def _by_time(x: Tensor, grid: tuple[int, ...]) -> Tensor:
    """(B, P, T, C) to (B, T, h, w, C)."""
    return x.transpose(1, 2).unflatten(2, tuple(grid[1:]))
