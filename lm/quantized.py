"""Weights as 8-bit integers for writing streams on a processor: less memory to read a token.

Each row of a matrix has its own scale; products take bfloat16 activations. The decoder keeps its
weights: prompts are read, and models saved, with those. Knows no grammar.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lm.engine import Reading, Row
from lm.model import Decoder
from lm.sampling import OwnReading
from lm.step import Plain, Product, Step

MULTIPLE = 16  # numbers in a row that torch's product takes at a time; it checks nothing


class Int8:
    """A matrix (N, D) in 8-bit numbers; D is a multiple of 16."""

    def __init__(self, weight: Tensor) -> None:
        largest = weight.detach().float().abs().amax(dim=1).clamp(min=1e-12)
        self.scale = (largest / 127).bfloat16()  # (N,)
        scaled = weight.detach().float() / self.scale.float()[:, None]
        self.numbers = scaled.round().clamp(-127, 127).to(torch.int8)

    def __call__(self, x: Tensor) -> Tensor:
        y = torch.ops.aten._weight_int8pack_mm(
            x.to(torch.bfloat16).contiguous(), self.numbers, self.scale
        )
        return y.to(x.dtype)

    def part(self, low: int, high: int) -> Int8:
        part = object.__new__(Int8)
        part.numbers, part.scale = self.numbers[low:high], self.scale[low:high]
        return part


def int8(weight: Tensor) -> Product:
    """A matrix in 8-bit numbers, or as it is where torch's product does not take its shape."""
    return Plain(weight.detach()) if weight.shape[1] % MULTIPLE else Int8(weight)


class Int8Engine:
    """Writes with a copy of a decoder's weights in 8-bit numbers, on a processor.

    Raises:
        ValueError: a decoder that is not on the CPU.
    """

    def __init__(self, decoder: Decoder) -> None:
        device = decoder.table.weight.device
        if device.type != "cpu":
            raise ValueError(f"engine torch:int8 on {device}: it runs on the CPU, give torch")
        self._decoder = decoder
        with torch.inference_mode():
            self._step = Step(decoder, int8)

    def read(self, rows: Sequence[Row], room: int) -> Reading:
        return OwnReading(self._decoder, rows, room, self._step)
