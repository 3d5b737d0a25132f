"""How films drift from their prompt and from true pictures, second by second, beyond the window.

    python benchmarks/drift.py --model M --prompts 20 --seconds 10

For a model of the made scenes. Prompts are captions of clips of unseen combinations of which every
second shows all that is said of colour, shape and number. A film's seconds are read one by one:

- slots: share of the prompt's colours, shapes and numbers of objects that the oracle finds. Motions
  are left out: a caption tells of a clip, not of each second of a longer film.
- distance: the codec's vectors before rounding have a mean and a spread over the places of a
  picture; squared, how far both lie from those of true clips, in their variances. 1 is as far as
  true clips lie on average.

Beside it stand the true clips, played to and fro for as long, coded and decoded (what the codec
alone costs), and the films read by each other's prompts (chance). With 95 % bootstrap intervals
over prompts. It does not look at how smoothly one window follows another.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.clip import Clip
from data.scenes import Oracle, Scenes
from lm.judging import Tally
from lm.tasks import Model
from tokenizer.codec import Codec

SLOTS = ("colour", "shape", "count")  # that hold in every second
TRUE_CLIPS = 200  # that statistics are taken of, none of them prompts


def seconds_of(frames: Tensor, fps: float) -> list[Tensor]:
    """Frames (T, 3, H, W) second by second; a rest that is shorter is left out."""
    whole = int(len(frames) / fps + 1e-6)
    return [frames[round(k * fps) : round((k + 1) * fps)] for k in range(whole)]


def to_and_fro(frames: Tensor, count: int) -> Tensor:
    """So many frames of a clip (T, 3, H, W) that is played forwards, backwards, and again."""
    forth = torch.arange(len(frames))
    return frames[torch.cat([forth, forth.flip(0)]).repeat(-(-count // (2 * len(frames))))[:count]]


def slots_right(oracle: Oracle, frames: Tensor, prompt: str) -> tuple[float, float]:
    """How many of a prompt's slots frames show, and how many there are."""
    score = oracle.score_video(frames, prompt)
    kept = [slot for slot in SLOTS if slot in score.total]
    return sum(score.right[s] for s in kept), sum(score.total[s] for s in kept)


def prompts_of(world: Scenes, count: int) -> list[Clip]:
    """Clips of which the oracle finds all slots of the caption in every second of the pixels."""
    oracle, kept = Oracle(), list[Clip]()
    for index in range(len(world)):
        clip = world[index]
        scores = [
            slots_right(oracle, part, clip.caption) for part in seconds_of(clip.frames, world.fps)
        ]
        if scores and all(right == total > 0 for right, total in scores):
            kept.append(clip)
        if len(kept) == count:
            return kept
    raise ValueError(f"{len(kept)} of {len(world)} clips have steady slots: ask for fewer prompts")


@torch.no_grad()
def statistics(codec: Codec, parts: Sequence[Tensor]) -> np.ndarray:
    """Mean and spread over places of each dimension of unrounded vectors, (parts, 2 * D)."""
    found = []
    for frames in parts:
        vectors = codec(frames[None], rounding=False).vectors[0, :, codec.summary :].flatten(0, 1)
        found.append(torch.cat([vectors.mean(0), vectors.std(0)]).double().numpy())
    return np.stack(found)


def distances(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Mean squared distance of each row to the mean of `true`, in the variances of `true`."""
    return (((found - true.mean(0)) ** 2) / true.var(0)).mean(1)


def measure(
    codec: Codec,
    films: Sequence[Tensor],
    prompts: Sequence[str],
    fps: float,
    true: np.ndarray,
    name: str,
    tally: Tally,
) -> None:
    """Count slots and distances of films into `NAME/slots/SECOND` and `NAME/distance/SECOND`."""
    oracle = Oracle()
    for frames, prompt in zip(films, prompts, strict=True):
        parts = seconds_of(frames, fps)
        for second, (part, far) in enumerate(
            zip(parts, distances(statistics(codec, parts), true), strict=True)
        ):
            tally.add(f"{name}/slots/{second}", *slots_right(oracle, part, prompt))
            tally.add(f"{name}/distance/{second}", float(far))


def cell(tally: Tally, name: str) -> str:
    low, high = tally.interval(name)
    return f"{tally.share(name):.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a model of scenes")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--overlap", type=int, help="blocks that windows share; half if left out")
    parser.add_argument("--difficulty", default="standard", help="of the scenes")
    parser.add_argument("--split", default="unseen", help="of the prompts")
    parser.add_argument("--seed", type=int, default=0, help="of the first film, and of the scenes")
    a = parser.parse_args()
    model = Model.load(a.model)
    main = model.framing.main
    if main.fps is None:
        raise SystemExit(f"{a.model} makes single images, which do not drift")
    fps = float(main.fps)
    shape = {"num_frames": main.num_frames, "height": main.height, "width": main.width, "fps": fps}
    world = Scenes(a.difficulty, split=a.split, seed=a.seed, **shape)
    clips = prompts_of(world, a.prompts)
    others = Scenes(a.difficulty, split="heldout", seed=a.seed, **shape).batch(range(TRUE_CLIPS))
    parts = [part for clip in others for part in seconds_of(clip.frames, fps)]
    true = statistics(model.codec, parts)
    prompts = [clip.caption for clip in clips]
    seeds = [a.seed + number for number in range(len(prompts))]
    made = model.generate_batch(prompts, float(a.seconds), seeds, overlap=a.overlap)
    films, tally = [clip.frames for clip in made], Tally()
    measure(model.codec, films, prompts, fps, true, "films", tally)
    measure(model.codec, films, [*prompts[1:], *prompts[:1]], fps, true, "others", tally)
    tokens = [
        model.codec.encode(to_and_fro(clip.frames, len(films[0]))).keep(
            model.framing.max_block_tokens
        )
        for clip in clips
    ]
    again = [clip.frames for clip in model.codec.decode_batch(tokens)]
    measure(model.codec, again, prompts, fps, true, "codec", tally)
    shared = len(main.tokens_per_block) // 2 if a.overlap is None else a.overlap
    print(
        f"{a.prompts} prompts of scenes:{a.difficulty}, {a.split}, films of {a.seconds} s from "
        f"windows of {main} that share {shared} blocks of {len(main.tokens_per_block)}, guidance "
        f"2, seeds from {a.seed}\n\n"
        "| second | slots right | true clips, coded | another prompt | distance | "
        "true clips, coded |\n| --- | --- | --- | --- | --- | --- |"
    )
    for second in range(a.seconds):
        columns = ("films/slots", "codec/slots", "others/slots", "films/distance", "codec/distance")
        cells = " | ".join(cell(tally, f"{column}/{second}") for column in columns)
        print(f"| {second + 1} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
