"""`ClipData`: the clips of codec training, drawn by step, and the held-out ones to watch.

What a step sees (clips, size, single frames or not) follows from (seed, step) alone, so that a
resumed run sees what an uninterrupted one would have. It does not know what learns from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.clip import Clip
from data.collation import collate
from data.labels import ABSENT, class_numbers, label_classes, labels_of
from data.order import ShuffledBatches, StepLoader
from data.phrases import captions_of, common_phrases, phrase_numbers
from data.source import Source, open_source


class ClipData(LightningDataModule):
    """Clips to train on and held-out ones to watch.

    Args:
        source: A folder of clips (`data.folder.Folder` says what is held out of it),
            scenes:easy|standard|hard, or hub:NAME.
        num_frames: Frames of a clip.
        height: Pixels.
        width: Pixels.
        fps: Frames a second to sample at; None keeps every frame of files.
        batch_size: Clips of a step.
        image_share: Share of steps, 0 to 1, whose clips are single frames.
        sizes: Frames, height and width of each step's clips, drawn by step; None: always
            num_frames, height and width, which held-out clips have in any case.
        phrases: At most so many words and pairs of words of the captions, the commonest, that
            summaries of clips are taught to tell; for scenes that labels do not tell. 0: none.
        num_clips: At most so many training clips; None for all.
        held_out: Clips to watch.
        workers: Processes that make batches beside the training; 0 makes them between steps.
        strict: Stop at the first clip that cannot be read.
        seed: Of the order of the clips; --seed_everything's where it is not given, else 0.
    """

    def __init__(
        self,
        source: str,
        num_frames: int = 8,
        height: int = 32,
        width: int = 32,
        fps: float | None = None,
        batch_size: int = 16,
        image_share: float = 0.0,
        sizes: list[tuple[int, int, int]] | None = None,
        phrases: int = 0,
        num_clips: int | None = None,
        held_out: int = 64,
        workers: int = 0,
        strict: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= image_share <= 1:
            raise ValueError(f"image_share={image_share}: give a share of the steps, 0 to 1")
        if sizes is not None and (not sizes or min(map(min, sizes)) < 1):
            raise ValueError(f"sizes={sizes}: give [frames, height, width] of 1 or more each")
        if phrases < 0:
            raise ValueError(f"phrases={phrases}: give 0 (none) or more")
        for name, count in (("num_clips", num_clips), ("held_out", held_out)):
            if count is not None and count < 1:
                raise ValueError(f"{name}={count}: give at least one clip")
        self.batch_size, self.workers, self.seed = batch_size, workers, seed or 0
        self.image_share = image_share
        self.sizes = [(num_frames, height, width)] if sizes is None else sizes
        self.counts = {"train": num_clips, "heldout": held_out}
        self.watched_size = (num_frames, height, width)
        self.options: dict[str, Any] = {"fps": fps, "strict": strict}
        self.spec = source
        self.sources: dict[tuple[str, tuple[int, int, int]], Source] = {}  # by split and size
        self.classes: dict[str, list[str]] = {}  # of the training clips' labels
        self.phrases: list[str] = []  # of their captions
        self.most_phrases = phrases

    def setup(self, stage: str) -> None:
        for split, sizes in (("train", self.sizes), ("heldout", [self.watched_size])):
            for frames, height, width in sizes:
                size = frames, height, width
                if (split, size) not in self.sources:
                    self.sources[split, size] = open_source(
                        self.spec,
                        split=split,
                        num_clips=self.counts[split],
                        cache=True,
                        **dict(zip(("num_frames", "height", "width"), size, strict=True)),
                        **self.options,
                    )
        if not self.classes:
            self.classes = label_classes(self._training_sources()[0])
        if self.most_phrases and not self.phrases:
            self.phrases = common_phrases(self._training_sources()[0], self.most_phrases)
            if not self.phrases:
                raise ValueError(
                    f"phrases={self.most_phrases}: {self.spec} has no captions, or none with words "
                    "that some clips share and others lack; give data.phrases 0"
                )

    def _training_sources(self) -> list[Source]:
        return [self.sources["train", size] for size in self.sizes]

    def train_dataloader(self) -> DataLoader[Tensor]:
        assert self.trainer is not None
        sources = self._training_sources()
        batches = ShuffledBatches(
            min(map(len, sources)),
            self.batch_size,
            self.seed,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        start = self.trainer.global_step
        tell = partial(told_of, classes=self.classes, phrases=self.phrases)
        fetch = _Fetch(sources, tell, self.image_share, self.seed)
        steps = StepLoader(batches, fetch, start)
        return DataLoader(steps, batch_size=None, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        source = self.sources["heldout", self.watched_size]
        return DataLoader(
            _Watched(source, partial(told_of, classes=self.classes, phrases=self.phrases)),
            batch_size=self.batch_size,
            num_workers=0,
        )


def told_of(
    source: Source,
    indices: Sequence[int],
    classes: Mapping[str, Sequence[str]],
    phrases: Sequence[str],
) -> Tensor:
    """Labels and phrases of clips as `LabelHead` wants them, int64 (clips, labels + phrases)."""
    told = class_numbers(labels_of(source, indices), classes)
    if not phrases:
        return told
    return torch.cat([told, phrase_numbers(captions_of(source, indices), phrases)], dim=1)


class _Fetch:
    """The frames of one step's clips, uint8 (S, T, 3, H, W), with labels and phrases as numbers.

    Which source a step takes, and whether it takes single frames, follows from (seed, step) alone
    and so is the same on all ranks. What is told is of whole clips: single frames have none.
    """

    def __init__(
        self,
        sources: list[Source],
        tell: Callable[[Source, Sequence[int]], Tensor],
        image_share: float,
        seed: int,
    ) -> None:
        self.sources, self.tell = sources, tell
        self.image_share, self.seed = image_share, seed

    def __call__(self, step: int, indices: list[int]) -> tuple[Tensor, Tensor]:
        luck = np.random.default_rng((self.seed, step))
        source = self.sources[luck.integers(len(self.sources))]
        told = self.tell(source, indices)
        draw = getattr(source, "frames", None)  # made worlds draw a batch at once
        if draw is None:
            frames = collate([source[index] for index in indices]).frames
        else:
            frames = draw(indices)
        if luck.random() < self.image_share:
            at = int(luck.integers(frames.shape[1]))
            return frames[:, at : at + 1].clone(), torch.full_like(told, ABSENT)
        return frames, told


class _Watched(Dataset[tuple[Tensor, Tensor]]):
    """The frames of each clip, uint8 (T, 3, H, W), and what is told of it."""

    def __init__(self, source: Source, tell: Callable[[Source, Sequence[int]], Tensor]) -> None:
        self.source, self.tell = source, tell

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        clip: Clip = self.source[index]
        return clip.frames, self.tell(self.source, [index])[0]
