"""What a codec's network costs on this machine: operations, peak memory and time, by clip size.

Each piece of work runs in a process of its own, forked fresh, so that its peak memory is its own
and that nothing it does, dying included, ends the run. It knows codecs and training steps, not
what is compared with what.
"""

from __future__ import annotations

import multiprocessing
import platform
import statistics
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tokenizer.backbone import Backbone
from tokenizer.codec import Codec
from tokenizer.learning import Learner
from tokenizer.ordering import Order
from tokenizer.quantizer import Quantizer
from tokenizer.recipe import Recipe
from tokenizer.running import CLOCKS, Clock, Precision, running

PRELOADED = [__name__, "vector_quantize_pytorch"]  # slow to import; forked from then on
Kind = Literal["clip", "step"]
"""clip: encoding and decoding clips. step: a training step on them, whole."""


@dataclass(frozen=True)
class Design:
    """A codec and its training before there are weights; it can be sent to another process."""

    backbone: type[Backbone]
    backbone_arguments: dict[str, Any]
    quantizer: type[Quantizer]
    quantizer_arguments: dict[str, Any]
    block_frames: int
    order: Order
    recipe: Recipe

    @classmethod
    def of(cls, codec: Codec, recipe: Recipe) -> Design:
        backbone, quantizer = codec.backbone, codec.quantizer
        parts = type(backbone), backbone.arguments, type(quantizer), quantizer.arguments
        return cls(*parts, codec.block_frames, codec.order, recipe)

    def build(self, block_frames: int | None = None) -> Codec:
        """A codec of random weights, with blocks of `block_frames` frames instead if given."""
        backbone = self.backbone(**self.backbone_arguments)
        quantizer = self.quantizer(**self.quantizer_arguments)
        return Codec(backbone, quantizer, block_frames or self.block_frames, self.order)


@dataclass(frozen=True)
class Shape:
    """Clips that are handled together."""

    clips: int
    frames: int  # of a clip
    height: int  # pixels
    width: int  # pixels
    block_frames: int  # of a block


@dataclass(frozen=True)
class Manner:
    """How costs are measured."""

    repeats: int  # of which a time is the median
    precision: Precision
    clock: Clock
    threads: int
    seed: int


@dataclass(frozen=True)
class Cost:
    """What one piece of work took, or why there is no figure."""

    operations: int | None = None  # FLOP of all clips: products, convolutions, attention
    memory: float | None = None  # MiB at the peak, above a process that did one tiny clip
    seconds: float | None = None  # for all clips, median
    reason: str | None = None  # why it could not be measured, in one line


def measure_cost(design: Design, kind: Kind, shape: Shape, manner: Manner) -> Cost:
    """Measure one piece of work in a new process; whatever goes wrong there becomes a reason."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, design, kind, shape, manner))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:  # it ended without a word
        process.join()
        ended = process.exitcode
        cause = "killed, as systems out of memory do" if ended == -9 else f"exit code {ended}"
        return Cost(reason=f"its process died ({cause})")
    finally:
        process.kill()
        process.join()
        ours.close()


def _child(pipe: Any, design: Design, kind: Kind, shape: Shape, manner: Manner) -> None:
    warnings.simplefilter("ignore")
    _limit_memory()
    try:
        pipe.send(_measure(design, kind, shape, manner))
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        short = isinstance(error, MemoryError) or "allocate memory" in text
        pipe.send(Cost(reason="out of memory" if short else f"{type(error).__name__}: {text}"))


def _measure(design: Design, kind: Kind, shape: Shape, manner: Manner) -> Cost:
    torch.set_num_threads(manner.threads)
    torch.manual_seed(manner.seed)
    codec = design.build(shape.block_frames)
    work = (_coding if kind == "clip" else _training)(codec, design.recipe, manner)
    side = codec.backbone.space_stride
    work(_noise(replace(shape, frames=shape.block_frames, height=side, width=side), manner.seed))
    before = peak_memory()
    frames = _noise(shape, manner.seed)
    work(frames)
    memory = peak_memory() - before
    now, seconds = CLOCKS[manner.clock], []
    for _ in range(manner.repeats):
        began = now()
        work(frames)
        seconds.append(now() - began)
    operations = count_operations(lambda: work(frames))
    return Cost(operations, memory, statistics.median(seconds))


def _coding(codec: Codec, recipe: Recipe, manner: Manner) -> Callable[[Tensor], object]:
    """Clips to tokens at the full rate, and back."""
    codec.eval()

    def work(frames: Tensor) -> object:
        with running(codec, manner.precision):
            return codec.decode_batch(codec.encode_batch(frames))

    return work


def _training(codec: Codec, recipe: Recipe, manner: Manner) -> Callable[[Tensor], object]:
    """One step as late in a run, when all losses are on; on whole clips, as crops hide the size."""
    learner = Learner(codec, replace(recipe, crop=0), manner.seed, manner.precision)
    return lambda frames: learner.step(frames, 1.0)


def _noise(shape: Shape, seed: int) -> Tensor:
    size = shape.clips, shape.frames, 3, shape.height, shape.width
    luck = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=luck)


def count_operations(work: Callable[[], object]) -> int:
    """FLOP of matrix products, convolutions and attention in `work`, backward passes included.

    A multiplication and an addition are two. Attention is counted in its plain form: of the fused
    kernels, torch's counter misses those of CPUs.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def peak_memory() -> float:
    """MiB that this process ever held at once."""
    import resource  # not on Windows, which cannot fork either

    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _limit_memory() -> None:
    """Let this process have what is free now, so that it fails before the system kills others."""
    import resource

    try:
        free = int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0])
        held = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0])
    except (OSError, IndexError):
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = (free + held) * 1024
    resource.setrlimit(
        resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard)
    )  # below 0 is no limit


@cache
def machine() -> dict[str, Any]:
    """What figures depend on besides the code: processor, cores, memory and torch."""
    name, memory = platform.processor() or platform.machine(), None
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
        total = Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]
        memory = round(int(total) / 2**20)
    except (OSError, StopIteration, IndexError):
        pass
    return {
        "processor": name,
        "cores": multiprocessing.cpu_count(),
        "memory_gib": memory,
        "system": platform.system(),
        "torch": str(torch.__version__),
    }
