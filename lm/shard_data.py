"""Token shards as the data of a language model's training, for Lightning: `ShardData`.

Each step's documents follow from (seed, step) alone. What stands in them is `lm.batches`'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from lightning.pytorch import LightningDataModule
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from data.order import ShuffledBatches, StepLoader
from data.shards import TokenShards
from lm.batches import GROUPS, Mixture, Pass, passes
from lm.corpus import Corpus, make_vocabulary
from lm.curriculum import Curriculum, Stage, check_stages
from lm.kept_pieces import KeptPieces, pieces_of
from lm.model import Sizes
from lm.vocabulary import Vocabulary
from tokenizer.encoding import read_record
from tokenizer.ordering import BlockLayout


class ShardData(LightningDataModule):
    """Token shards to train on, and held-out ones to watch.

    Args:
        shards: Folder of token shards, as `kinolex tokenizer shards` writes it.
        held_out: Folder of token shards to watch; none if left out.
        batch_size: Documents of a step on each device. `trainer.accumulate_grad_batches` lets them
            pass in so many parts, which takes less memory and changes nothing that is learned.
        mixture: What documents are made of.
        curriculum: Stages of shorter documents or lower rates, as shares of trainer.max_steps.
        packing: Put several documents in a row of the model's context, told apart by segments;
            otherwise rows hold one each, grouped by length.
        num_pieces: Most text pieces beyond bytes and characters.
        watched: Held-out documents to watch.
        workers: Processes that make batches beside the training; 0 makes them between steps.
        seed: Of all draws; --seed_everything's where it is not given, else 0.
    """

    def __init__(
        self,
        shards: Path,
        held_out: Path | None = None,
        batch_size: int = 16,
        mixture: Mixture = Mixture(),  # noqa: B008 (frozen)
        curriculum: tuple[Stage, ...] = (),
        packing: bool = False,
        num_pieces: int = 512,
        watched: int = 256,
        workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if num_pieces < 0:
            raise ValueError(f"data.num_pieces={num_pieces}: give 0 or more")
        self.shards, self.held_out_path = Path(shards), held_out
        self.batch_size, self.mixture, self.packing = batch_size, mixture, packing
        self.curriculum = curriculum
        self.num_pieces, self.watched = num_pieces, watched
        self.workers, self.seed = workers, seed or 0
        self.corpus: Corpus | None = None
        self._missing: list[str] = []
        self.held_out: Corpus | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        assert self.corpus is not None
        return self.corpus.vocabulary

    @property
    def taught(self) -> tuple[str, ...]:
        """What the mixture teaches that not every model learns, where the clips have it."""
        return tuple(name for name in self.mixture.taught if name not in self._missing)

    @property
    def context(self) -> int:
        assert self.trainer is not None
        sizes = self.trainer.lightning_module.sizes
        assert isinstance(sizes, Sizes)
        return sizes.context

    @property
    def _groups(self) -> int:
        """Batches of a pass: one where weights are sharded, since ranks must ask for them alike."""
        sharded = self.trainer is not None and isinstance(
            self.trainer.strategy, ModelParallelStrategy
        )
        return 1 if sharded else GROUPS

    def _kept_pieces(self) -> KeptPieces | None:
        """The text vocabulary of the pretrained model that training starts from, if it does."""
        module = None if self.trainer is None else self.trainer.lightning_module
        folder = getattr(module, "init_from", None)
        return None if folder is None else pieces_of(folder)

    def setup(self, stage: str) -> None:
        if self.corpus is not None:
            return
        records = _open_shards(self.shards)
        if self.trainer is not None:
            check_stages(self.curriculum, self.trainer.max_steps)
        stages = [stage.rates for stage in self.curriculum]
        rates = tuple(dict.fromkeys(chain(self.mixture.rates, *stages)))
        vocabulary = make_vocabulary(
            records,
            _layout(records),
            num_pieces=self.num_pieces,
            rates=rates,
            pieces=self._kept_pieces(),
        )
        self.corpus = Corpus(records, vocabulary)
        self._missing = self._without_clips(self.corpus)
        if self.held_out_path is not None:
            watched = _open_shards(self.held_out_path)
            theirs = read_record(*watched[0]).tokens.codec_id
            if theirs != vocabulary.codec_id:
                raise ValueError(
                    f"held_out={self.held_out_path} has tokens of codec {theirs}, the shards to "
                    f"train on of {vocabulary.codec_id}: encode both with one codec"
                )
            self.held_out = Corpus(watched, vocabulary)
        elif self.trainer is not None:
            self.trainer.limit_val_batches = 0  # nothing to watch

    def _without_clips(self, corpus: Corpus) -> list[str]:
        """What the mixture would teach and no clip has, told in warnings."""
        idle = []
        for name, what in {"events": "events", "fill": "stills"}.items():
            amount = getattr(self.mixture, name)
            if amount and not any(getattr(corpus.record(i), what) for i in range(len(corpus))):
                idle.append(name)
                rank_zero_warn(
                    f"mixture.{name}={amount} has no effect: no clip of {self.shards} has {what}",
                    stacklevel=3,
                )
        return idle

    def train_dataloader(self) -> Passes:
        trainer = self.trainer
        assert trainer is not None and self.corpus is not None
        rank, size = trainer.global_rank, self.batch_size
        order = ShuffledBatches(len(self.corpus), size, self.seed, rank, trainer.world_size)
        fetch = _Fetch(
            Curriculum(
                self.corpus,
                self.mixture,
                self.curriculum,
                trainer.max_steps,
                context=self.context,
                seed=self.seed,
            ),
            row=self.context if self.packing else None,
            first=rank * size,
            parts=trainer.accumulate_grad_batches,
            groups=self._groups,
        )
        steps = StepLoader(order, fetch, trainer.global_step)
        return Passes(DataLoader(steps, batch_size=None, num_workers=self.workers))

    def val_dataloader(self) -> Passes:
        assert self.held_out is not None
        size = min(self.watched, len(self.held_out))
        order = ShuffledBatches(size, min(self.batch_size, size), seed=0)
        true = replace(self.mixture, corrupt=0.0)
        documents = Curriculum(self.held_out, true, context=self.context)
        row = self.context if self.packing else None
        fetch = _Fetch(documents, row=row, groups=self._groups)
        steps = StepLoader(order, fetch, num_steps=-(-size // order.batch_size))
        return Passes(DataLoader(steps, batch_size=None, num_workers=0))


class Passes:
    """The passes of each step, one after the other; workers make whole steps."""

    def __init__(self, steps: Iterable[list[Pass]]) -> None:
        self.steps = steps

    def __iter__(self) -> Iterator[Pass]:
        for step in self.steps:
            yield from step


def _layout(records: TokenShards) -> BlockLayout | None:
    """How the shards' codec lays out its blocks, if they say so."""
    fields = records.meta.get("layout")
    return None if fields is None else BlockLayout(**fields)


def _open_shards(path: Path) -> TokenShards:
    records = TokenShards(path)
    if not len(records):
        raise ValueError(f"{path} holds no records: encode some clips into it first")
    return records


@dataclass(frozen=True)
class _Fetch:
    """The passes of one step on one device."""

    documents: Curriculum
    row: int | None  # places in a row to pack into
    first: int = 0  # place in the step of this device's first document
    parts: int = 1
    groups: int = GROUPS

    def __call__(self, step: int, indices: list[int]) -> list[Pass]:
        sequences = self.documents.draw(step, indices, self.first)
        vocabulary = self.documents.corpus.vocabulary
        more = {"parts": self.parts, "row": self.row, "groups": self.groups}
        return passes(sequences, vocabulary, **more)
