"""Batches: which documents a step trains on, drawn from (seed, step) alone, and their tensors.

What stands in a document is drawn by `lm.layouts`. Knows no model and no trainer.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence as List
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lm.corpus import Corpus, Spelled
from lm.document import Nothing, Task
from lm.layouts import Layouts, Mixture
from lm.segments import BRANCHES
from lm.sequence import TEXT, VIDEO, Sequence, Span, join, write_item
from lm.vocabulary import TASKS, Vocabulary

GROUPS, WORTH = 4, 0.04  # batches of a step at most; share of its places that each must save


@dataclass(frozen=True)
class Batch:
    """Rows of ids and companions, as in `Sequence`; padding is on the right with weight 0."""

    ids: Tensor  # (B, L) int64
    weights: Tensor  # (B, L) float32
    positions: Tensor  # (B, L) int64
    modality: Tensor  # (B, L) uint8
    slots: Tensor  # (B, L) int64
    segments: Tensor | None  # (B, L) int64; None where every token sees all before it
    inputs: Tensor | None = None  # (B, L) int64; None where they are the ids

    @property
    def num_tokens(self) -> int:
        """Places in the rows, padding included."""
        return self.ids.numel()

    @property
    def learned(self) -> Tensor:
        """Which of all tokens but the first of each row a loss falls on, bool (B, L - 1)."""
        return (self.weights[:, 1:] > 0) & (self.positions[:, 1:] > 0)  # a first has no past

    def to(self, device: torch.device | str) -> Batch:
        tensors = ((f.name, getattr(self, f.name)) for f in fields(self))
        return replace(self, **{name: t.to(device) for name, t in tensors if t is not None})


@dataclass(frozen=True)
class Pass:
    """What goes through a model at once: a step on one device, or one of its parts."""

    batches: list[Batch]
    totals: Tensor  # (3,) float32: summed loss weights by modality of the device's whole step
    parts: int = 1  # passes of the step; their gradients add up

    @property
    def num_tokens(self) -> int:
        """Places in the rows, padding included."""
        return sum(batch.num_tokens for batch in self.batches)

    def to(self, device: torch.device | str) -> Pass:
        batches = [batch.to(device) for batch in self.batches]
        return Pass(batches, self.totals.to(device), self.parts)


def weight_totals(batches: List[Batch]) -> Tensor:
    """The summed loss weights of structure, text and video, float32 (3,)."""
    kinds, values = [], []
    for batch in batches:
        kinds.append(batch.modality[:, 1:][batch.learned].long())
        values.append(batch.weights[:, 1:][batch.learned])
    return torch.bincount(torch.cat(kinds), torch.cat(values), minlength=3).float()


def passes(
    sequences: List[Sequence],
    vocabulary: Vocabulary,
    *,
    parts: int = 1,
    row: int | None = None,
    groups: int = GROUPS,
) -> list[Pass]:
    """The passes of one step.

    Args:
        sequences: The step's documents.
        vocabulary: Their id space.
        parts: Passes, of equally many documents as far as that goes.
        row: Places in a row to pack documents into; None: rows hold one each, grouped by length.
        groups: Most batches of a pass, where documents are not packed.

    Raises:
        ValueError: there are fewer documents than parts.
    """
    if not 1 <= parts <= len(sequences):
        raise ValueError(
            f"a step of {len(sequences)} documents in {parts} passes: raise data.batch_size or "
            "lower trainer.accumulate_grad_batches"
        )
    bounds = [len(sequences) * part // parts for part in range(parts + 1)]
    made = []
    for start, stop in pairwise(bounds):
        some = sequences[start:stop]
        made.append(
            grouped(some, vocabulary, groups) if row is None else [pack(some, vocabulary, row)]
        )
    totals = weight_totals([batch for batches in made for batch in batches])
    return [Pass(batches, totals, parts) for batches in made]


class TooLong(ValueError):
    """A document that is longer than the context."""


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
        top = max((max(fmt.tokens_per_block) for fmt in corpus.vocabulary.presets), default=1)
        if idle := [rate for rate in self.mixture.rates if rate >= top]:
            warnings.warn(
                f"mixture.rates={idle}: clips have {top} tokens a block at most, so these are the "
                "full rate",
                stacklevel=2,
            )
        marks = {name: write_item(Task(name), corpus.vocabulary) for name in TASKS}
        marks["nothing"] = write_item(Nothing(), corpus.vocabulary)
        self._layouts = Layouts(self.mixture, marks)

    def draw(self, step: int, indices: List[int], first: int = 0) -> list[Sequence]:
        """One document for each example number.

        Each follows from (seed, step, its place in the step) alone, so that however many devices
        share a step, its documents are the same; `first` is the place of the first of these.
        """
        return [self.one(index, step, place) for place, index in enumerate(indices, first)]

    def one(self, index: int, *luck: int) -> Sequence:
        """A document about example `index`, the same for the same seed and luck.

        Raises:
            TooLong: it is longer than the context.
        """
        rng = np.random.default_rng((self.seed, *luck))
        sequence = self.document(index, rng)
        if self.mixture.corrupt:
            sequence = corrupted(sequence, self.mixture.corrupt, self.corpus.vocabulary, rng)
        return sequence

    def document(self, index: int, rng: np.random.Generator) -> Sequence:
        """A random document about example `index`.

        Raises:
            TooLong: the videos alone are longer than the context.
        """
        layouts, clip = self._layouts, self.corpus.spelled(index)
        often = self.mixture.full
        video = self._video(index, clip, rng, often)
        if rng.random() < self.mixture.talk:
            other = int(rng.integers(len(self.corpus)))
            second = self.corpus.spelled(other)
            parts = layouts.talk(
                [(clip, video), (second, self._video(other, second, rng, often))], rng
            )
        elif rng.random() < self.mixture.generate or not clip.has_texts:
            if self.mixture.film_full is not None:
                video = self._video(index, clip, rng, self.mixture.film_full)
            parts = layouts.film(clip, video, rng)
        else:
            parts = layouts.watch(clip, video, self.context - 2, rng)
        length = 2 + sum(len(part.span.ids) for part in parts)
        if length > self.context:
            raise TooLong(
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

    def _video(self, index: int, spelled: Spelled, rng: np.random.Generator, often: int) -> Span:
        """The clip's video at a rate that is drawn, at the full one `often` times as often."""
        rates = self.mixture.rates
        if not rates:
            return spelled.video
        choice = int(rng.integers(len(rates) + often))
        full = max(len(block) for block in spelled.tokens.codes)
        if choice >= len(rates) or rates[choice] >= full:
            return spelled.video
        return self.corpus.at_rate(index, rates[choice])


