"""Attention over the places and times of a block and a bounded stretch of the past.

One module with two choices: which places stand together (all of them, or each alone) and which
times a time sees (a contiguous span, so that no mask is needed and what is not seen costs
nothing). Positions enter as rotations by pixels and frames apart: any size and length works.

Legend: B blocks, P places, T latent times of a block, m times remembered, C channels, h heads.
Features are (B, P, T, C).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenizer.layers import Linear, Past

LONGEST = 256.0  # wavelength of the slowest rotation, in latents
ALIGNED = 16  # numbers of 4 bytes: a line of the cache


@dataclass(frozen=True)
class View:
    """Which times of the block and the past a time sees.

    back: latent times remembered of earlier blocks, at most those of one block.
    window: times further than this from one's own are not seen; None sees all there are.
    ahead: whether later times of the own block are seen.
    """

    back: int
    window: int | None = None
    ahead: bool = True

    def spans(self, times: int, back: int) -> list[tuple[int, int, int, int]]:
        """Runs of a block's times that see the same: (from, to, seen from, seen to).

        Args:
            times: T; the first two numbers count from the block's first time.
            back: Times remembered; the last two numbers count from the first of these.
        """
        runs: list[tuple[int, int, int, int]] = []
        for time in range(times):
            low, high = 0, back + (times if self.ahead else time + 1)
            if self.window is not None:
                low = max(low, back + time - self.window)
                high = min(high, back + time + self.window + 1)
            if runs and runs[-1][2:] == (low, high):
                runs[-1] = (runs[-1][0], time + 1, low, high)
            else:
                runs.append((time, time + 1, low, high))
        return runs


def rotations(places: Tensor, times: Tensor, strides: tuple[float, float], size: int) -> Tensor:
    """Angles by which the pairs of a head's channels turn, float32 (P, T, size / 2).

    Pairs take turns at time, height and width; within an axis wavelengths grow from two latents
    to LONGEST of them (RoPE, arXiv 2104.09864, by axis).

    Args:
        places: float32 (P, 2), pixels down and right.
        times: float32 (T,), frames.
        strides: Frames and pixels of a latent, by which the fastest rotations are scaled.
        size: Channels of a head.
    """
    shape = len(places), len(times)
    axes = [times.expand(shape), *(places[:, i, None].expand(shape) for i in range(2))]
    steps = [strides[0], strides[1], strides[1]]
    count = -(-(size // 2) // 3)
    angles = []
    for pair in range(size // 2):
        share = pair // 3 / max(1, count - 1)
        wavelength = 2 * (LONGEST / 2) ** share * steps[pair % 3]
        angles.append(axes[pair % 3] * (2 * math.pi / wavelength))
    return torch.stack(angles, -1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of channels of x (B, P, T, h, D) by angles (P, T, D / 2)."""
    cos, sin = angles.cos()[:, :, None], angles.sin()[:, :, None]
    one, other = x.float().chunk(2, -1)
    return torch.cat([one * cos - other * sin, one * sin + other * cos], -1).to(x.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What queries (B, h, N, D) gather, each the same to the bit whatever else is in the batch.

    A CPU's sums depend on where in memory an operand begins, and torch gives each thread room for
    its N x N' logits right behind another's. But for training, rows and channels are filled up
    with zeros, so that everything begins at a multiple of ALIGNED numbers.
    """
    if torch.is_grad_enabled() or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value)
    rows, size = query.shape[-2:]
    below, right = -rows % ALIGNED, -size % ALIGNED
    query = F.pad(query, (0, right, 0, below)).contiguous()
    key, value = (F.pad(z, (0, right)).contiguous() for z in (key, value))
    y = F.scaled_dot_product_attention(query, key, value, scale=size**-0.5)
    return y[..., :rows, :size]


class Attention(nn.Module):
    """Each place and time attends to those in view.

    Queries and keys are RMS-normed per head: Muon's steps are large, and logits stay bounded.

    Args:
        channels: C.
        heads: h, of which C / h is even.
        view: Which times are seen.
        joint: Whether all places stand together; else each place sees itself alone, over time.
    """

    def __init__(self, channels: int, heads: int, view: View, joint: bool = True) -> None:
        super().__init__()
        self.heads, self.view, self.joint = heads, view, joint
        self.query = Linear(channels, channels, bias=False)
        self.key = Linear(channels, channels, bias=False)
        self.value = Linear(channels, channels, bias=False)
        self.out = Linear(channels, channels)
        with torch.no_grad():
            self.out.weight.mul_(0.1)

    def forward(self, x: Tensor, seen: Tensor, positions: Positions, past: Past) -> Tensor:
        """What x (B, P, T, C) gathers from `seen` (B, P', T, C) and its past: (B, P, T, C)."""
        query, key = self._split(self.query(x)), self._split(self.key(seen))
        query, key = (F.rms_norm(z, z.shape[-1:]) for z in (query, key))
        both = torch.cat([key, self._split(self.value(seen))], -1)  # (B, P', T, h, 2D)
        back = min(self.view.back, x.shape[2])
        if back:
            both = torch.cat([past.frame_before(both, back), both], 2)  # (B, P', m + T, h, 2D)
        key, value = both.chunk(2, -1)
        query = rotate(query, positions.angles(x.shape[2], 0, query.shape[-1], seen=False))
        key = rotate(key, positions.angles(x.shape[2], back, key.shape[-1], seen=True))
        parts = [
            self._attend(query[:, :, a:b], key[:, :, c:d], value[:, :, c:d])
            for a, b, c, d in self.view.spans(x.shape[2], back)
        ]
        return self.out(torch.cat(parts, 2).flatten(3))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        places, times = query.shape[1:3]
        merge = (1, 2) if self.joint else (0, 1)
        query, key, value = (z.flatten(*merge).transpose(1, 2) for z in (query, key, value))
        y = attend(query, key, value).transpose(1, 2)
        return y.unflatten(1, (places, times)) if self.joint else y.unflatten(0, (-1, places))


@dataclass(frozen=True)
class Positions:
    """Where features stand: centres of places in pixels, times in frames.

    query: float32 (P, 2) and seen: float32 (P', 2), pixels down and right.
    strides: Frames and pixels of a latent.
    """

    query: Tensor
    seen: Tensor
    strides: tuple[int, int]

    def angles(self, times: int, back: int, size: int, seen: bool) -> Tensor:
        """`rotations` of T times and `back` ones before them, counted from the block's first."""
        places = self.seen if seen else self.query
        frames = torch.arange(-back, times, device=places.device) * float(self.strides[0])
        return rotations(places, frames, self.strides, size)


def centres(height: int, width: int, pixels: int, device: torch.device) -> Tensor:
    """Middles of a grid's places in raster order, float32 (height * width, 2), in pixels."""
    rows, columns = (torch.arange(n, device=device) * pixels + pixels / 2 for n in (height, width))
    return torch.cartesian_prod(rows, columns).view(-1, 2)
