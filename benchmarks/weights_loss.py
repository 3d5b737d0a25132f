"""What weights in fewer bits cost a trained model: nats a token of text and codes.

Captions after held-out clips, and codes of these clips after their captions, read token by token.

    python benchmarks/weights_loss.py --model runs/demo/model --source scenes:easy
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

from data.source import open_source
from lm.document import Document, Task, Text, Video
from lm.quantized import Bf16, Int8
from lm.sampling import prefill
from lm.sequence import TEXT, VIDEO, Sequence, write
from lm.step import Plain, Step
from lm.tasks import Model


@torch.inference_mode()
def losses(model: Model, step: Step, sequences: list[tuple[int, Sequence]]) -> dict[int, float]:
    """Mean nats of each document's own modality; codes among codes, all else among all else."""
    start, total = model.vocabulary.video_start, len(model.vocabulary)
    sums: dict[int, list[float]] = {TEXT: [], VIDEO: []}
    for wanted, sequence in sequences:
        ids, slots = sequence.ids, sequence.slots
        cache, hidden = prefill(model.decoder, [([int(ids[0])], [0])], room=len(ids))
        for place in range(1, len(ids)):
            token, kind = int(ids[place]), int(sequence.modality[place])
            low, high = (start, total) if kind == VIDEO else (0, start)
            if kind == wanted:
                logits = step.scores(hidden, low, high).float()
                loss = F.cross_entropy(logits, torch.tensor([token - low]))
                sums[kind].append(float(loss))
            hidden = step.read(ids[place : place + 1], slots[place : place + 1], cache)
    return {kind: sum(found) / len(found) for kind, found in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--source", default="scenes:easy")
    parser.add_argument("--clips", type=int, default=16)
    given = parser.parse_args()
    model = Model.load(given.model)
    main = model.framing.main
    source = open_source(
        given.source,
        split="heldout",
        num_clips=given.clips,
        num_frames=main.num_frames,
        height=main.height,
        width=main.width,
    )
    sequences = []
    for clip in (source[i] for i in range(given.clips)):
        video, caption = Video(model.encode(clip)), Text("caption", clip.caption)
        watched = Document.of(Task("watch"), video, caption)
        filmed = Document.of(Task("film"), caption, video)
        for kind, document in ((TEXT, watched), (VIDEO, filmed)):
            sequences.append((kind, write(document, model.vocabulary)))
    for name, product in (("float32", Plain), ("bf16", Bf16), ("int8", Int8)):
        found = losses(model, Step(model.decoder, product), sequences)
        print(f"{name:8} text {found[TEXT]:.4f}  codes {found[VIDEO]:.4f} nats a token")


if __name__ == "__main__":
    main()
