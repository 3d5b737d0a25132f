"""Layers that see only the past: block-causal convolution, channel norm, space-time shuffles.

Every layer treats each place alike (no absolute position, norm over channels only), so that crops,
other sizes and any length work. Nothing here knows codes, rates or pixels' meaning.

Legend: S sequences, N blocks of each sequence, B = S*N, C channels, T frames of a block, H, W.
Tensors are (B, C, T, H, W), blocks of one sequence side by side in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenizer.convolution import PADDING, convolve, small_conv3d, worthwhile

LAYOUT = torch.channels_last_3d
LEAST = 16  # rows and columns of a matrix product from which on each row is summed alike,
LONGEST = 512  # if it sums no more products than these (Zen 3; AVX-512 machines: 15 and 768)


class Past:
    """What layers remember of earlier blocks: their last input frames, in the order they run.

    `new` holds what the next block needs. It does not grow with time: one frame per convolution,
    a fixed number per attention.
    """

    def __init__(self, num_blocks: int = 1, old: Sequence[Tensor] | None = None) -> None:
        self.num_blocks = num_blocks  # N
        self.old = old
        self.new: list[Tensor] = []

    def frame_before(self, x: Tensor, count: int = 1) -> Tensor:
        """The `count` frames, at most T, before each block of `x` (B, C, T, ...).

        Where none were, the first frame is repeated: (B, C, count, ...).
        """
        last = x[:, :, -count:]
        if self.old is not None:
            before = self.old[len(self.new)]
        else:
            before = x[:, :, :1]
            before = before if count == 1 else torch.cat([before] * count, 2)
        if self.num_blocks == 1:
            self.new.append(last.detach().clone())
            return before
        last = last.unflatten(0, (-1, self.num_blocks))  # (S, N, C, count, ...)
        if self.old is None:
            before = before.unflatten(0, (-1, self.num_blocks))[:, 0]  # (S, C, count, ...)
        self.new.append(last[:, -1].detach().clone())
        return torch.cat([before[:, None], last[:, :-1]], 1).flatten(0, 1)


class BlockConv3d(nn.Conv3d):
    """3x3x3 convolution that sees its whole block and one frame of the past, never a later block.

    Beyond the block's last frame that frame is repeated; around the picture there are zeros.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=PADDING)

    def forward(self, x: Tensor, past: Past) -> Tensor:  # pyright: ignore
        before, x = (
            z.contiguous(memory_format=LAYOUT)  # of several ones `cat` and rounding depend on it
            for z in (past.frame_before(x), x)
        )
        x = torch.cat([before, x, x[:, :, -1:]], 2)  # (B, C, T + 2, H, W)
        x = x.contiguous(memory_format=LAYOUT)
        assert self.bias is not None
        if worthwhile(x, self.weight):
            return small_conv3d(x, self.weight, self.bias)
        return convolve(x, self.weight, self.bias)  # (B, C', T, H, W)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` without gradients whose rows come out the same to the bit among however many.

    MKL sums products of few rows, or few columns, in other orders, which for few columns depend on
    where in memory a row lies, too; and sums long rows in parts that depend on how many rows there
    are. Hence few rows and columns are filled up with zeros here and long rows cut.
    """
    shape, columns = x.shape[:-1], len(weight)
    rows = shape.numel()
    x = x.contiguous()  # other layouts are multiplied as they lie where there is one block
    if min(rows, columns) >= LEAST and x.shape[-1] <= LONGEST:
        return F.linear(x, weight, bias)
    below, right = max(0, LEAST - rows), max(0, LEAST - columns)
    x, weight = F.pad(x.flatten(0, -2), (0, 0, 0, below)), F.pad(weight, (0, 0, 0, right))
    parts, weights = x.split(LONGEST, 1), weight.split(LONGEST, 1)
    bias = None if bias is None else F.pad(bias, (0, right))
    y = F.linear(parts[0], weights[0], bias)
    for part, some in zip(parts[1:], weights[1:], strict=True):
        y = torch.addmm(y, part, some.T)
    return y[:rows, :columns].unflatten(0, shape).contiguous()


class Linear(nn.Linear):
    """A linear map whose rows come out the same to the bit wherever and among however many."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return super().forward(x)
        return multiply(x, self.weight, self.bias)


def silu(x: Tensor) -> Tensor:
    """SiLU of x (B, ...): in place, and each block's the same to the bit whatever stands beside it.

    torch computes the last elements of a tensor, and of a thread's part of it, one by one and
    rounds them otherwise: hence block by block. Training and compiled programs do without.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.silu(x)
    for block in x.unbind():
        F.silu(block, inplace=True)
    return x


class Pointwise(Linear):
    """A linear map of the channels at each place."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ChannelNorm(nn.Module):
    """RMS norm over the channels of each place, with a learned gain."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        gain = self.gain.to(x.dtype)
        return F.rms_norm(x.movedim(1, -1), (len(gain),), gain, 1e-6).movedim(-1, 1)


class Residual(nn.Module):
    """x + convolution(activation(convolution(norm(x)))), the last one starting small."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv1 = BlockConv3d(channels, channels)
        self.conv2 = BlockConv3d(channels, channels)
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        y = self.conv1(self.norm(x), past)
        return x + self.conv2(silu(y), past)


def fold(x: Tensor, time: int, space: int) -> Tensor:
    """Space and time to depth: (B, C, T, H, W) -> (B, C*time*space², T/time, H/space, W/space)."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // time, time, h // space, space, w // space, space)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(
        b, c * time * space * space, t // time, h // space, w // space
    )


def unfold(x: Tensor, time: int, space: int) -> Tensor:
    """Depth to space and time, the inverse of `fold`."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c // (time * space * space), time, space, space, t, h, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(
        b, c // (time * space * space), t * time, h * space, w * space
    )
