"""How a network is run: its number format, whether it is compiled first, whose time is counted.

It knows networks, not clips, rates or files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch

from tokenizer.codec import Codec
from tokenizer.memory import bounded_memory

Precision = Literal["fp32", "bf16"]
Clock = Literal["wall", "cpu"]  # cpu: of this process, all threads; other work does not count
CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@contextmanager
def running(
    codec: Codec, precision: Precision = "fp32", compiled: bool = False, backend: str = "inductor"
) -> Iterator[Codec]:
    """The codec, run in a number format and compiled if asked for, until the block ends.

    fp32 gives the very same codes wherever frames are chunked. bf16 (autocast; quantizers stay in
    fp32) is for processors that multiply it natively (AVX512-BF16, AMX, CUDA): on one with AVX2
    alone factored backbones took 4 times as long as in fp32 and 3D convolutions 90 times. Codes
    change where a vector lies near the border of two (1.2 % of those of the demo's codec), so that
    files of both formats differ; any codec decodes either. Compiled networks sum in another order,
    with the same effect on far fewer codes, and pay only on long jobs: compiling takes tens of
    seconds, again for each new size. On the processor more memory than is free is an error.

    Args:
        codec: The codec, in eval mode.
        precision: fp32 or bf16.
        compiled: Whether `torch.compile` makes new kernels, which wants a C++ compiler.
        backend: Of `torch.compile`.

    Raises:
        ValueError: Frames so large that a block of them does not fit into memory.
    """
    device = next(codec.parameters()).device.type
    backbone = codec.backbone
    if compiled:
        for name in ("encode", "decode"):
            setattr(backbone, name, torch.compile(getattr(backbone, name), backend=backend))
    low = precision == "bf16"
    try:
        with (
            torch.autocast(device, torch.bfloat16) if low else nullcontext(),
            bounded_memory() if device == "cpu" else nullcontext(),
        ):
            yield codec
    finally:
        if compiled:
            del backbone.encode, backbone.decode
