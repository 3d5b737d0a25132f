"""Batches: which documents a step trains on, drawn from (seed, step) alone, and their tensors.

What stands in a document is drawn by `lm.layouts`. Knows no model and no trainer.
"""

from __future__ import annotations

from collections.abc import Sequence as List
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from lm.corpus import Corpus, Spelled
from lm.document import Nothing, Task
from lm.layouts import Layouts, Mixture
from lm.segments import BRANCHES
from lm.sequence import Sequence, Span, join, write_item
from lm.vocabulary import TASKS, Vocabulary


@dataclass(frozen=True)
class Batch:
    """Rows of ids and companions, as in `Sequence`; padding is on the right with weight 0."""

    ids: Tensor  # (B, L) int64
    weights: Tensor  # (B, L) float32
    positions: Tensor  # (B, L) int64
    modality: Tensor  # (B, L) uint8
    slots: Tensor  # (B, L) int64
    segments: Tensor | None  # (B, L) int64; None where every token sees all before it

    @property
    def num_tokens(self) -> int:
        """Places in the rows, padding included."""
        return self.ids.numel()

    def to(self, device: torch.device | str) -> Batch:
        segments = None if self.segments is None else self.segments.to(device)
        names = [f.name for f in fields(self) if f.name != "segments"]
        return Batch(**{n: getattr(self, n).to(device) for n in names}, segments=segments)


class Documents:
    """Draws a step's documents.

    Args:
        corpus: Examples to draw from.
        mixture: What to make of them.
        context: Most tokens a document may have; texts that would not fit are left out.
        seed: Of all choices.
    """

    def __init__(
        self, corpus: Corpus, mixture: Mixture | None = None, *, context: int = 1024, seed: int = 0
    ) -> None:
        self.corpus = corpus
        self.mixture = mixture or Mixture()
        self.context = context
        self.seed = seed
        marks = {name: write_item(Task(name), corpus.vocabulary) for name in TASKS}
        marks["nothing"] = write_item(Nothing(), corpus.vocabulary)
        self._layouts = Layouts(self.mixture, marks)

    def draw(self, step: int, indices: List[int], rank: int = 0) -> list[Sequence]:
        """One document for each example number; the same for the same (seed, step, rank)."""
        rng = np.random.default_rng((self.seed, step, rank))
        return [self.document(index, rng) for index in indices]

    def document(self, index: int, rng: np.random.Generator) -> Sequence:
        """A random document about example `index`.

        Raises:
            ValueError: the videos alone are longer than the context.
        """
        layouts, clip = self._layouts, self.corpus.spelled(index)
        video = self._video(index, clip, rng)
        if rng.random() < self.mixture.talk:
            other = int(rng.integers(len(self.corpus)))
            second = self.corpus.spelled(other)
            parts = layouts.talk([(clip, video), (second, self._video(other, second, rng))], rng)
        elif rng.random() < self.mixture.generate or not clip.has_texts:
            parts = layouts.film(clip, video, rng)
        else:
            parts = layouts.watch(clip, video, self.context - 2, rng)
        length = 2 + sum(len(part.span.ids) for part in parts)
        if length > self.context:
            raise ValueError(
                f"a document of {length} tokens in a context of {self.context}: raise the model's "
                "context, encode at fewer tokens a frame, or cut the clips shorter"
            )
        branches = [part.branch for part in parts]
        return join(
            [part.span for part in parts],
            self.corpus.vocabulary,
            [part.weight for part in parts],
            end=True,
            branches=branches if any(branches) else None,
        )

    def _video(self, index: int, spelled: Spelled, rng: np.random.Generator) -> Span:
        rates = self.mixture.rates
        if not rates:
            return spelled.video
        choice = int(rng.integers(len(rates) + 1))
        full = max(len(block) for block in spelled.tokens.codes)
        if choice == len(rates) or rates[choice] >= full:
            return spelled.video
        return self.corpus.at_rate(index, rates[choice])


def pad(sequences: List[Sequence], vocabulary: Vocabulary) -> Batch:
    """A row for each sequence, padded on the right to the longest."""
    length = max(len(s) for s in sequences)
    rows = len(sequences)
    plain = not any(bool(s.segments.any()) for s in sequences)
    batch = Batch(
        ids=torch.full((rows, length), vocabulary.special("<pad>")),
        weights=torch.zeros(rows, length),
        positions=torch.arange(length).repeat(rows, 1),
        modality=torch.zeros(rows, length, dtype=torch.uint8),
        slots=torch.zeros(rows, length, dtype=torch.int64),
        segments=None if plain else torch.full((rows, length), -1),  # padding sees only itself
    )
    for row, sequence in enumerate(sequences):
        n = len(sequence)
        batch.ids[row, :n] = sequence.ids
        batch.weights[row, :n] = sequence.weights
        batch.modality[row, :n] = sequence.modality
        batch.slots[row, :n] = sequence.slots
        if batch.segments is not None:
            batch.segments[row, :n] = sequence.segments
            batch.positions[row, :n] = sequence.positions
    return batch


def grouped(sequences: List[Sequence], vocabulary: Vocabulary, groups: int = 2) -> list[Batch]:
    """Documents padded in up to `groups` batches of like lengths, to waste little on padding."""
    ordered = sorted(sequences, key=len)
    lengths = [len(s) for s in ordered]
    if groups < 2 or len(ordered) < 4:
        return [pad(ordered, vocabulary)]
    total = len(ordered)
    costs = [k * lengths[k - 1] + (total - k) * lengths[-1] for k in range(1, total)]
    split = 1 + int(np.argmin(costs))
    if min(costs) > 0.9 * total * lengths[-1]:  # little to win
        return [pad(ordered, vocabulary)]
    return [pad(ordered[:split], vocabulary), pad(ordered[split:], vocabulary)]


def pack(sequences: List[Sequence], vocabulary: Vocabulary, length: int) -> Batch:
    """Several documents a row of `length` places, told apart by segments: first fit, long first.

    Raises:
        ValueError: a document is longer than a row.
    """
    rows: list[list[Sequence]] = []
    room: list[int] = []
    for sequence in sorted(sequences, key=len, reverse=True):
        if len(sequence) > length:
            raise ValueError(
                f"a document of {len(sequence)} tokens in rows of {length}: raise the context"
            )
        row = next((i for i, left in enumerate(room) if left >= len(sequence)), None)
        if row is None:
            rows.append([])
            room.append(length)
            row = len(rows) - 1
        rows[row].append(sequence)
        room[row] -= len(sequence)
    return pad([_chain(row) for row in rows], vocabulary)


def _chain(sequences: List[Sequence]) -> Sequence:
    parts = {f.name: torch.cat([getattr(s, f.name) for s in sequences]) for f in fields(Sequence)}
    sizes = torch.tensor([len(s) for s in sequences])
    parts["segments"] += BRANCHES * torch.arange(len(sequences)).repeat_interleave(sizes)
    return Sequence(**parts)
