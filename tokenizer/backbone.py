"""Backbones: the network on either side of the quantizer, pixels to features and back.

A backbone works on blocks of frames and remembers the past through `Past` alone. It knows grids
and features, not codes, rates, files or training.

Legend: B blocks, C channels, T, H, W frames and pixels, t, h, w latents of a block, N = t*h*w.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tokenizer.layers import BlockConv3d, ChannelNorm, Past, Pointwise, Residual, fold, unfold
from tokenizer.ordering import MAX_LEVEL, NOTHING
from tokenizer.summary import Spread, Summarise, check_regional

ZERO_ALLOWED = ("blocks", "latent_blocks", "reach", "summary", "regional", "rate_conditioned")


class Backbone(nn.Module):
    """The face: an encoder and a decoder over a summary and one grid of latents.

    A block's vectors are its `summary` ones, then those of the N places of its grid.
    """

    time_stride: int  # frames per latent
    space_stride: int  # pixels per latent, both ways
    summary: int = 0  # vectors that speak for the whole block or a quadrant of it
    regional: int = 0  # of these, the last, for each quadrant
    decoder_parts: tuple[str, ...] = (  # submodules that no code depends on
        "from_vector",
        "hops",
        "spread",
        "from_far",
        "decoder",
        "widen",
        "up",
        "head_norm",
        "head",
    )
    arguments: dict[str, Any]  # JSON values that build this backbone again

    def remember(self, arguments: dict[str, Any]) -> None:
        """Keep what this backbone was built from.

        Raises:
            ValueError: A number that must be positive is not.
        """
        for name, value in arguments.items():
            if isinstance(value, int) and value < (0 if name in ZERO_ALLOWED else 1):
                raise ValueError(f"{name}={value}: a {type(self).__name__} needs a positive number")
        self.arguments, self.summary = arguments, arguments["summary"]
        self.regional = arguments.get("regional", 0)
        check_regional(self.summary, self.regional)

    def encode(self, pixels: Tensor, level: Tensor, past: Past) -> Tensor:
        """Pixels (B, 3, T, H, W) to vectors (B, summary + N, dim); `level` (N,) is how coarse a
        place is."""
        raise NotImplementedError

    def decode(
        self,
        vectors: Tensor,
        hops: Tensor,
        grid: tuple[int, int, int],
        past: Past,
        counts: Tensor,
    ) -> Tensor:
        """Vectors to pixels.

        Args:
            vectors: (B, summary + N, dim), the places' on a grid (t, h, w).
            hops: int64 (B, N), from how many steps up each place's vector comes.
            grid: (t, h, w).
            past: What the layers remember.
            counts: int64 (B,), tokens that were kept; of the summary the first so many.

        Returns:
            (B, 3, T, H, W).
        """
        raise NotImplementedError


class ConvBackbone(Backbone):
    """Block-causal 3D convolutions: pixels folded into patches, one stride in time and space.

    Args:
        dim: Dimensions of the vectors to quantize; the codec checks it against the quantizer.
        patch: Pixels per side folded into channels before the first convolution.
        time_stride: Frames per latent.
        stride: Further spatial stride; a latent covers `patch * stride` pixels a side.
        channels: Width at patch resolution.
        latent_channels: Width at latent resolution.
        blocks: Residual blocks at patch resolution, on each side.
        latent_blocks: Residual blocks at latent resolution, on each side.
        summary: Vectors that speak for the whole block, before those of its latents.
        regional: Of the summary, tokens that speak for one quadrant, of each; see `Summarise`.
    """

    def __init__(
        self,
        dim: int = 4,
        patch: int = 4,
        time_stride: int = 2,
        stride: int = 2,
        channels: int = 48,
        latent_channels: int = 96,
        blocks: int = 1,
        latent_blocks: int = 2,
        summary: int = 0,
        regional: int = 0,
    ) -> None:
        super().__init__()
        arguments = {
            "dim": dim,
            "patch": patch,
            "time_stride": time_stride,
            "stride": stride,
            "channels": channels,
            "latent_channels": latent_channels,
            "blocks": blocks,
            "latent_blocks": latent_blocks,
            "summary": summary,
        }
        if regional:  # left out at 0: codecs keep the name they had before it
            arguments["regional"] = regional
        self.remember(arguments)
        self.patch, self.stride, self.time_stride = patch, stride, time_stride
        self.space_stride = patch * stride
        wide, folded = latent_channels, channels * time_stride * stride * stride
        pixels = 3 * patch * patch
        self.stem = BlockConv3d(pixels, channels)
        self.down = nn.ModuleList([Residual(channels) for _ in range(blocks)])
        self.narrow = Pointwise(folded, wide)
        self.level = nn.Embedding(MAX_LEVEL + 1, wide)
        self.encoder = nn.ModuleList([Residual(wide) for _ in range(latent_blocks)])
        self.to_vector = nn.Sequential(ChannelNorm(wide), Pointwise(wide, dim))
        self.from_vector = Pointwise(dim, wide)
        self.hops = nn.Embedding(NOTHING + 1, wide)
        self.decoder = nn.ModuleList([Residual(wide) for _ in range(latent_blocks)])
        self.widen = nn.Sequential(ChannelNorm(wide), Pointwise(wide, folded))
        self.up = nn.ModuleList([Residual(channels) for _ in range(blocks)])
        self.head_norm = ChannelNorm(channels)
        self.head = BlockConv3d(channels, pixels)
        self.summarise = Summarise(wide, dim, summary, regional) if summary else None
        self.spread = Spread(wide, dim, summary, regional) if summary else None
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.hops.weight)

    def encode(self, pixels: Tensor, level: Tensor, past: Past) -> Tensor:
        x = fold(pixels, 1, self.patch)  # (B, 3*patch², T, H/patch, W/patch)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        x = self.stem(x, past)
        for block in self.down:
            x = block(x, past)
        x = self.narrow(fold(x, self.time_stride, self.stride))  # (B, C, t, h, w)
        x = x + self.level(level).T.reshape(1, -1, *x.shape[2:])
        for block in self.encoder:
            x = block(x, past)
        vectors = self.to_vector(x).flatten(2).mT  # (B, N, dim)
        if self.summarise is None:
            return vectors
        return torch.cat([self.summarise(x.permute(0, 2, 3, 4, 1)), vectors], 1)

    def decode(
        self,
        vectors: Tensor,
        hops: Tensor,
        grid: tuple[int, int, int],
        past: Past,
        counts: Tensor,
    ) -> Tensor:
        told, placed = vectors[:, : self.summary], vectors[:, self.summary :]
        placed = placed * (hops < NOTHING)[:, :, None]
        x = self.from_vector(placed.mT.unflatten(2, grid))  # (B, C, t, h, w)
        steps = self.hops(hops).mT.unflatten(2, grid)
        if self.spread is not None:
            steps = steps + self.spread(told, counts, grid).permute(0, 4, 1, 2, 3)
        x = (x + steps).contiguous(memory_format=torch.channels_last_3d)
        for block in self.decoder:
            x = block(x, past)
        x = unfold(self.widen(x), self.time_stride, self.stride)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        for block in self.up:
            x = block(x, past)
        return unfold(self.head(self.head_norm(x), past), 1, self.patch)  # (B, 3, T, H, W)
