"""Memory does not grow with the length of a stream."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

STREAM = """
import sys
from pathlib import Path

import numpy as np
import torch

from tokenizer import steps
from tokenizer.codec import Codec
from tokenizer.file_reading import TokenReader
from tokenizer.priors import AdaptivePrior
from tokenizer.rate import Rate
from tokenizer.streaming import decode_stream, encode_stream

FEW, MANY = 200, 2000  # blocks
steps.PASS_PIXELS = 1  # a block a pass: the bound on a pass is in test_streaming


def resident():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def camera():
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    for number in range(MANY * codec.block_frames):
        if number in marks:
            held.append(resident())
        yield np.roll(image, number, 1), number / 24


codec = Codec.load(sys.argv[1])
marks = [blocks * codec.block_frames for blocks in (FEW, MANY - 1)]
rate = Rate(auto=0.5) if sys.argv[2] == "auto" else Rate(share=0.5)
prior = AdaptivePrior(codec.codebook_size, codec.layout) if sys.argv[2] == "adaptive" else None
with torch.inference_mode():
    held, file = [], Path(sys.argv[1]) / "a.kvt"
    encode_stream(codec, camera(), file, rate, prior)
    print(held[1] - held[0])
    held = []
    with TokenReader(file, prior) as reader:
        frames = reader.num_frames
        for number, _ in enumerate(decode_stream(codec, reader.read_each(), 16, 24, frames)):
            if number in (FEW, MANY - 1):
                held.append(resident())
    print(held[1] - held[0])
"""


@pytest.mark.slow  # thousands of blocks
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells so")
@pytest.mark.parametrize("way", ["packed", "adaptive", "auto"])
def test_two_thousand_blocks_hold_no_more_than_two_hundred(run_folder: Path, way: str) -> None:
    root = str(Path(__file__).parents[1])
    words = [sys.executable, "-c", STREAM, str(run_folder / "codec"), way]
    env = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(words, check=True, capture_output=True, text=True, env=env)
    encoding, decoding = map(float, run.stdout.split())
    assert encoding < 4 and decoding < 4, run.stdout  # MiB; a block more each would be 10
