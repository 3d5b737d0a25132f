"""RMSNorm, and queries and keys normalised and turned, with gradients of few passes.

torch takes the gradient of `rms_norm` apart into some ten operations, on a processor as many passes
through memory; what is here takes half of them. Elsewhere, and where torch compiles, torch's own
operations are used, which then are one. Knows tensors and gains.

Shapes: B rows, L tokens, H heads, E head size, n the last dimension.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lm.rope import Rope, rotate


class RMSNorm(nn.RMSNorm):
    """As torch's, over the last dimension, with a gain."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.eps is not None
        if _own(x):
            return _Normalise.apply(x, self.weight, self.eps)  # pyright: ignore[reportReturnType]
        return super().forward(x)


def normalise_and_rotate(x: Tensor, gain: Tensor, eps: float, rope: Rope) -> Tensor:
    """Queries and keys (B, L, H, E) over their mean square, by a gain (H, E), turned."""
    if _own(x):
        return _NormaliseAndRotate.apply(x, gain, eps, *rope)  # pyright: ignore[reportReturnType]
    return rotate(F.rms_norm(x, x.shape[-1:], eps=eps) * gain, rope)


def _own(x: Tensor) -> bool:
    learning = torch.is_grad_enabled() and x.device.type == "cpu"
    return learning and not torch.compiler.is_compiling()


def _normal(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x over its root mean square, and one over that, of 32 bits at least."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    size = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    scale = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return wide * scale, scale


def _pulls(pull: Tensor, gain: Tensor, normal: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and of the gain; `pull` is that of `normal * gain`."""
    both = pull * normal
    to_gain = both.flatten(0, both.ndim - gain.ndim - 1).sum(0)
    along = (both * gain).mean(-1, keepdim=True)
    to_x = (pull * gain).addcmul_(normal, along, value=-1).mul_(scale)
    return to_x, to_gain


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        normal, scale = _normal(x, eps)
        ctx.save_for_backward(gain, normal, scale)
        ctx.kind = x.dtype
        return (normal * gain).to(torch.promote_types(x.dtype, gain.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *pulled: Tensor) -> tuple[Tensor, Tensor, None]:
        to_x, to_gain = _pulls(pulled[0], *ctx.saved_tensors)
        return to_x.to(ctx.kind), to_gain, None


class _NormaliseAndRotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float, cos: Tensor, sin: Tensor) -> Tensor:
        normal, scale = _normal(x, eps)
        ctx.save_for_backward(gain, normal, scale, cos, sin)
        ctx.kind = x.dtype
        y = normal * gain
        turned = (y * cos).addcmul_(y.roll(y.shape[-1] // 2, dims=-1), sin)
        return turned.to(torch.promote_types(x.dtype, gain.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *pulled: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        gain, normal, scale, cos, sin = ctx.saved_tensors
        half = cos.shape[-1] // 2
        pull = pulled[0] * cos
        pull.addcmul_(pulled[0].roll(half, dims=-1), sin.roll(half, dims=-1))
        to_x, to_gain = _pulls(pull, gain, normal, scale)
        return to_x.to(ctx.kind), to_gain, None, None, None
