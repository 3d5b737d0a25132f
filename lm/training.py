"""Lightning shell for language model training: `LanguageTraining`; its data is `ShardData`.

Thin: what is learned and how stands in `lm.learning` and `lm.batches`. A resumed run equals an
uninterrupted one because each step's documents follow from (seed, step) alone, and a run on
several devices equals one on a single device because losses are shares of the whole step's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from lm.batches import Pass
from lm.importing import fill, pretrained_sizes
from lm.learning import (
    Recipe,
    code_features,
    make_decoder,
    make_optimizer,
    recompute_blocks,
    training_loss,
)
from lm.loss import MODALITIES
from lm.model import Decoder, Sizes
from lm.shard_data import ShardData
from lm.sharding import shard, whole_weights
from lm.tasks import Model
from tokenizer.callbacks import log_video, progress_of
from tokenizer.codec import Codec
from tokenizer.commands import open_codec
from tokenizer.fitting import FitReport
from tokenizer.fitting import fit as run_fit
from tokenizer.optimisation import Average, MuonAdamW
from tokenizer.ranks import num_ranks, sum_over_ranks, whole


class LanguageTraining(LightningModule):
    """Trains a language model over text and video tokens.

    Args:
        codec: Folder of the codec that made the token shards; by default the folder `codec`
            beside the shards' own.
        sizes: Of the network.
        recipe: How to train.
        compile: Compile the blocks first (torch.compile).
        init_from: Folder of a pretrained text model in Hugging Face's layout to start from, whose
            vocabulary is kept; of `sizes` only context and slot_embedding then count.
        samples: Clips to caption and prompts to film at each validation, for TensorBoard.
        seed: Of the initial weights; --seed_everything's where it is not given, else 0.
    """

    monitor, monitor_mode = "val/loss", "min"

    def __init__(
        self,
        codec: str | None = None,
        sizes: Sizes = Sizes(),  # noqa: B008 (frozen)
        recipe: Recipe = Recipe(),  # noqa: B008 (frozen)
        compile: bool = False,
        init_from: Path | None = None,
        samples: int = 4,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.codec_path = codec
        self.sizes, self.recipe, self.samples, self.seed = sizes, recipe, samples, seed or 0
        self.compiled = compile
        self.init_from = init_from
        if init_from is not None:
            self.sizes = pretrained_sizes(init_from, sizes)
        self.decoder: Decoder | None = None
        self.average: Average | None = None
        self._codec: list[Codec] = []  # in a list: no part of the module's weights
        # Of the parts of a step seen so far: total, ahead, structure, text, video.
        self._step = torch.zeros(5)
        self._sums = torch.zeros(2, 3)  # of held-out documents: losses and weights

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
            layout = self.data.vocabulary.layout
            if layout is not None and layout != codec.layout:
                raise ValueError(
                    f"codec {path} lays out its blocks as {codec.layout.to_json()}, the token "
                    f"shards say {layout.to_json()}: encode the clips again"
                )
            self._codec.append(codec)
        return self._codec[0]

    def configure_model(self) -> None:
        if self.decoder is not None:
            return
        if self.sizes.ahead > (most := self.data.vocabulary.num_places):
            rank_zero_warn(
                f"sizes.ahead={self.sizes.ahead}: blocks have at most {most} codes, what would "
                f"foretell more learns nothing; give at most {most}",
                stacklevel=2,
            )
        if self.sizes.ahead == 1 and self.recipe.ahead != Recipe().ahead:
            rank_zero_warn(
                f"recipe.ahead={self.recipe.ahead} has no effect: sizes.ahead is 1, no head "
                "foretells codes",
                stacklevel=2,
            )
        features = code_features(self.codec.code_vectors())
        self.decoder = make_decoder(
            self.data.vocabulary, features, self.sizes, self.seed, self.recipe.base_width
        )
        if self.init_from is not None:
            fill(self.decoder, self.data.vocabulary, self.init_from)
        if self.recipe.checkpointing:
            recompute_blocks(self.decoder)
        if self.compiled:
            for block in self.decoder.blocks:
                block.compile(dynamic=True)
        strategy = self.trainer.strategy
        if isinstance(strategy, ModelParallelStrategy):
            device = strategy.root_device.type
            shard(self.decoder, init_device_mesh(device, (self.trainer.world_size,)))
        if self.recipe.average:
            self.average = Average(self.decoder, self.recipe.average)

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
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), limit)
        self.log("train/gradient", whole(norm), batch_size=1)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        factor = self.recipe.schedule.factor(self.global_step, progress_of(self.trainer))
        optimizer = self.trainer.optimizers[0]
        assert isinstance(optimizer, MuonAdamW)
        optimizer.set_factor(factor)

    def training_step(self, batch: Pass, batch_idx: int) -> Tensor:
        assert self.decoder is not None
        loss = training_loss(self.decoder, batch, self.recipe)
        values = [loss.total.detach(), loss.ahead, loss.structure, loss.text, loss.video]
        values = torch.stack(values)
        first, last = batch_idx % batch.parts == 0, (batch_idx + 1) % batch.parts == 0
        self._step = values if first else self._step + values
        if last:
            total, ahead, *means = sum_over_ranks(self._step)
            if self.decoder.ahead is not None:
                self.log("train/ahead", ahead, batch_size=1)
            named = zip(MODALITIES, means, strict=True)
            self.log_dict({f"train/{name}": mean for name, mean in named}, batch_size=1)
            self.log("train/loss", total, prog_bar=True, batch_size=1)
            self.log("train/progress", progress_of(self.trainer), batch_size=1)
        # Lightning averages over passes and ranks what is a share of a sum
        return loss.total * (batch.parts * num_ranks())

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            assert self.decoder is not None
            self.average.update(self.decoder)  # here: `on_train_batch_end` is after checkpoints

    def on_validation_epoch_start(self) -> None:
        self._sums = torch.zeros(2, 3)
        if self.average is not None:
            assert self.decoder is not None
            self.average.swap(self.decoder)

    def validation_step(self, batch: Pass, batch_idx: int) -> None:
        assert self.decoder is not None
        loss = training_loss(self.decoder, batch.batches, self.recipe)
        means = torch.stack([loss.structure, loss.text, loss.video])
        self._sums += torch.stack([means * batch.totals, batch.totals]).cpu()

    def on_validation_epoch_end(self) -> None:
        means = (self._sums[0] / self._sums[1].clamp(min=1e-6)).tolist()
        total = sum(w * mean for w, mean in zip(self.recipe.weights, means, strict=True))
        named = zip(MODALITIES, means, strict=True)
        self.log_dict({f"val/{name}": value for name, value in named})
        self.log("val/loss", total, prog_bar=True)
        if self.samples and any(isinstance(log, TensorBoardLogger) for log in self.loggers):
            self._show_samples(self._plain())
        if self.average is not None:
            assert self.decoder is not None
            self.average.swap(self.decoder)

    def _plain(self) -> Decoder:
        """The decoder as it is now, whole and uncompiled; every rank has to ask."""
        assert self.decoder is not None
        weights = whole_weights(self.decoder)
        plain = Decoder(self.decoder.config, weights["code_features"])
        plain.load_state_dict(weights)
        return plain

    def _show_samples(self, decoder: Decoder) -> None:
        """Captions as text and films of prompts in TensorBoard."""
        corpus = self.data.held_out
        if corpus is None or not self.trainer.is_global_zero:
            return
        model = Model(decoder, self.data.vocabulary, self.codec)
        records = [corpus.record(i) for i in range(min(self.samples, len(corpus)))]
        captions = model.caption_batch([record.tokens for record in records], beams=1)
        lines = [
            f"- {said}  \n  (truth: {record.captions[0] if record.captions else 'none'})"
            for said, record in zip(captions, records, strict=True)
        ]
        for log in self.loggers:
            if isinstance(log, TensorBoardLogger):
                log.experiment.add_text("val/captions", "\n".join(lines), self.global_step)
        prompts = [record.captions[0] for record in records if record.captions]
        if prompts:
            films = [clip.frames for clip in model.generate_batch(prompts)]
            log_video(self, "val/generated", films, float(model.framing.main.fps or 8))

    def export(self, folder: Path) -> Path:
        """Save the model, averaged weights if there are any, with its vocabulary and codec.

        Returns:
            FOLDER/model.
        """
        assert self.decoder is not None
        with nullcontext() if self.average is None else self.average.applied_to(self.decoder):
            plain = self._plain()
        if self.trainer.is_global_zero:
            taught = self.data.taught
            Model(plain, self.data.vocabulary, self.codec, taught).save(folder / "model")
        return folder / "model"


def fit(argv: Sequence[str]) -> FitReport:
    """`kinolex lm fit`: train a language model by command line arguments."""
    return run_fit(LanguageTraining, ShardData, argv, "kinolex lm fit", "runs/lm")
