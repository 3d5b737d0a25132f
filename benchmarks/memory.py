"""Peak memory of encoding and decoding a made video of any length, in a process of its own.

    python benchmarks/memory.py --frames 2400 --size 256

Prints resident memory above that of the loaded model while a random codec (a small one, or one of
`FactoredBackbone`'s own sizes) encodes a stream of noise frames and decodes the file again: the
peak, ten moments along the way, and the slope of a line through all but the first tenth, which is
nothing where the library holds one block at a time. It does not measure speed or quality.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from tokenizer.rate import Rate

MOMENTS = 100  # of each work


def resident() -> float:
    """MiB that this process holds now."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def measure(num_frames: int, size: int, rate: Rate, real: bool) -> dict[str, list[float]]:
    """MiB above the loaded model at even moments of encoding, then of decoding."""
    from tokenizer.backbone import ConvBackbone
    from tokenizer.codec import Codec
    from tokenizer.factored import FactoredBackbone
    from tokenizer.file_reading import TokenReader
    from tokenizer.quantizer import FSQ
    from tokenizer.streaming import choose_stream, decode_stream, encode_stream

    small = {"channels": 8, "latent_channels": 8, "blocks": 1, "latent_blocks": 1}
    backbone = FactoredBackbone() if real else ConvBackbone(**small)
    codec = Codec(backbone, FSQ((8, 5, 5, 5))).eval()
    held: dict[str, list[float]] = {"encode": [], "decode": []}
    every, before = max(1, num_frames // MOMENTS), resident()

    def camera() -> Iterator[tuple[np.ndarray, float]]:
        luck = np.random.default_rng(0)
        for number in range(num_frames):
            if number % every == every - 1:
                held["encode"].append(resident() - before)
            yield luck.integers(0, 256, (size, size, 3), np.uint8), number / 24

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        file, done = Path(folder) / "a.kvt", 0
        encode = choose_stream if rate.whole_clip else encode_stream
        encode(codec, camera(), file, rate)
        held["encode"].append(resident() - before)
        with TokenReader(file) as reader:
            for part in decode_stream(codec, reader.read_each(), size, size, num_frames):
                if (done + len(part)) // every > done // every:
                    held["decode"].append(resident() - before)
                done += len(part)
    return held


def told(work: str, held: list[float], num_frames: int) -> str:
    """A line for people."""
    tenth = max(1, len(held) // 10)
    later = np.array(held[tenth:])
    rise = float(np.polyfit(np.arange(len(later)), later, 1)[0]) if len(later) > 1 else 0.0
    slope = 1000 * rise * len(held) / num_frames
    shown = " ".join(f"{mib:.0f}" for mib in held[tenth - 1 :: tenth])
    return (
        f"{work}: peak {max(held):.0f} MiB above the model, {slope:+.3f} MiB per 1,000 "
        f"frames; along the way {shown}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=2400)
    parser.add_argument("--size", type=int, default=256, help="pixels of each side")
    parser.add_argument("--share", type=float, help="of the full rate, which it is if left out")
    parser.add_argument("--auto", type=float, help="mean share of the full rate, by content")
    parser.add_argument("--budget", type=int, help="tokens of all, by content, seen to the end")
    parser.add_argument("--psnr", type=float, help="dB of all, seen to the end")
    parser.add_argument("--real", action="store_true", help="a codec of the usual size")
    parser.add_argument("--here", action="store_true", help="measure in this very process")
    given = parser.parse_args()
    if not given.here:
        words = [sys.executable, __file__, *sys.argv[1:], "--here"]
        raise SystemExit(subprocess.run(words, check=False).returncode)
    rate = Rate(share=given.share, auto=given.auto, budget=given.budget, psnr=given.psnr)
    for work, held in measure(given.frames, given.size, rate, given.real).items():
        print(told(work, held, given.frames))


if __name__ == "__main__":
    main()
