"""What weights in fewer bits cost a trained model: nats a token of text and codes.

Captions after held-out clips, and codes of these clips after their captions, read token by token,
with 95 % bootstrap intervals over clips of how much more it is than with float32.

    python benchmarks/weights_loss.py --model runs/demo/model --source scenes:easy

`--engines` takes those of llama.cpp, too, for models that they can run (docs/engine.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from lm.document import Document, Task, Text, Video
from lm.engine import Engine, Reading, open_engine
from lm.sampling import OwnReading
from lm.sequence import TEXT, VIDEO, Sequence, write
from lm.tasks import Model
from lm.watching import open_known

Sums = np.ndarray
Found = dict[int, Sums]  # by modality
DRAWS = 10_000  # of the bootstrap


@torch.inference_mode()
def losses(model: Model, engine: Engine | None, sequences: list[tuple[int, Sequence]]) -> Found:
    """Nats of each document's own modality; codes among codes, all else among all else.

    Returns:
        Of text and of codes (documents, 2): nats and tokens of each document.
    """
    start, total = model.vocabulary.video_start, len(model.vocabulary)
    sums: dict[int, list[tuple[float, int]]] = {TEXT: [], VIDEO: []}
    for wanted, sequence in sequences:
        ids, slots = sequence.ids.tolist(), sequence.slots.tolist()
        first, nats, tokens = [(ids[:1], [0])], 0.0, 0
        if engine is None:
            reading: Reading = OwnReading(model.decoder, first, room=len(ids))
        else:
            reading = engine.read(first, room=len(ids))
        for place in range(1, len(ids)):
            kind = int(sequence.modality[place])
            low, high = (start, total) if kind == VIDEO else (0, start)
            if kind == wanted:
                wrong = F.cross_entropy(
                    reading.scores(low, high)[0], torch.tensor(ids[place] - low)
                )
                nats, tokens = nats + float(wrong), tokens + 1
            reading.push(ids[place : place + 1], slots[place : place + 1])
        sums[wanted].append((nats, tokens))
    return {kind: np.array(found) for kind, found in sums.items()}


def more(found: Sums, plain: Sums) -> str:
    """Nats a token, and how many more than with plain weights, with a bootstrap interval."""
    drawn = np.random.default_rng(0).integers(len(found), size=(DRAWS, len(found)))
    tokens = found[:, 1]
    apart = (found[:, 0] - plain[:, 0])[drawn].sum(1) / tokens[drawn].sum(1)
    low, high = np.quantile(apart, (0.025, 0.975))
    mean = (found[:, 0] - plain[:, 0]).sum() / tokens.sum()
    value = found[:, 0].sum() / tokens.sum()
    return f"{value:.4f}, {mean:+.4f} ({low:+.4f} to {high:+.4f}) to float32"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--source", default="scenes:easy")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--engines", nargs="+", default=["torch:bf16", "torch:int8"])
    given = parser.parse_args()
    model = Model.load(given.model)
    source = open_known(model.framing, given.source, split="heldout", num_clips=given.clips)
    sequences = []
    for clip in (source[i] for i in range(given.clips)):
        video, caption = Video(model.encode(clip)), Text("caption", clip.caption)
        watched = Document.of(Task("watch"), video, caption)
        filmed = Document.of(Task("film"), caption, video)
        for kind, document in ((TEXT, watched), (VIDEO, filmed)):
            sequences.append((kind, write(document, model.vocabulary)))
    plain: Found = {}
    for name in ("torch", *given.engines):
        engine = open_engine(name, model.decoder, model.vocabulary)
        found = losses(model, engine, sequences)
        plain = plain or found
        for kind, what in ((TEXT, "text"), (VIDEO, "codes")):
            print(f"{name:14} {what:5} {more(found[kind], plain[kind])}, nats a token", flush=True)


if __name__ == "__main__":
    main()
