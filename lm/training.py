"""Lightning shells for language model training: `LanguageTraining` and its data, `ShardData`.

Thin: what is learned and how stands in `lm.learning` and `lm.batches`. A resumed run equals an
uninterrupted one because each step's documents follow from (seed, step) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from data.order import ShuffledBatches, StepLoader
from data.shards import TokenShards
from lm.batches import Batch, Documents, Mixture, grouped, pack
from lm.corpus import Corpus, make_vocabulary
from lm.learning import Recipe, code_features, make_decoder, make_optimizer, training_loss
from lm.loss import MODALITIES
from lm.model import Decoder, Sizes
from lm.tasks import Model
from lm.vocabulary import Vocabulary
from tokenizer.callbacks import log_video, progress_of
from tokenizer.codec import Codec
from tokenizer.commands import open_codec
from tokenizer.encoding import read_record
from tokenizer.fitting import FitReport
from tokenizer.fitting import fit as run_fit
from tokenizer.optimisation import MuonAdamW
from tokenizer.ordering import BlockLayout


class LanguageTraining(LightningModule):
    """Trains a language model over text and video tokens.

    Args:
        codec: Folder of the codec that made the token shards; by default the folder `codec`
            beside the shards' own.
        sizes: Of the network.
        recipe: How to train.
        samples: Clips to caption and prompts to film at each validation, for TensorBoard.
        seed: Of the initial weights; follows --seed_everything.
    """

    monitor, monitor_mode = "val/loss", "min"

    def __init__(
        self,
        codec: str | None = None,
        sizes: Sizes = Sizes(),  # noqa: B008 (frozen)
        recipe: Recipe = Recipe(),  # noqa: B008 (frozen)
        samples: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.codec_path = codec
        self.sizes, self.recipe, self.samples, self.seed = sizes, recipe, samples, seed
        self.decoder: Decoder | None = None
        self._codec: list[Codec] = []  # in a list: no part of the module's weights
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    @property
    def data(self) -> ShardData:
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(data, ShardData)
        return data

    @property
    def codec(self) -> Codec:
        if not self._codec:
            path = self.data.shards.parent / "codec" if self.codec_path is None else self.codec_path
            codec = open_codec(Path(path))
            if codec.tokens_id != self.data.vocabulary.codec_id:
                raise ValueError(
                    f"codec {path} is {codec.codec_id}, the token shards were made by "
                    f"{self.data.vocabulary.codec_id}: give that codec with --model.codec"
                )
            self._codec.append(codec)
        return self._codec[0]

    def configure_model(self) -> None:
        if self.decoder is None:
            features = code_features(self.codec.code_vectors())
            self.decoder = make_decoder(self.data.vocabulary, features, self.sizes, self.seed)

    def configure_optimizers(self) -> MuonAdamW:
        assert self.decoder is not None
        return make_optimizer(self.decoder, self.recipe)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        limit = self.recipe.clip if gradient_clip_val is None else gradient_clip_val
        self.log("train/gradient", torch.nn.utils.clip_grad_norm_(self.parameters(), limit))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        factor = self.recipe.schedule.factor(self.global_step, progress_of(self.trainer))
        optimizer = self.trainer.optimizers[0]
        assert isinstance(optimizer, MuonAdamW)
        optimizer.set_factor(factor)

    def training_step(self, batch: Sequence[Batch], batch_idx: int) -> Tensor:
        assert self.decoder is not None
        loss = training_loss(self.decoder, batch, self.recipe)
        values = dict(zip(MODALITIES, (loss.structure, loss.text, loss.video), strict=True))
        self.log_dict({f"train/{name}": value for name, value in values.items()}, batch_size=1)
        self.log("train/loss", loss.total.detach(), prog_bar=True, batch_size=1)
        self.log("train/progress", progress_of(self.trainer), batch_size=1)
        return loss.total

    def on_validation_epoch_start(self) -> None:
        self._sums, self._counts = {}, {}

    def validation_step(self, batch: Sequence[Batch], batch_idx: int) -> None:
        assert self.decoder is not None
        loss = training_loss(self.decoder, batch, self.recipe)
        means = (loss.structure, loss.text, loss.video)
        for name, mean, count in zip(MODALITIES, means, loss.tokens, strict=True):
            self._sums[name] = self._sums.get(name, 0.0) + float(mean) * count
            self._counts[name] = self._counts.get(name, 0) + count

    def on_validation_epoch_end(self) -> None:
        means = {name: self._sums[name] / max(1, self._counts[name]) for name in self._sums}
        total = sum(w * means[n] for w, n in zip(self.recipe.weights, means, strict=True))
        self.log_dict({f"val/{name}": value for name, value in means.items()})
        self.log("val/loss", total, prog_bar=True)
        if self.samples and self.trainer.is_global_zero:
            self._show_samples()

    def _show_samples(self) -> None:
        """Captions as text and films of prompts in TensorBoard, where there is one."""
        loggers = [log for log in self.loggers if isinstance(log, TensorBoardLogger)]
        corpus = self.data.held_out
        if not loggers or corpus is None or self.decoder is None:
            return
        was_training = self.decoder.training
        model = Model(self.decoder, self.data.vocabulary, self.codec)
        records = [corpus.record(i) for i in range(min(self.samples, len(corpus)))]
        captions = model.caption_batch([record.tokens for record in records])
        lines = [
            f"- {said}  \n  (truth: {record.captions[0] if record.captions else 'none'})"
            for said, record in zip(captions, records, strict=True)
        ]
        for log in loggers:
            log.experiment.add_text("val/captions", "\n".join(lines), self.global_step)
        prompts = [record.captions[0] for record in records if record.captions]
        if prompts:
            films = [clip.frames for clip in model.generate_batch(prompts)]
            log_video(self, "val/generated", films, float(model.framing.main.fps or 8))
        self.decoder.train(was_training)

    def export(self, folder: Path) -> Path:
        """Save the model with its vocabulary and codec as FOLDER/model."""
        assert self.decoder is not None
        taught = self.data.mixture.taught
        Model(self.decoder, self.data.vocabulary, self.codec, taught).save(folder / "model")
        self.decoder.train()
        return folder / "model"


class ShardData(LightningDataModule):
    """Token shards to train on, and held-out ones to watch.

    Args:
        shards: Folder of token shards, as `kinolex tokenizer shards` writes it.
        held_out: Folder of token shards to watch; none if left out.
        batch_size: Documents of a step.
        mixture: What documents are made of.
        packing: Put several documents in a row of the model's context, told apart by segments;
            otherwise rows hold one each, grouped by length.
        num_pieces: Most text pieces beyond bytes and characters.
        watched: Held-out documents to watch.
        workers: Processes that make batches beside the training; 0 makes them between steps.
        seed: Of all draws; follows --seed_everything.
    """

    def __init__(
        self,
        shards: Path,
        held_out: Path | None = None,
        batch_size: int = 16,
        mixture: Mixture = Mixture(),  # noqa: B008 (frozen)
        packing: bool = False,
        num_pieces: int = 512,
        watched: int = 256,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.shards, self.held_out_path = Path(shards), held_out
        self.batch_size, self.mixture, self.packing = batch_size, mixture, packing
        self.num_pieces, self.watched, self.workers, self.seed = num_pieces, watched, workers, seed
        self.corpus: Corpus | None = None
        self.held_out: Corpus | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        assert self.corpus is not None
        return self.corpus.vocabulary

    @property
    def context(self) -> int:
        assert self.trainer is not None
        module = self.trainer.lightning_module
        assert isinstance(module, LanguageTraining)
        return module.sizes.context

    def setup(self, stage: str) -> None:
        if self.corpus is not None:
            return
        records = _open_shards(self.shards)
        vocabulary = make_vocabulary(
            records,
            _layout(records),
            num_pieces=self.num_pieces,
            rates=self.mixture.rates,
        )
        self.corpus = Corpus(records, vocabulary)
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

    def train_dataloader(self) -> DataLoader[list[Batch]]:
        assert self.trainer is not None and self.corpus is not None
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        order = ShuffledBatches(len(self.corpus), self.batch_size, self.seed, rank, world_size)
        fetch = _Fetch(self.corpus, self.mixture, self.context, self.packing, self.seed, rank)
        steps = StepLoader(order, fetch, self.trainer.global_step)
        return DataLoader(steps, batch_size=None, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[list[Batch]]:
        assert self.held_out is not None
        size = min(self.watched, len(self.held_out))
        order = ShuffledBatches(size, min(self.batch_size, size), seed=0)
        fetch = _Fetch(self.held_out, self.mixture, self.context, self.packing, seed=0, rank=0)
        steps = StepLoader(order, fetch, num_steps=-(-size // order.batch_size))
        return DataLoader(steps, batch_size=None, num_workers=0)


def _layout(records: TokenShards) -> BlockLayout | None:
    """How the shards' codec lays out its blocks, if they say so."""
    fields = records.meta.get("layout")
    return None if fields is None else BlockLayout(**fields)


def _open_shards(path: Path) -> TokenShards:
    records = TokenShards(path)
    if not len(records):
        raise ValueError(f"{path} holds no records: encode some clips into it first")
    return records


class _Fetch:
    """The batches of one step."""

    def __init__(
        self, corpus: Corpus, mixture: Mixture, context: int, packing: bool, seed: int, rank: int
    ) -> None:
        self.documents = Documents(corpus, mixture, context=context, seed=seed)
        self.vocabulary, self.context = corpus.vocabulary, context
        self.packing, self.rank = packing, rank

    def __call__(self, step: int, indices: list[int]) -> list[Batch]:
        sequences = self.documents.draw(step, indices, self.rank)
        if self.packing:
            return [pack(sequences, self.vocabulary, self.context)]
        return grouped(sequences, self.vocabulary)


def fit(argv: Sequence[str]) -> FitReport:
    """`kinolex lm fit`: train a language model by command line arguments."""
    return run_fit(LanguageTraining, ShardData, argv, "kinolex lm fit", "runs/lm")
