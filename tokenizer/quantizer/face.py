"""The face of all quantizers: vectors (B, N, D) in, a `Quantized` out, codes int64, always fp32.

Losses and statistics belong to training passes alone, so that evaluation never changes a
quantizer and a row's codes never depend on the rows beside it. Knows no family but none.

Legend: B blocks, N vectors of a block, R codes of each, D dimensions of a code vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS = 32  # vectors of a block: of a multiple none is a remainder, which torch rounds otherwise
LARGEST = 2**24  # codes; float32 counts no further, and all code vectors must fit in memory


@dataclass(frozen=True)
class Quantized:
    """What a quantizer makes of a batch of vectors."""

    # float32 (B, R*N, D), what the decoder sees; gradients pass straight through. Where R > 1 a
    # vector is the sum of its R parts, all first parts before all second ones.
    quantized: Tensor
    codes: Tensor  # int64 (B, R*N), in [0, codebook_size), of the same parts
    loss: Tensor  # float32 scalar, the quantizer's own loss; 0 where it has none, and in eval


class Quantizer(nn.Module):
    """The face. Subclasses set `dim` and `codebook_size` and fill in the two methods."""

    dim: int  # dimensions of a code vector
    codebook_size: int  # number of different codes; 1: vectors pass and nothing can be decoded
    depth: int = 1  # codes of a vector, R: residual quantizers may give each of theirs a token
    arguments: dict[str, Any]  # JSON values that build this quantizer again

    def forward(self, vectors: Tensor, rounding: bool = True) -> Quantized:
        """Quantize (B, N, D); without `rounding` the vectors pass bounded but unrounded."""
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = vectors.float()
            spare = -vectors.shape[1] % ROWS
            if torch.is_grad_enabled() or not spare:
                return self.quantize(vectors, rounding)
            made = self.quantize(F.pad(vectors, (0, 0, 0, spare)), rounding)
            quantized, codes = (
                x.unflatten(1, (self.depth, -1))[:, :, :-spare].flatten(1, 2)
                for x in (made.quantized, made.codes)
            )
            return Quantized(quantized, codes, made.loss)

    def quantize(self, vectors: Tensor, rounding: bool) -> Quantized:
        raise NotImplementedError

    def vectors(self, codes: Tensor) -> Tensor:
        """Vectors float32 (..., D) of codes int64 (...); where R > 1 of codes (..., R*N)."""
        raise NotImplementedError

    @torch.no_grad()
    def code_vectors(self) -> Tensor:
        """The vector of every code, float32 (codebook_size, D).

        Raises:
            ValueError: A code has several, one at each depth.
        """
        if self.depth > 1:
            raise ValueError(
                f"vectors of {self.depth} codes each: a code has no one vector, which a language "
                "model, the loss `prior` and programs need: set the quantizer's split to false"
            )
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


def join(
    parts: Sequence[Tensor],
    soft: Tensor,
    codes: Sequence[Tensor],
    loss: Tensor,
    rounding: bool,
) -> Quantized:
    """What a residual quantizer gives where each depth has codes of its own.

    Args:
        parts: Of each depth, what it adds (B, N, D).
        soft: The vectors before rounding (B, N, D); the gradient passes the first part, which no
            rate leaves out before the others.
        codes: Of each depth, int64 (B, N).
        loss: The quantizer's own.
        rounding: Without it the first part is all of `soft`, and the others are nothing.
    """
    first, *deeper = (part.detach() for part in parts)
    if rounding:
        added = [straight_through(soft, first), *deeper]
    else:
        added = [soft, *(torch.zeros_like(part) for part in deeper)]
    return Quantized(
        torch.cat(added, 1),
        torch.cat(list(codes), 1),
        loss,
    )


def unfold(code: Tensor, base: int, count: int) -> list[Tensor]:
    """The digits that `fold` made a code of."""
    return [code // base**place % base for place in reversed(range(count))]


def check_size(what: str, codebook_size: int) -> int:
    """The size itself, or a ValueError that says `what` was asked for."""
    if not 2 <= codebook_size <= LARGEST:
        raise ValueError(f"{what}: {codebook_size} codes, a codebook has 2 to 2^24")
    return codebook_size
