"""What each coding of token files takes: bits a code, and codes a second, on held-out clips.

    python benchmarks/codings.py runs/demo/model runs/demo/tokens scenes:easy

Clips come at the format that the model was trained on, at its own rate and at shares of it. Each
is written to a token file and read back, and the codes compared. Bits are those of the payloads
as they stand in the file, whole bytes a block, over all clips, with a 95 % bootstrap interval over
clips; the gain is the mean difference to the static prior, which is measured on the shards.
Seconds are of the processor.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from data.shards import TokenShards
from data.source import open_source
from lm.model_prior import ModelPrior
from lm.tasks import Model
from tokenizer.commands import heldout_split
from tokenizer.entropy import Prior
from tokenizer.files import load_tokens, save_tokens
from tokenizer.priors import AdaptivePrior, count_codes, measured
from tokenizer.tokens import VideoTokens

DRAWS = 10_000  # of the bootstrap


@dataclass(frozen=True)
class Coded:
    """One clip under one coding."""

    codes: int
    bits: float  # of all payloads
    file_bytes: int
    writing: float  # seconds of the processor
    reading: float  # likewise


def code(tokens: VideoTokens, prior: Prior | None, file: Path) -> Coded:
    """A clip written and read back."""
    start = time.process_time()
    written = save_tokens(tokens, file, prior)
    middle = time.process_time()
    again = load_tokens(file, prior)
    reading = time.process_time() - middle
    if not all(map(torch.equal, again.codes, tokens.codes)):
        raise AssertionError("other codes came back")
    bits = float(sum(written.bits_per_block))
    return Coded(tokens.num_tokens, bits, written.file_bytes, middle - start, reading)


def row(name: str, found: list[Coded], beside: list[Coded] | None, seed: int) -> str:
    """A line of the table."""
    codes, bits = np.array([(each.codes, each.bits) for each in found]).T
    drawn = np.random.default_rng(seed).integers(0, len(found), (DRAWS, len(found)))

    def interval(sums: np.ndarray) -> str:
        low, high = np.quantile(sums[drawn].sum(1) / codes[drawn].sum(1), (0.025, 0.975))
        return f"{sums.sum() / codes.sum():.3f} ({low:.3f} to {high:.3f})"

    gain = "" if beside is None else interval(np.array([each.bits for each in beside]) - bits)
    size = np.mean([each.file_bytes for each in found])
    writing, reading = (
        codes.sum() / sum(getattr(e, f) for e in found) for f in ("writing", "reading")
    )
    return f"| {name} | {interval(bits)} | {gain} | {size:.0f} | {writing:.0f} | {reading:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="folder of a model")
    parser.add_argument("shards", type=Path, help="token shards of training clips, for static")
    parser.add_argument("source", help="a folder of clips, scenes:easy|standard|hard, or hub:NAME")
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0])
    parser.add_argument("--num-clips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of made worlds and the bootstrap")
    a = parser.parse_args()
    model, shards = Model.load(a.model), TokenShards(a.shards)
    main, codec = model.framing.main, model.codec
    clips = open_source(
        a.source,
        split=heldout_split(a.source),
        num_frames=main.num_frames,
        height=main.height,
        width=main.width,
        fps=None if main.fps is None else float(main.fps),
        num_clips=a.num_clips,
        seed=a.seed,
    )
    every = (shards[number] for number in range(len(shards)))
    counts = count_codes(every, codec.codebook_size, codec.layout)
    priors: dict[str, Prior | None] = {
        "packed": None,
        "adaptive": AdaptivePrior(codec.codebook_size, codec.layout),
        "static": measured(counts, codec.tokens_id, codec.layout),
        "model": ModelPrior(model),
    }
    tokens = [model.encode(clips[number]) for number in range(min(a.num_clips, len(clips)))]
    print(
        f"codec {codec.codec_id}, {clips.name}, {len(tokens)} held-out clips of {main}, static "
        f"prior of {len(shards)} training clips, seed {a.seed}\n"
        f"{math.log2(codec.codebook_size):.3f} nominal bits a code\n"
    )
    for share in a.shares:
        kept = max(1, round(share * model.framing.max_block_tokens))
        print(f"{kept} codes a block\n")
        print("| coding | bits a code | below static | file, bytes | codes/s in | codes/s out |")
        print("| --- | --- | --- | --- | --- | --- |")
        found: dict[str, list[Coded]] = {name: [] for name in priors}
        with TemporaryDirectory() as folder:
            for each in tokens:
                for name, prior in priors.items():
                    found[name].append(code(each.keep(kept), prior, Path(folder) / "a.kvt"))
        for name, each in found.items():
            beside = found["static"] if name == "model" else None
            print(row(name, each, beside, a.seed), flush=True)
        print()


if __name__ == "__main__":
    main()
