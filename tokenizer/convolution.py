"""Convolution, 3x3 in space: rounded alike for any batch, quick to train over tiny pictures.

oneDNN's weight gradient takes 3 to 5 times as long as it should where a picture is 2x2 places or
less, which is what a crop of 16 pixels is to a stride of 8 (measured: 13.0 against 2.8 ms at 96
channels, 32 blocks of 4 frames, one Zen 3 core). Equal to torch's but for rounding.

Legend: B blocks, C, D channels in and out, K taps in time, T frames out (T + K - 1 in), H, W.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST = 4  # places of a picture up to which this is the quicker way
PADDING = (0, 1, 1)


def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution of x (B, C, H, W) or (B, C, T + K - 1, H, W), the same to the bit for any B.

    torch gives a small input that is alone to another method, with other rounding, than oneDNN,
    which has all others. Here oneDNN gets it too; where it cannot be asked, the input is doubled.
    """
    function = F.conv2d if x.ndim == 4 else F.conv3d
    padding = PADDING[5 - x.ndim :]
    if len(x) > 1 or x.device.type != "cpu":
        return function(x, weight, bias, padding=padding)
    traced = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if _plain(x, weight) and not traced and torch.backends.mkldnn.is_available():
        ones = (1,) * len(padding)
        return torch.mkldnn_convolution(x, weight, bias, padding, ones, ones, 1)
    return function(torch.cat([x, x]), weight, bias, padding=padding)[:1]


def _plain(x: Tensor, weight: Tensor) -> bool:
    """Whether both are float32 and stay so."""
    return x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def worthwhile(x: Tensor, weight: Tensor) -> bool:
    """Whether `small_conv3d` is quicker than torch for a training step on this input."""
    return (
        x.shape[3] * x.shape[4] <= LARGEST
        and x.device.type == "cpu"
        and torch.is_grad_enabled()
        and _plain(x, weight)
    )


def small_conv3d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`conv3d(x, weight, bias, padding=(0, 1, 1))` of x (B, C, T + K - 1, H, W)."""
    return _SmallConv3d.apply(x, weight, bias)  # pyright: ignore[reportReturnType]


class _SmallConv3d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # pyright: ignore
        ctx.save_for_backward(x, weight)
        return F.conv3d(x, weight, bias, padding=PADDING)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:  # pyright: ignore
        x, weight = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            ones, none = [1, 1, 1], [0, 0, 0]
            grad_x, _, _ = torch.ops.aten.convolution_backward(
                grad, x, weight, None, ones, PADDING, ones, False, none, 1, [True, False, False]
            )
        return grad_x, _weight_gradient(x, grad), grad.sum((0, 2, 3, 4))


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """(D, C, K, 3, 3): one matrix product per tap, over the places where the tap is inside."""
    frames, height, width = grad.shape[2:]
    taps = x.shape[2] - frames + 1  # in time
    x, grad = (z.permute(2, 3, 4, 0, 1).contiguous() for z in (x, grad))  # (T, H, W, B, C or D)
    out = x.new_empty(taps, 3, 3, grad.shape[4], x.shape[4])
    for h in range(3):
        top, low = max(0, 1 - h), min(height, height + 1 - h)
        for w in range(3):
            left, right = max(0, 1 - w), min(width, width + 1 - w)
            if top >= low or left >= right:
                out[:, h, w] = 0
                continue
            g = grad[:, top:low, left:right].flatten(0, 3).T
            for t in range(taps):
                tap = x[t : t + frames, top + h - 1 : low + h - 1, left + w - 1 : right + w - 1]
                torch.mm(g, tap.flatten(0, 3), out=out[t, h, w])
    return out.permute(3, 4, 0, 1, 2)