def corrupted(
    sequence: Sequence, share: float, vocabulary: Vocabulary, rng: np.random.Generator
) -> Sequence:
    """A document with this share of its codes read as random ones; see `Mixture.corrupt`."""
    learned = (sequence.modality == TEXT) & (sequence.weights > 0)
    texts_to_come = learned.flip(0).cumsum(0).flip(0)  # (L,)
    free = (sequence.modality == VIDEO) & (texts_to_come == 0)
    chosen = free & torch.from_numpy(rng.random(len(sequence)) < share)
    codes = rng.integers(vocabulary.video_start, len(vocabulary), len(sequence))
    return replace(sequence, inputs=torch.where(chosen, torch.from_numpy(codes), sequence.ids))


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
    if any(s.inputs is not None for s in sequences):
        batch = replace(batch, inputs=batch.ids.clone())
    for row, sequence in enumerate(sequences):
        n = len(sequence)
        batch.ids[row, :n] = sequence.ids
        if batch.inputs is not None:
            batch.inputs[row, :n] = sequence.ids if sequence.inputs is None else sequence.inputs
        batch.weights[row, :n] = sequence.weights
        batch.modality[row, :n] = sequence.modality
        batch.slots[row, :n] = sequence.slots
        if batch.segments is not None:
            batch.segments[row, :n] = sequence.segments
            batch.positions[row, :n] = sequence.positions
    return batch


def grouped(sequences: List[Sequence], vocabulary: Vocabulary, groups: int = GROUPS) -> list[Batch]:
    """Documents padded in up to `groups` batches of like lengths, to waste little on padding."""
    ordered = sorted(sequences, key=len)
    edges = [0, *_splits([len(s) for s in ordered], groups), len(ordered)]
    return [pad(ordered[start:stop], vocabulary) for start, stop in pairwise(edges)]


def _splits(lengths: List[int], groups: int) -> list[int]:
    """Where to part rising lengths: at the places that leave least padding."""
    total = len(lengths)
    rows = np.arange(total + 1)
    cost = rows * np.array([0, *lengths])  # places that the first so many rows take
    padded = (rows[:, None] - rows) * np.array([0, *lengths])[:, None]  # of [stop, start]
    padded[rows[:, None] <= rows] = cost.max() + 1  # no group is empty
    padded[0, 0] = 0
    places: list[list[int]] = []  # by groups and rows, where the last group begins
    while len(places) + 1 < min(groups, total):
        found = cost + padded
        now = found.min(1)
        if now[-1] > (1 - WORTH) * cost[-1]:
            break
        cost = now
        places.append(found.argmin(1).tolist())
    splits: list[int] = []
    for where in reversed(places):
        splits.append(where[splits[-1] if splits else total])
    return splits[::-1]


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
    names = [f.name for f in fields(Sequence) if f.name != "inputs"]
    parts = {name: torch.cat([getattr(s, name) for s in sequences]) for name in names}
    if any(s.inputs is not None for s in sequences):
        parts["inputs"] = torch.cat([s.ids if s.inputs is None else s.inputs for s in sequences])
    sizes = torch.tensor([len(s) for s in sequences])
    parts["segments"] += BRANCHES * torch.arange(len(sequences)).repeat_interleave(sizes)
    return Sequence(**parts)
