"""`FactoredBackbone`: convolutions over space, then over time, with channels last throughout.

A 3x3x3 convolution split into 3x3 in space and 3 in time has 2.3 times fewer operations; keeping
channels last makes norms, pointwise maps and the temporal part plain matrix products, so that the
saving is real on a CPU (docs/log.md). Block-causal like every backbone: a block sees itself and
one frame of the past at each layer.

Legend: B blocks, T, H, W frames and places, C channels, N = t*h*w latents of a block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenizer.convolution import convolve, small_conv3d, worthwhile
from tokenizer.latents import LatentBackbone, Norm, fold, unfold
from tokenizer.layers import Linear, Past, silu
from tokenizer.ordering import MAX_LEVEL, NOTHING
from tokenizer.rate_conditioning import RateModulation, describe
from tokenizer.summary import Spread, Summarise


class Spatial(nn.Conv2d):
    """3x3 convolution of each frame, zeros around the picture: (B, T, H, W, C) to (..., C')."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.weight.data = self.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore
        y = x.permute(0, 4, 1, 2, 3)  # channels last in memory
        assert self.bias is not None
        if worthwhile(y, self.weight):
            y = small_conv3d(y, self.weight[:, :, None], self.bias)
            return y.permute(0, 2, 3, 4, 1)
        y = x.flatten(0, 1).permute(0, 3, 1, 2)
        y = convolve(y, self.weight, self.bias)
        return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


class Temporal(Linear):
    """Each place's frame with the one before and the one after it, as one matrix product.

    After the block's last frame that frame is repeated: nothing of a later block is seen.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(3 * inputs, outputs)

    def forward(self, x: Tensor, past: Past) -> Tensor:  # pyright: ignore
        before = past.frame_before(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        x = torch.cat([before, x, x[:, -1:]], 1)  # (B, T + 2, H, W, C)
        return super().forward(torch.cat([x[:, :-2], x[:, 1:-1], x[:, 2:]], -1))


class FactoredResidual(nn.Module):
    """x + temporal(activation(spatial(norm(x)))), the norm's outcome modulated by the rate."""

    def __init__(self, channels: int, modulated: bool = False) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.modulation = RateModulation(channels) if modulated else None
        self.spatial = Spatial(channels, channels)
        self.temporal = Temporal(channels, channels)

    def forward(self, x: Tensor, past: Past, rate: Tensor | None = None) -> Tensor:
        y = self.norm(x)
        if self.modulation is not None and rate is not None:
            gain, shift = self.modulation(rate)
            y = y * gain.to(y.dtype) + shift.to(y.dtype)
        return x + self.temporal(silu(self.spatial(y)), past)


class Coarser(nn.Module):
    """Adds what pictures of a half, a quarter, ... of the size say of each place.

    A residual block on features (B, t, h, w, C) folded two by two, and so on: layers that see far
    for a fraction of the operations of one at full size. Shifted pictures give shifted features
    where the shift is a multiple of 2^levels places.

    Args:
        channels: C.
        inner: Channels at smaller sizes.
        levels: How many times the size is halved.
        modulated: Whether blocks are told the rate.
    """

    def __init__(self, channels: int, inner: int, levels: int, modulated: bool = False) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.narrow = Linear(4 * channels, inner)
        self.block = FactoredResidual(inner, modulated)
        self.coarser = Coarser(inner, inner, levels - 1, modulated) if levels > 1 else None
        self.widen = Linear(inner, 4 * channels)
        with torch.no_grad():
            self.widen.weight.mul_(0.1)

    def forward(self, x: Tensor, past: Past, rate: Tensor | None = None) -> Tensor:
        height, width = x.shape[2:4]
        y = F.pad(self.norm(x), (0, 0, 0, width % 2, 0, height % 2))
        y = self.block(self.narrow(fold(y, 1, 2)), past, rate)
        if self.coarser is not None:
            y = self.coarser(y, past, rate)
        return x + unfold(self.widen(y), 1, 2)[:, :, :height, :width]


class FactoredBackbone(LatentBackbone):
    """Block-causal convolutions, space and time apart: several times quicker on a CPU.

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
        rate_conditioned: Whether the decoder's layers are told what share of the tokens was kept.
        patch_frames: Frames folded into a patch, a divisor of `time_stride`. With more than one,
            patches are mapped to channels and back each by itself, for so many pixels a patch
            would make 3x3 convolutions there cost more than all else; what follows costs less.
        coarser: Halvings of the latents' grid on which each side looks too, half as wide, to see
            far: what few latents are kept of a low rate must speak for much.
        regional: Of the summary, tokens that speak for one quadrant, of each; see `Summarise`.
    """

    def __init__(
        self,
        dim: int = 4,
        patch: int = 4,
        time_stride: int = 2,
        stride: int = 2,
        channels: int = 48,
        latent_channels: int = 128,
        blocks: int = 2,
        latent_blocks: int = 2,
        summary: int = 0,
        rate_conditioned: bool = False,
        patch_frames: int = 1,
        coarser: int = 0,
        regional: int = 0,
    ) -> None:
        super().__init__()
        if time_stride % max(1, patch_frames):
            raise ValueError(
                f"patch_frames={patch_frames}: give a divisor of time_stride={time_stride}"
            )
        arguments: dict[str, Any] = {
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
        # Left out where they change nothing: codecs keep the name they had before these were.
        later = [("rate_conditioned", rate_conditioned, False)]
        later += [("patch_frames", patch_frames, 1), ("coarser", coarser, 0)]
        later.append(("regional", regional, 0))
        arguments |= {name: value for name, value, usual in later if value != usual}
        self.remember(arguments)
        self.rate_conditioned = rate_conditioned
        self.patch, self.stride, self.time_stride = patch, stride, time_stride
        self.space_stride = patch * stride
        self.patch_frames, self.time_fold = patch_frames, time_stride // patch_frames
        wide, folded = latent_channels, channels * self.time_fold * stride * stride
        pixels = 3 * patch * patch * patch_frames
        ends = Spatial if patch_frames == 1 else Linear
        self.stem = ends(pixels, channels)
        self.down = nn.ModuleList([FactoredResidual(channels) for _ in range(blocks)])
        self.narrow = Linear(folded, wide)
        self.level = nn.Embedding(MAX_LEVEL + 1, wide)
        self.encoder = nn.ModuleList([FactoredResidual(wide) for _ in range(latent_blocks)])
        self.to_vector = nn.Sequential(Norm(wide), Linear(wide, dim))
        self.from_vector = Linear(dim, wide)
        self.hops = nn.Embedding(NOTHING + 1, wide)
        self.summarise = Summarise(wide, dim, summary, regional) if summary else None
        self.spread = Spread(wide, dim, summary, regional) if summary else None
        told = rate_conditioned
        self.decoder = nn.ModuleList([FactoredResidual(wide, told) for _ in range(latent_blocks)])
        self.widen = Linear(wide, folded)
        self.up = nn.ModuleList([FactoredResidual(channels, told) for _ in range(blocks)])
        self.head_norm = Norm(channels)
        self.head = ends(channels, pixels)
        half = max(1, wide // 2)
        self.far = Coarser(wide, half, coarser) if coarser else None
        self.from_far = Coarser(wide, half, coarser, told) if coarser else None
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.hops.weight)

    def encode(self, pixels: Tensor, level: Tensor, past: Past) -> Tensor:
        x = pixels.permute(0, 2, 3, 4, 1).contiguous()  # two simple copies beat one of both kinds
        x = fold(x, self.patch_frames, self.patch)  # (B, T/patch_frames, H/patch, W/patch, C)
        x = self.stem(x)
        for block in self.down:
            x = block(x, past)
        x = self.narrow(fold(x, self.time_fold, self.stride))  # (B, t, h, w, C)
        x = x + self.level(level).view(x.shape[1:])
        if self.far is not None:
            x = self.far(x, past)
        for block in self.encoder:
            x = block(x, past)
        return self.to_vectors(x)

    def decode(
        self,
        vectors: Tensor,
        hops: Tensor,
        grid: tuple[int, int, int],
        past: Past,
        counts: Tensor,
    ) -> Tensor:
        x = self.to_features(vectors, hops, grid, counts)
        rate = describe(counts.to(x.device) / vectors.shape[1]) if self.rate_conditioned else None
        if self.from_far is not None:
            x = self.from_far(x, past, rate)
        for block in self.decoder:
            x = block(x, past, rate)
        x = unfold(self.widen(x), self.time_fold, self.stride)  # (B, T, H/patch, W/patch, C)
        for block in self.up:
            x = block(x, past, rate)
        x = unfold(self.head(self.head_norm(x)), self.patch_frames, self.patch)
        return x.permute(0, 4, 1, 2, 3)  # (B, 3, T, H, W)
