"""Probing: what of an action can be read off a frozen decoder's states over a clip's codes.

States of a layer are pooled, by their mean or by learned queries, and a linear head names the
action. Heads learn on training clips alone; the decoder never changes. Knows states and labels.
Knows no files and no tasks.

Shapes: S clips, L codes of a clip, D numbers of a state, Q queries, F classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm.batches import pad
from lm.document import Document, Task, Video
from lm.model import Decoder
from lm.sequence import VIDEO, write
from lm.vocabulary import Vocabulary
from tokenizer.codec import Codec
from tokenizer.tokens import VideoTokens

Pooling = Literal["mean", "attention"]
POOLINGS: tuple[Pooling, ...] = ("mean", "attention")
QUERIES = 4
ROWS = 64  # clips side by side
NONE = -1  # a label that no training clip has


@dataclass(frozen=True)
class States:
    """What a layer holds of clips; codes that a shorter clip has not are left out.

    values: float16 (S, L, D), or another type. there: bool (S, L).
    """

    values: Tensor
    there: Tensor

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Fitting:
    """How heads learn; the same for all of them, so that they can be compared."""

    steps: int = 1000  # of `ROWS` clips each
    rate: float = 0.01  # AdamW's at the start, falling as a cosine
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: give 1 or more")


class Head(nn.Module):
    """Scores of classes from states.

    Attention is of `QUERIES` learned queries, each with a preference for places.
    """

    def __init__(self, pooling: Pooling, length: int, dim: int, classes: int) -> None:
        super().__init__()
        count = 1 if pooling == "mean" else QUERIES
        self.pooling: Pooling = pooling
        self.queries = nn.Parameter(torch.randn(count, dim) / dim**0.5)
        self.places = nn.Parameter(torch.zeros(count, length))
        self.norm = nn.BatchNorm1d(count * dim, affine=False, momentum=None)  # mean over batches
        self.read = nn.Linear(count * dim, classes)
        nn.init.zeros_(self.read.weight)
        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.shift: Tensor
        self.scale: Tensor

    def standardise(self, states: States) -> None:
        """Take states of training clips to have mean 0 and spread 1 from here on."""
        total, squares, count = torch.zeros(3, states.values.shape[2], dtype=torch.float64)
        for rows in torch.arange(len(states)).split(ROWS):
            seen = states.values[rows][states.there[rows]].double()  # (n, D)
            total, squares = total + seen.sum(0), squares + seen.square().sum(0)
            count = count + len(seen)
        mean = total / count
        spread = (squares / count - mean.square()).clamp(min=1e-12).sqrt()
        self.shift, self.scale = mean.float(), spread.float()

    @torch.no_grad()
    def settle(self, states: States) -> None:
        """Norm by what training clips are pooled to now, not by what they were on the way."""
        self.norm.reset_running_stats()
        for rows in torch.arange(len(states)).chunk(max(1, len(states) // ROWS)):
            self(states.values[rows], states.there[rows])

    def forward(self, values: Tensor, there: Tensor) -> Tensor:
        """Scores (S, F) from states (S, L, D) where `there` (S, L) holds."""
        x = (values.float() - self.shift) / self.scale * there[..., None]
        if self.pooling == "mean":
            pooled = x.sum(1, keepdim=True) / there.sum(1)[:, None, None]
        else:
            fit = torch.einsum("sld,qd->sql", x, self.queries) + self.places
            share = fit.masked_fill(~there[:, None], -torch.inf).softmax(-1)
            pooled = share @ x  # (S, Q, D)
        return self.read(self.norm(pooled.flatten(1)))


def fit_head(
    states: States,
    labels: Tensor,
    classes: int,
    pooling: Pooling,
    fitting: Fitting | None = None,
    progress: Callable[[], None] | None = None,
) -> Head:
    """A head that has learned to name the labels of training clips; the same for the same seed.

    Args:
        states: Of the clips.
        labels: int64 (S,), class numbers.
        classes: F.
        pooling: How states of a clip become one.
        fitting: How it learns.
        progress: Called after each step.
    """
    fitting = fitting or Fitting()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fitting.seed)
        head = Head(pooling, states.values.shape[1], states.values.shape[2], classes)
    head.standardise(states)
    luck = torch.Generator().manual_seed(fitting.seed)
    optimiser = torch.optim.AdamW(
        head.parameters(), lr=fitting.rate, weight_decay=fitting.weight_decay
    )
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, fitting.steps)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(fitting.steps):
        while len(order) < ROWS:  # each clip as often as the others
            order = torch.cat([order, torch.randperm(len(states), generator=luck)])
        rows, order = order[:ROWS], order[ROWS:]
        optimiser.zero_grad()
        scores = head(states.values[rows], states.there[rows])
        F.cross_entropy(scores, labels[rows]).backward()
        optimiser.step()
        falling.step()
        if progress is not None:
            progress()
    head.settle(states)
    return head.eval()


@torch.inference_mode()
def marks_of(head: Head, states: States, labels: Tensor) -> list[bool]:
    """Whether each clip's label is the likeliest class; a label of no class never is."""
    found: list[bool] = []
    for rows in torch.arange(len(states)).split(ROWS):
        named = head(states.values[rows], states.there[rows]).argmax(1)
        found += (named == labels[rows]).tolist()
    return found


