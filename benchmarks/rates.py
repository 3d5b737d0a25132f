"""Content-adaptive rates against even ones, at equal tokens a clip, on held-out clips.

    python benchmarks/rates.py runs/doom-codec/codec runs/doom --shares 0.25 0.5

Each clip is coded three times: at a rate by content (`budget`, then `auto`), and evenly at just the
tokens that this spent. Prints the mean over clips of the difference of their PSNR, with a 95 %
bootstrap interval over clips, and how far the estimate of the choice was from what was reached.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.clip import Clip
from tokenizer.codec import Codec
from tokenizer.commands import open_codec, open_heldout
from tokenizer.metrics import psnr, squared_error
from tokenizer.rate import Rate

DRAWS = 10_000  # of the bootstrap


@dataclass(frozen=True)
class Pair:
    """One clip, coded by content and evenly, at the same number of tokens."""

    tokens_per_frame: float
    by_content: float  # dB
    evenly: float  # dB
    estimate: float  # dB, of the choice by content


def compare(codec: Codec, clip: Clip, rate: Rate) -> Pair:
    """A clip at a rate by content and at the even one of as many tokens."""
    choice = codec.choose_rate(clip, rate=rate)
    total, blocks = choice.tokens.num_tokens, len(choice.tokens.codes)
    even = tuple(total * (b + 1) // blocks - total * b // blocks for b in range(blocks))
    tokens = choice.tokens, codec.encode(clip, block_tokens=even)
    adaptive, uniform = (
        psnr(squared_error(clip.frames, again.frames).mean())
        for again in codec.decode_batch(tokens)
    )
    assert choice.psnr is not None
    return Pair(choice.tokens.tokens_per_frame, adaptive, uniform, choice.psnr)


def row(name: str, pairs: list[Pair], seed: int) -> str:
    """A line of the table."""
    gain = np.array([pair.by_content - pair.evenly for pair in pairs])
    drawn = np.random.default_rng(seed).integers(0, len(gain), (DRAWS, len(gain)))
    low, high = np.quantile(gain[drawn].mean(1), (0.025, 0.975))
    tokens, evenly = (
        np.mean([getattr(p, f) for p in pairs]) for f in ("tokens_per_frame", "evenly")
    )
    off = np.mean([pair.estimate - pair.by_content for pair in pairs])
    return (
        f"| {name} | {tokens:.2f} | {evenly:.2f} | {gain.mean():+.2f} ({low:+.2f} to {high:+.2f}) "
        f"| {off:+.2f} | {len(pairs)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="folder of a codec, or of a model with one")
    parser.add_argument("source", help="a folder of clips, scenes:easy|standard|hard, or hub:NAME")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.15, 0.25, 0.5, 0.75])
    parser.add_argument("--num-clips", type=int, default=100)
    parser.add_argument("--num-frames", type=int, help="of a clip; whole clips if left out")
    parser.add_argument("--height", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    a = parser.parse_args()
    codec = open_codec(a.model)
    size = a.num_frames, a.height, a.width
    clips = open_heldout(a.source, None, *size, num_clips=a.num_clips)
    print(
        f"codec {codec.codec_id}, {clips.name}, PSNR of each clip's pooled error, seed {a.seed}\n"
    )
    print("| mean rate | tokens a frame | even, dB | gain, dB (95 %) | estimate off | n |")
    print("| --- | --- | --- | --- | --- | --- |")
    for share in a.shares:
        pairs: dict[str, list[Pair]] = {"budget": [], "auto": []}
        for number in range(min(a.num_clips, len(clips))):
            clip = clips[number]
            blocks = -(-len(clip) // codec.block_frames)
            slots = codec.slots_per_block(clip.height, clip.width)
            budget = max(blocks, round(share * slots * blocks))
            pairs["budget"].append(compare(codec, clip, Rate(budget=budget)))
            pairs["auto"].append(compare(codec, clip, Rate(auto=share)))
        for name, found in pairs.items():
            print(row(f"{name}, {100 * share:g} %", found, a.seed), flush=True)


if __name__ == "__main__":
    main()
