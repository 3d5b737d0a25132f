"""Weights in fewer bits for writing streams on a processor: less memory to read a token.

`bf16`: numbers of 16 bits, products of 16-bit activations. `int8`: 8 bits and a scale for each row
of a matrix, products of 8-bit activations with a scale for each stream. The decoder keeps its own:
models are saved, and prompts read, with those (in bf16 if the weights are). Knows no grammar.

Shapes: B rows, D width, N numbers out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from lm.engine import Reading, Row
from lm.model import Decoder
from lm.sampling import OwnReading
from lm.step import Product, Step

ROWS = 8  # of a product, that the layout of 16-bit numbers is made for; it suits others as well


class Bf16:
    """A matrix (N, D) in 16-bit numbers."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.detach().bfloat16()
        self._fits = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # this processor's kernels
        if self._fits:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, ROWS)

    def __call__(self, x: Tensor) -> Tensor:
        if not self._fits:
            return (self._weight @ x.bfloat16().T).T.to(x.dtype)
        found = torch.ops.mkldnn._linear_pointwise(x.bfloat16(), self._weight, None, "none", [], "")
        return found.to(x.dtype)


class Int8:
    """A matrix (N, D) in 8-bit numbers."""

    def __init__(self, weight: Tensor) -> None:
        weight = weight.detach().float()
        self._scale = weight.abs().amax(dim=1).clamp(min=1e-12) / 127  # (N,)
        numbers = (weight / self._scale[:, None]).round().to(torch.int8)
        self._numbers = torch.ops.onednn.qlinear_prepack(numbers, None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._held = held()

    def __call__(self, x: Tensor) -> Tensor:
        # each row by its own largest number: what a stream reads does not depend on its neighbours
        largest = torch.linalg.vector_norm(x, ord=math.inf, dim=-1, keepdim=True)
        kind, zero, levels = self._held
        scale = largest.clamp_(min=1e-12).div_(levels)  # (B, 1)
        numbers = (x / scale).round_().add_(zero).to(kind)
        found = product(numbers, zero, self._numbers, self._scale, self._zeros)
        return found.mul_(scale).to(x.dtype)


def product(numbers: Tensor, zero: int, matrix: Tensor, scale: Tensor, zeros: Tensor) -> Tensor:
    """8-bit (B, D), less `zero`, by packed int8 (N, D) of row scales (N,): float32 (B, N)."""
    return torch.ops.onednn.qlinear_pointwise(
        numbers, 1.0, zero, matrix, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


@cache
def held() -> tuple[torch.dtype, int, int]:
    """How activations are held: their type, what stands for 0, steps from there to the largest.

    Without sign where that is exact, as it is with VNNI: of numbers with a sign oneDNN has no
    quick product there, unless there is AMX. Processors without VNNI add pairs of products in 16
    bits, where those without a sign overflow, and those with one beyond 63 steps.
    """
    matrix = torch.ops.onednn.qlinear_prepack(torch.full((16, 64), 127, dtype=torch.int8), None)
    ones, zeros = torch.ones(16), torch.zeros(16, dtype=torch.int64)
    for kind, zero in ((torch.uint8, 128), (torch.int8, 0)):
        largest = torch.full((16, 64), zero + 127, dtype=kind)
        sums = product(largest, zero, matrix, ones, zeros)
        if bool((sums == 64 * 127 * 127).all()):
            return kind, zero, 127
    return torch.int8, 0, 63


PRODUCTS: dict[str, Callable[[Tensor], Product]] = {"bf16": Bf16, "int8": Int8}


class ShortEngine:
    """Writes with a copy of a decoder's weights in fewer bits, on a processor.

    Args:
        decoder: Whose weights are copied.
        weights: `bf16` or `int8`.

    Raises:
        ValueError: a decoder that is not on the CPU, or a torch that has no oneDNN.
    """

    def __init__(self, decoder: Decoder, weights: str) -> None:
        device = decoder.table.weight.device
        if device.type != "cpu":
            raise ValueError(f"engine torch:{weights} on {device}: it runs on the CPU, give torch")
        if not torch.backends.mkldnn.is_available():
            raise ValueError(f"engine torch:{weights}: this torch has no oneDNN, give torch")
        self._decoder, self._weights = decoder, weights
        with torch.inference_mode():
            self._step = Step(decoder, PRODUCTS[weights])

    def read(self, rows: Sequence[Row], room: int) -> Reading:
        short = self._weights == "bf16"
        with torch.autocast("cpu", torch.bfloat16, enabled=short, cache_enabled=False):
            return OwnReading(self._decoder, rows, room, self._step)