@torch.inference_mode()
def layer_states(
    decoder: Decoder,
    vocabulary: Vocabulary,
    videos: Sequence[VideoTokens],
    layers: Sequence[int],
    progress: Callable[[int], None] | None = None,
) -> dict[int, States]:
    """States over the codes of clips, each clip read for itself and nothing asked.

    Args:
        decoder: What reads, in eval mode.
        vocabulary: Of its ids.
        videos: The clips.
        layers: Numbers of blocks, from 1, after which to look.
        progress: Called with the number of clips read, some at a time.
    """
    longest = max(video.num_tokens for video in videos)
    held: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    there = torch.zeros(len(videos), longest, dtype=torch.bool)
    caught: dict[int, Tensor] = {}

    def catch(layer: int) -> Callable[..., None]:
        return lambda _module, _inputs, output: caught.update({layer: output})

    hooks = [decoder.blocks[n - 1].register_forward_hook(catch(n)) for n in layers]
    try:
        for rows in torch.arange(len(videos)).split(ROWS):
            documents = [Document.of(Task("watch"), Video(videos[i])) for i in rows.tolist()]
            batch = pad([write(d, vocabulary) for d in documents], vocabulary)
            batch = batch.to(decoder.table.weight.device)
            decoder(batch.ids, slots=batch.slots)
            codes = [row.nonzero()[:, 0] for row in batch.modality == VIDEO]
            for layer in layers:
                part = torch.zeros(len(rows), longest, caught[layer].shape[2], dtype=torch.float16)
                for i, places in enumerate(codes):
                    part[i, : len(places)] = caught[layer][i, places].cpu()
                    there[rows[i], : len(places)] = True
                held[layer].append(part)
            if progress is not None:
                progress(len(rows))
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: States(torch.cat(parts), there) for layer, parts in held.items()}


def code_states(codec: Codec, videos: Sequence[VideoTokens]) -> States:
    """The codec's own vectors of the clips' codes, in the codec's order."""
    vectors = codec.code_vectors().detach().float().cpu()
    rows = [torch.cat(video.codes) for video in videos]
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    there = torch.arange(padded.shape[1]) < lengths[:, None]
    return States(vectors[padded], there)


def class_table(labels: Sequence[str]) -> dict[str, int]:
    """The classes of training clips with their numbers.

    Raises:
        ValueError: fewer than two.
    """
    classes = {label: i for i, label in enumerate(sorted(set(labels)))}
    if len(classes) < 2:
        raise ValueError(
            f"the training clips have {len(classes)} different labels ({', '.join(classes)}): "
            "a probe tells at least two apart"
        )
    return classes


def numbers_of(labels: Sequence[str], classes: Mapping[str, int]) -> Tensor:
    """int64 (S,), the class of each clip, NONE for one that no training clip has."""
    return torch.tensor([classes.get(label, NONE) for label in labels])


def fingerprint(frames: Tensor) -> bytes:
    """What two clips share only if they show the same; of uint8 frames (T, 3, H, W)."""
    shape = repr(tuple(frames.shape)).encode()
    return hashlib.blake2b(shape + frames.contiguous().numpy().tobytes(), digest_size=16).digest()
