"""Quantizers behind one face: vectors (B, N, D) in, a `Quantized` out, codes int64, always fp32.

The only importer of vector_quantize_pytorch, whose results differ in arity, dtype and layout from
one quantizer to the next. Knows nothing of grids, time or pixels.

Legend: B blocks, N tokens of a block, D dimensions of a code vector.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantized:
    """What a quantizer makes of a batch of vectors."""

    quantized: Tensor  # float32 (B, N, D), what the decoder sees; gradients pass straight through
    codes: Tensor  # int64 (B, N), in [0, codebook_size)
    loss: Tensor  # float32 scalar, the quantizer's own loss; 0 where it has none


class Quantizer(nn.Module):
    """The face. Subclasses set `dim` and `codebook_size` and fill in the three methods."""

    dim: int  # dimensions of a code vector
    codebook_size: int  # number of different codes
    arguments: dict[str, Any]  # JSON values that build this quantizer again

    def forward(self, vectors: Tensor, rounding: bool = True) -> Quantized:
        """Quantize (B, N, D); without `rounding` the vectors pass bounded but unrounded."""
        with torch.autocast(vectors.device.type, enabled=False):
            return self.quantize(vectors.float(), rounding)

    def quantize(self, vectors: Tensor, rounding: bool) -> Quantized:
        raise NotImplementedError

    def vectors(self, codes: Tensor) -> Tensor:
        """Vectors float32 (..., D) of codes int64 (...)."""
        raise NotImplementedError

    def code_vectors(self) -> Tensor:
        """The vector of every code, float32 (codebook_size, D)."""
        return self.vectors(torch.arange(self.codebook_size))


class FSQ(Quantizer):
    """Finite scalar quantization (arXiv 2309.15505): each dimension rounded to a few levels.

    Args:
        levels: Values each dimension may take, at least 3; their product is the codebook's size.
    """

    LARGEST: ClassVar[int] = 2**24  # above it the library's float32 indices collide

    def __init__(self, levels: Sequence[int] = (8, 5, 5, 5)) -> None:
        super().__init__()
        levels = [int(level) for level in levels]
        if not levels or min(levels) < 3 or math.prod(levels) > self.LARGEST:
            raise ValueError(
                f"levels={levels}: FSQ wants levels of at least 3 with a product of at most 2^24"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's and einx's import-time deprecations
            from vector_quantize_pytorch import FSQ as LibraryFSQ
        self.arguments = {"levels": levels}
        self.dim = len(levels)
        self.codebook_size = math.prod(levels)
        self.fsq = LibraryFSQ(levels, return_indices=False)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)

    def bounded(self, vectors: Tensor) -> Tensor:
        """The vectors squeezed into the range of the levels, where rounding would take them."""
        levels: Tensor = self.levels  # pyright: ignore[reportAssignmentType]
        half = (levels - 1) * (1 + 1e-3) / 2
        offset = (levels % 2 == 0) * 0.5
        squeezed = torch.tanh(vectors + torch.atanh(offset / half)) * half - offset
        return squeezed / (levels // 2)  # (B, N, D)

    def quantize(self, vectors: Tensor, rounding: bool) -> Quantized:
        rounded, _ = self.fsq(vectors)
        codes = self.fsq.codes_to_indices(rounded.detach()).long()
        out = rounded if rounding else self.bounded(vectors)
        return Quantized(out, codes, vectors.new_zeros(()))

    def vectors(self, codes: Tensor) -> Tensor:
        flat = self.fsq.indices_to_codes(codes.reshape(1, -1))  # (1, M, D)
        return flat.reshape(*codes.shape, self.dim).float()


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


QUANTIZERS: dict[str, type[Quantizer]] = {"FSQ": FSQ, "Unquantized": Unquantized}
