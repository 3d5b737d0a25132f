"""The face of all quantizers: vectors (B, N, D) in, a `Quantized` out, codes int64, always fp32.

Losses and statistics belong to training passes alone, so that evaluation never changes a
quantizer and a row's codes never depend on the rows beside it. Knows no family but none.

Legend: B blocks, N tokens of a block, D dimensions of a code vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS = 32  # vectors, a multiple of which is rounded alike wherever each stands
LARGEST = 2**24  # codes; float32 counts no further, and all code vectors must fit in memory


@dataclass(frozen=True)
class Quantized:
    """What a quantizer makes of a batch of vectors."""

    quantized: Tensor  # float32 (B, N, D), what the decoder sees; gradients pass straight through
    codes: Tensor  # int64 (B, N), in [0, codebook_size)
    loss: Tensor  # float32 scalar, the quantizer's own loss; 0 where it has none, and in eval


class Quantizer(nn.Module):
    """The face. Subclasses set `dim` and `codebook_size` and fill in the two methods."""

    dim: int  # dimensions of a code vector
    codebook_size: int  # number of different codes; 1: vectors pass and nothing can be decoded
    arguments: dict[str, Any]  # JSON values that build this quantizer again

    def forward(self, vectors: Tensor, rounding: bool = True) -> Quantized:
        """Quantize (B, N, D); without `rounding` the vectors pass bounded but unrounded."""
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = vectors.float()
            if torch.is_grad_enabled():
                return self.quantize(vectors, rounding)
            count = vectors.shape[:-1].numel()
            rows = F.pad(vectors.flatten(0, -2), (0, 0, 0, -count % ROWS))
            made = self.quantize(rows[None], rounding)
            quantized = made.quantized[0, :count].view_as(vectors)
            return Quantized(quantized, made.codes[0, :count].view(vectors.shape[:-1]), made.loss)

    def quantize(self, vectors: Tensor, rounding: bool) -> Quantized:
        raise NotImplementedError

    def vectors(self, codes: Tensor) -> Tensor:
        """Vectors float32 (..., D) of codes int64 (...)."""
        raise NotImplementedError

    @torch.no_grad()
    def code_vectors(self) -> Tensor:
        """The vector of every code, float32 (codebook_size, D)."""
        device = next((buffer.device for buffer in self.buffers()), None)
        return self.vectors(torch.arange(self.codebook_size, device=device))

    @property
    def learning(self) -> bool:
        """Whether a pass has a loss and may move statistics: in training, with gradients."""
        return self.training and torch.is_grad_enabled()


class Unquantized(Quantizer):
    """No quantization, for ablation: vectors pass, every code is 0 and nothing can be decoded.

    Args:
        dim: Dimensions of a vector.
    """

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.arguments = {"dim": dim}
        self.dim = dim
        self.codebook_size = 1

    def quantize(self, vectors: Tensor, rounding: bool) -> Quantized:
        codes = torch.zeros(vectors.shape[:-1], dtype=torch.int64, device=vectors.device)
        return Quantized(vectors, codes, vectors.new_zeros(()))

    def vectors(self, codes: Tensor) -> Tensor:
        raise ValueError("the Unquantized quantizer has no codes to decode: train with FSQ instead")


def straight_through(soft: Tensor, hard: Tensor) -> Tensor:
    """`hard` to the bit, with the gradient of `soft`."""
    return hard.detach() + (soft - soft.detach())


def on_sphere(vectors: Tensor) -> Tensor:
    """Vectors (..., D) scaled to a root mean square of 1, so that no encoder can outgrow codes."""
    return F.rms_norm(vectors, vectors.shape[-1:])


def fold(digits: Sequence[Tensor], base: int) -> Tensor:
    """One code of several digits, the first the most significant.

    The codes of fewer digits are this one divided by a power of `base`.
    """
    code = digits[0].long()
    for digit in digits[1:]:
        code = code * base + digit
    return code


def unfold(code: Tensor, base: int, count: int) -> list[Tensor]:
    """The digits that `fold` made a code of."""
    return [code // base**place % base for place in reversed(range(count))]


def check_size(what: str, codebook_size: int) -> int:
    """The size itself, or a ValueError that says `what` was asked for."""
    if not 2 <= codebook_size <= LARGEST:
        raise ValueError(f"{what}: {codebook_size} codes, a codebook has 2 to 2^24")
    return codebook_size
