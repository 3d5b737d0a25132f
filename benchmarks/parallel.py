"""Several codes of a block in one step: how quick it is, and what it costs.

    OMP_NUM_THREADS=1 python benchmarks/parallel.py --model M --prompts 100

For a model of the made scenes with heads (`--config configs/lm/recipe/parallel.yaml`). Films of
captions of unseen combinations are made one code a step, then 2, 4 and 8, exact (as one by one) and
plain (codes of a step do not know each other), with guidance and without. Ways take turns, batch by
batch, so that what else the machine does strikes all alike.

- codes/s: codes per second of processor time, prompts and drawing included, medians over batches.
- a step: codes that a film gets from each pass of the decoder, mean; films of a batch wait for its
  last one.
- right: share of films that show all their prompt says, and of the single slots, by the oracle,
  with 95 % bootstrap intervals over prompts. Beside them the true clips, coded and decoded.
- nats: what each code foretold costs on true clips after their captions, by how far ahead it lies.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from data.clip import Clip
from data.scenes import Oracle, Scenes
from lm.document import Document, Task, Text, Video
from lm.drawing import Draw, Sampling
from lm.judging import Tally
from lm.prompting import condition, to_video
from lm.sampling import Prompt, continue_streams
from lm.sequence import write
from lm.tasks import Model
from tokenizer.tokens import VideoTokens

PARALLEL = (2, 4, 8)


def ways(most: int, guidance: float) -> dict[str, Sampling]:
    """All ways to draw, by the cells that name them."""
    found = {}
    for scale in (guidance, 1.0):
        base = Sampling(video=Draw(min_p=0.2), guidance=scale)
        found[f"1 | one by one | {scale:g}"] = base
        for exact in (True, False):
            for count in (n for n in PARALLEL if n <= most):
                name = f"{count} | {'exact' if exact else 'plain'} | {scale:g}"
                found[name] = replace(base, parallel=count, exact=exact)
    return found


def film(
    model: Model, captions: list[str], seeds: list[int], sampling: Sampling
) -> tuple[list[VideoTokens], float, int]:
    """Films, seconds of processor time they took, and passes of the decoder."""
    vocabulary, fmt = model.vocabulary, model.framing.main
    null = to_video(vocabulary, condition(vocabulary, None), fmt)
    prompts = [
        Prompt(to_video(vocabulary, condition(vocabulary, caption), fmt), null)
        for caption in captions
    ]
    passes: list[int] = []
    start = time.process_time()
    states = continue_streams(
        model.decoder,
        model.grammar,
        prompts,
        sampling=sampling,
        seeds=seeds,
        num_items=1,
        progress=passes.append,
    )
    seconds = time.process_time() - start
    videos = [state.items[-1] for state in states]
    marks = len(fmt.tokens_per_block)  # passes that bring no code
    made = [video.tokens for video in videos if isinstance(video, Video)]
    return made, seconds, len(passes) - marks


def score(frames: torch.Tensor, caption: str, name: str, tally: Tally) -> None:
    found = Oracle().score_video(frames, caption)
    tally.add(f"{name}/exact", found.exact)
    tally.add(f"{name}/slots", sum(found.right.values()), sum(found.total.values()))


@torch.inference_mode()
def nats(model: Model, clips: list[Clip]) -> list[float]:
    """Mean cost of the code after each state, of the one after that, and so on."""
    decoder, start = model.decoder, model.vocabulary.video_start
    reach = decoder.config.ahead
    sums = torch.zeros(2, reach, dtype=torch.float64)
    for clip in clips:
        video = Video(model.codec.encode(clip))
        document = Document.of(Task("film"), Text("caption", clip.caption), video)
        stream = write(document, model.vocabulary)
        ids = stream.ids
        hidden = decoder(ids[None], slots=stream.slots[None])[0]
        states = hidden[:, None]
        if decoder.ahead is not None:
            states = torch.cat([states, decoder.ahead(hidden)], 1)
        run = F.pad(ids[1:] >= start, (0, reach)).unfold(0, reach, 1)[: len(ids) - 1]
        run = run.long().cumprod(-1).bool()  # (L - 1, N): all codes up to that one
        for k in range(reach):
            places = run[:, k].nonzero()[:, 0]
            logits = decoder.logits(states[places, k], start)
            cost = F.cross_entropy(logits, ids[places + 1 + k] - start, reduction="sum")
            sums[:, k] += torch.tensor([float(cost), len(places)])
    return (sums[0] / sums[1]).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of a model of scenes")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--rows", type=int, default=8, help="films made side by side")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--difficulty", default="easy", help="of the scenes")
    parser.add_argument("--seed", type=int, default=0, help="of the first film, and of the scenes")
    a = parser.parse_args()
    torch.set_num_threads(1)
    model = Model.load(a.model)
    fmt = model.framing.main
    shape = {"num_frames": fmt.num_frames, "height": fmt.height, "width": fmt.width}
    if fmt.fps is not None:
        shape["fps"] = float(fmt.fps)
    world = Scenes(a.difficulty, split="unseen", seed=a.seed, **shape)
    clips = [world[i] for i in range(a.prompts)]
    found = ways(model.decoder.config.ahead, a.guidance)
    tally, paces = Tally(), {name: list[float]() for name in found}
    steps = {name: [0, 0] for name in found}  # codes and passes, of each row
    film(model, [clips[0].caption], [0], found[next(iter(found))])  # warm
    for first in range(0, len(clips), a.rows):
        part = clips[first : first + a.rows]
        captions = [clip.caption for clip in part]
        seeds = [a.seed + first + i for i in range(len(part))]
        for name, sampling in found.items():
            made, seconds, passes = film(model, captions, seeds, sampling)
            codes = sum(tokens.num_tokens for tokens in made)
            paces[name].append(codes / seconds)
            steps[name][0] += codes
            steps[name][1] += passes * len(part)
            for clip, caption in zip(model.codec.decode_batch(made), captions, strict=True):
                score(clip.frames, caption, name, tally)
        coded = [model.codec.encode(clip).keep(model.framing.max_block_tokens) for clip in part]
        for clip, caption in zip(model.codec.decode_batch(coded), captions, strict=True):
            score(clip.frames, caption, "coded", tally)
    print(
        f"{a.prompts} prompts of scenes:{a.difficulty}, unseen, films of {fmt}, {a.rows} side by "
        f"side, min-p 0.2, seeds from {a.seed}\n\n"
        "| codes | drawn | guidance | codes/s | times | a step | films right | slots right |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    base = 0.0
    for name in found:
        pace = median(paces[name])
        base = pace if name.startswith("1 ") else base
        codes, passes = steps[name]
        spread = f"{min(paces[name]):.0f} to {max(paces[name]):.0f}"
        print(
            f"| {name} | {pace:.0f} ({spread}) | {pace / base:.2f} | {codes / passes:.2f} | "
            f"{share(tally, name, 'exact')} | {share(tally, name, 'slots')} |"
        )
    print(
        f"| | true clips, coded | | | | | {share(tally, 'coded', 'exact')} | "
        f"{share(tally, 'coded', 'slots')} |\n"
    )
    costs = ", ".join(f"{value:.2f}" for value in nats(model, clips))
    print(f"nats a code, by how far ahead, from 1: {costs} (n {a.prompts} clips)")


def share(tally: Tally, name: str, what: str) -> str:
    low, high = tally.interval(f"{name}/{what}")
    return f"{tally.share(f'{name}/{what}'):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
