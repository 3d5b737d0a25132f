"""What a token file costs beside its codes: header, framing of its blocks, index, in bytes.

    python benchmarks/framing.py --rates 0.25 1 4 16 --frames 8 64 240 2400

Writes files of made codes, frequent ones among them, at 24 frames a second in blocks of 8 frames of
64x64, packed and under each kind of prior, and prints a Markdown row for each. No network runs.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tokenizer.entropy import Prior
from tokenizer.file_reading import TokenReader
from tokenizer.files import save_tokens
from tokenizer.ordering import BlockLayout
from tokenizer.priors import AdaptivePrior, measured, num_classes
from tokenizer.rate import block_tokens
from tokenizer.tokens import VideoTokens

CODEC_ID, CODES, BLOCK_FRAMES, SIDE = "fsq1000-2x8-0123456789ab", 1000, 8, 64
LAYOUT = BlockLayout("interlaced", time=4, space_stride=8, summary=16)


@dataclass(frozen=True)
class Framing:
    """Bytes of one file."""

    header: int
    blocks: int  # of all block records, without their payloads
    index: int  # with the trailer
    payload: int  # the codes themselves
    num_blocks: int

    @property
    def share(self) -> float:
        """Of the file, what is not codes."""
        framing = self.header + self.blocks + self.index
        return framing / (framing + self.payload)


def made(tokens_per_frame: float, num_frames: int) -> VideoTokens:
    """Codes of which low ones are frequent."""
    luck, codes = np.random.default_rng(0), []
    for block in range(-(-num_frames // BLOCK_FRAMES)):
        count = block_tokens(tokens_per_frame, BLOCK_FRAMES, block)
        codes.append(torch.from_numpy((luck.random(count) ** 9 * CODES).astype(np.int64)))
    times = torch.arange(num_frames, dtype=torch.float64) / 24
    return VideoTokens(tuple(codes), times, SIDE, SIDE, BLOCK_FRAMES, CODES, CODEC_ID)


def priors() -> dict[str, Prior | None]:
    """A prior of each kind; the static one was counted on codes like those that are coded."""
    luck = np.random.default_rng(1).random((num_classes(LAYOUT), 20_000))
    counts = [np.bincount((row**9 * CODES).astype(int), minlength=CODES) for row in luck]
    static = measured(np.stack(counts), CODEC_ID, LAYOUT)
    return {"packed": None, "static": static, "adaptive": AdaptivePrior(CODES, LAYOUT)}


def framing(tokens: VideoTokens, prior: Prior | None) -> Framing:
    """What the file of some tokens costs."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.kvt"
        save_tokens(tokens, file, prior)
        with TokenReader(file, prior) as reader:
            records = payload = 0
            for block, record in reader.records():
                records, payload = records + len(record), payload + len(block.payload)
            return Framing(
                header=reader.start,
                blocks=records - payload,
                index=reader.file_bytes - reader.start - records,
                payload=payload,
                num_blocks=reader.num_blocks,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.25, 1, 4, 16])
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 64, 240, 2400])
    given = parser.parse_args()
    print("| coding | tokens a frame | frames | header | a block | index | codes | not codes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for coding, prior in priors().items():
        for rate in given.rates:
            for frames in given.frames:
                found = framing(made(rate, frames), prior)
                print(
                    f"| {coding} | {rate:g} | {frames} | {found.header} "
                    f"| {found.blocks / found.num_blocks:.2f} | {found.index} "
                    f"| {found.payload} | {100 * found.share:.1f} % |"
                )


if __name__ == "__main__":
    main()
