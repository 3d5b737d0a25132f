"""Scalar quantizers: each dimension of a vector rounded to a few levels, once or again and again.

The only importer of vector_quantize_pytorch, whose two have different layouts, int32 codes and, in
the residual one, a gradient that grows with the depth. No loss, no statistics, nothing learned.

Legend: B blocks, N tokens of a block, D dimensions of a code vector.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from tokenizer.quantizer.face import (
    LARGEST,
    Quantized,
    Quantizer,
    check_size,
    fold,
    join,
    straight_through,
    unfold,
)


def library() -> ModuleType:
    """vector_quantize_pytorch, without its and einx's import-time deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import vector_quantize_pytorch
    return vector_quantize_pytorch


class FSQ(Quantizer):
    """Finite scalar quantization (arXiv 2309.15505): each dimension rounded to a few levels.

    Args:
        levels: Values each dimension may take, at least 3; their product is the codebook's size.
    """

    levels: Tensor

    def __init__(self, levels: Sequence[int] = (8, 5, 5, 5)) -> None:
        super().__init__()
        levels = [int(level) for level in levels]
        if not levels or min(levels) < 3 or math.prod(levels) > LARGEST:
            raise ValueError(
                f"levels={levels}: FSQ wants levels of at least 3 with a product of at most 2^24"
            )
        self.arguments = {"levels": levels}
        self.dim = len(levels)
        self.codebook_size = math.prod(levels)
        self.fsq = library().FSQ(levels, return_indices=False)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)

    def bounded(self, vectors: Tensor) -> Tensor:
        """The vectors squeezed into the range of the levels, where rounding would take them."""
        half = (self.levels - 1) * (1 + 1e-3) / 2
        offset = (self.levels % 2 == 0) * 0.5
        squeezed = torch.tanh(vectors + torch.atanh(offset / half)) * half - offset
        return squeezed / (self.levels // 2)  # (B, N, D)

    def quantize(self, vectors: Tensor, rounding: bool) -> Quantized:
        rounded, _ = self.fsq(vectors)
        codes = self.fsq.codes_to_indices(rounded.detach()).long()
        out = rounded if rounding else self.bounded(vectors)
        return Quantized(out, codes, vectors.new_zeros(()))

    def vectors(self, codes: Tensor) -> Tensor:
        flat = self.fsq.indices_to_codes(codes.reshape(1, -1))  # (1, M, D)
        return flat.reshape(*codes.shape, self.dim).float()


class ResidualFSQ(Quantizer):
    """FSQ of what an FSQ left over (the library's ResidualFSQ).

    Its digits are folded into one code, or each is a token, so that a rate may drop deeper ones.

    With L levels and depth n a dimension takes L^n evenly spaced values.

    Args:
        levels: Values each dimension may take at each depth, at least 2.
        depth: How often what is left is quantized again; the codebook has as many codes as the
            product of the levels to this power, or that product where they are split.
        split: Each digit is a token; clips then have `depth` times as many.
    """

    reach: Tensor

    def __init__(
        self, levels: Sequence[int] = (2, 2, 2, 2, 2), depth: int = 2, split: bool = False
    ) -> None:
        super().__init__()
        levels = [int(level) for level in levels]
        if not levels or min(levels) < 2 or depth < 1:
            raise ValueError(
                f"levels={levels}, depth={depth}: give levels of at least 2 and a depth of at "
                "least 1"
            )
        self.arguments = {"levels": levels, "depth": depth}
        if split:
            self.arguments["split"], self.depth = True, depth
        self.dim, self.count, self.base = len(levels), depth, math.prod(levels)
        size = self.base ** (1 if split else depth)
        self.codebook_size = check_size(f"levels={levels}, depth={depth}", size)
        self.fsq = library().ResidualFSQ(levels=levels, num_quantizers=depth)
        reach = 1 + 1 / (torch.tensor(levels) - 1)  # as the library clamps
        self.register_buffer("reach", reach, persistent=False)

    def quantize(self, vectors: Tensor, rounding: bool) -> Quantized:
        _, digits = self.fsq(vectors)  # int32 (B, N, depth)
        soft = torch.tanh(vectors / self.reach) * self.reach
        if self.depth > 1:
            codes = [digit.long() for digit in digits.unbind(-1)]
            parts = [self._part(i, digit) for i, digit in enumerate(codes)]
            return join(parts, soft, codes, vectors.new_zeros(()), rounding)
        codes = fold(digits.unbind(-1), self.base)
        # The library's own output passes its gradient once at every depth: `depth` times too much.
        out = straight_through(soft, self.vectors(codes)) if rounding else soft
        return Quantized(out, codes, vectors.new_zeros(()))

    def vectors(self, codes: Tensor) -> Tensor:
        if self.depth > 1:
            digits = codes.chunk(self.depth, -1)
            return torch.cat([self._part(i, digit) for i, digit in enumerate(digits)], -2)
        out = torch.zeros(*codes.shape, self.dim, device=codes.device)
        for i, digit in enumerate(unfold(codes, self.base, self.count)):
            out = out + self._part(i, digit)
        return out

    def _part(self, place: int, digit: Tensor) -> Tensor:
        """What one depth adds, (..., D), for its codes (...)."""
        return self.fsq.codebooks[place][digit] * self.fsq.scales[place]
