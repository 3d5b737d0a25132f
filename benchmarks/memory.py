"""Peak memory of encoding and decoding a made video of any length, in a process of its own.

    python benchmarks/memory.py --frames 2400 --size 256

Prints resident memory above that of the loaded model while a small random codec encodes a stream of
noise frames and decodes the file again, ten times along the way: flat where the library holds one
block at a time. It does not measure speed or quality.
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


def resident() -> float:
    """MiB that this process holds now."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def measure(num_frames: int, size: int) -> dict[str, list[float]]:
    """MiB above the loaded model at ten moments of encoding, then of decoding."""
    from tokenizer.backbone import ConvBackbone
    from tokenizer.codec import Codec
    from tokenizer.file_reading import TokenReader
    from tokenizer.quantizer import FSQ
    from tokenizer.streaming import decode_stream, encode_stream

    backbone = ConvBackbone(channels=8, latent_channels=8, blocks=1, latent_blocks=1)
    codec = Codec(backbone, FSQ((8, 5, 5, 5))).eval()
    held: dict[str, list[float]] = {"encode": [], "decode": []}
    every, before = max(1, num_frames // 10), resident()

    def camera() -> Iterator[tuple[np.ndarray, float]]:
        luck = np.random.default_rng(0)
        for number in range(num_frames):
            if number % every == every - 1:
                held["encode"].append(resident() - before)
            yield luck.integers(0, 256, (size, size, 3), np.uint8), number / 24

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        file, done = Path(folder) / "a.kvt", 0
        encode_stream(codec, camera(), file)
        with TokenReader(file) as reader:
            for part in decode_stream(codec, reader.read_each(), size, size, num_frames):
                if (done + len(part)) // every > done // every:
                    held["decode"].append(resident() - before)
                done += len(part)
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=2400)
    parser.add_argument("--size", type=int, default=256, help="pixels of each side")
    parser.add_argument("--here", action="store_true", help="measure in this very process")
    given = parser.parse_args()
    if not given.here:
        words = [sys.executable, __file__, *sys.argv[1:], "--here"]
        raise SystemExit(subprocess.run(words, check=False).returncode)
    for work, held in measure(given.frames, given.size).items():
        shown = " ".join(f"{mib:.0f}" for mib in held)
        print(f"{work}: peak {max(held):.0f} MiB above the model; along the way {shown}")


if __name__ == "__main__":
    main()
