"""Speed of codecs side by side: frames a second, operations a frame, parameters.

    python benchmarks/codecs.py --model runs/doom-codec/codec --repeats 5

Beside the codecs named stand three grids of the public kind, strides 4x8x8 with FSQ of 64,000
codes, with random weights: causal 3D convolutions on patches, the same with convolutions at full
resolution, as VidTok and MAGVIT-v2 have them, and attention over places and over times of patches
with as many parameters and operations as OmniTokenizer (54M, 1.9 GFLOP a frame), the quickest of
the open ones. One thread, all in one process, each repeat going once round all of them. Seconds are
those of the processor (`time.process_time`), which other work on the machine hardly changes.
Operations count a multiplication and an addition as two.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from tokenizer.backbone import ConvBackbone
from tokenizer.codec import Codec
from tokenizer.commands import open_codec
from tokenizer.quantizer import FSQ
from tokenizer.running import Precision, running
from tokenizer.transformer import TransformerBackbone

FRAMES = 16
LEVELS = (8, 8, 8, 5, 5, 5)  # 64,000 codes


@dataclass
class Entry:
    """One codec at one size in one number format."""

    name: str
    codec: Codec
    side: int  # pixels
    precision: Precision
    batch: int  # clips coded side by side
    encode: list[float] = field(default_factory=list)  # processor seconds of each repeat
    decode: list[float] = field(default_factory=list)

    def clips(self) -> torch.Tensor:
        luck = torch.Generator().manual_seed(0)
        shape = (self.batch, FRAMES, 3, self.side, self.side)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=luck)

    def run(self, clips: torch.Tensor) -> tuple[float, float]:
        """Processor seconds of encoding and of decoding."""
        codec = self.codec
        with running(codec, self.precision):
            began = time.process_time()
            tokens = codec.encode_batch(clips)
            middle = time.process_time()
            codec.decode_batch(tokens)
            return middle - began, time.process_time() - middle

    def operations(self) -> float:
        """GFLOP a frame, of two clips: a lone block goes to oneDNN where the counter misses it."""
        two = Entry(self.name, self.codec, self.side, "fp32", 2)
        with FlopCounterMode(display=False) as counter:
            two.run(two.clips())
        return counter.get_total_flops() / (2 * FRAMES) / 1e9


def grids() -> dict[str, Codec]:
    """Codecs of the public kind with random weights."""
    common = {"dim": len(LEVELS), "time_stride": 4, "latent_channels": 256, "latent_blocks": 2}
    patches = ConvBackbone(patch=4, stride=2, channels=128, blocks=2, **common)
    pixels = ConvBackbone(patch=1, stride=8, channels=128, blocks=2, **common)
    attention = TransformerBackbone(
        dim=len(LEVELS), time_stride=4, width=512, heads=8, blocks=7, attention="factored"
    )
    named = (
        ("grid 4x8x8, patches", patches),
        ("grid 4x8x8, pixels", pixels),
        ("grid 4x8x8, attention", attention),
    )
    return {
        name: Codec(backbone, FSQ(LEVELS), block_frames=4, order="raster").eval()
        for name, backbone in named
    }


def _rate(entry: Entry, seconds: Sequence[float]) -> str:
    """Median frames a second with the slowest and the quickest repeat."""
    rates = sorted(entry.batch * FRAMES / s for s in seconds)
    return f"{statistics.median(rates):.1f} ({rates[0]:.1f} to {rates[-1]:.1f})"


def row(entry: Entry) -> str:
    """A line of the table."""
    parameters = sum(p.numel() for p in entry.codec.parameters()) / 1e6
    both = [a + b for a, b in zip(entry.encode, entry.decode, strict=True)]
    rates = " | ".join(_rate(entry, s) for s in (entry.encode, entry.decode, both))
    return (
        f"| {entry.name} | {FRAMES}x{entry.side}x{entry.side} | {entry.precision} | {entry.batch} "
        f"| {parameters:.2f} | {entry.operations():.3f} | {rates} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, nargs="*", default=[], help="folders of codecs")
    parser.add_argument("--alone", action="store_true", help="only these, not the grids")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128], help="pixels")
    parser.add_argument("--precisions", nargs="+", default=["fp32"], help="fp32, bf16")
    parser.add_argument("--batches", type=int, nargs="+", default=[1], help="clips side by side")
    parser.add_argument("--repeats", type=int, default=5)
    a = parser.parse_args()
    if a.repeats < 1 or not set(a.precisions) <= {"fp32", "bf16"}:
        parser.error("give at least one repeat, and precisions of fp32 and bf16")
    if a.alone and not a.model:
        parser.error("--alone leaves nothing to measure: name folders with --model")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    codecs = {str(path): open_codec(path) for path in a.model} | ({} if a.alone else grids())
    entries = [
        Entry(name, codec, side, precision, batch)
        for side in a.sides
        for precision in a.precisions
        for batch in a.batches
        for name, codec in codecs.items()
    ]
    for repeat in range(-1, a.repeats):  # the first one warms up
        for entry in entries:
            encode, decode = entry.run(entry.clips())
            if repeat >= 0:
                entry.encode.append(encode)
                entry.decode.append(decode)
    print("| codec | clip | format | batch | M parameters | GFLOP/frame | ", end="")
    print("encode frames/s | decode frames/s | both |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for entry in entries:
        print(row(entry), flush=True)


if __name__ == "__main__":
    main()
