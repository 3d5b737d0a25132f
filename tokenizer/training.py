"""Lightning shell for codec training: `CodecTraining`.

Thin: what is learned and how stands in `tokenizer.learning`. A resumed run equals an uninterrupted
one because data and randomness of each step follow from (seed, step) alone.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from tokenizer.backbone import Backbone
from tokenizer.blocks import to_uint8
from tokenizer.callbacks import log_video, progress_of
from tokenizer.clip_data import ClipData
from tokenizer.codec import Codec
from tokenizer.label_head import LabelHead
from tokenizer.learning import (
    clip_gradients,
    make_optimizer,
    reached,
    stand_beside,
    step_generator,
    training_losses,
)
from tokenizer.metrics import CodeUsage, psnr
from tokenizer.optimisation import Average, MuonAdamW
from tokenizer.ordering import Order
from tokenizer.quantizer import Quantizer
from tokenizer.ranks import gather_rows, num_ranks, sum_over_ranks
from tokenizer.recipe import Recipe, check_recipe

if TYPE_CHECKING:
    from tokenizer.fitting import FitReport


class CodecTraining(LightningModule):
    """Trains a codec.

    Args:
        backbone: Encoder and decoder network; FactoredBackbone by default.
        quantizer: FSQ by default.
        block_frames: Frames per temporal block.
        order: Order of a block's tokens, coarse to fine.
        recipe: How to train.
        rates: Tokens per frame at which held-out clips are watched, besides the full rate.
        init_from: Folder of a trained codec to go on from; its design replaces the one given.
        seed: Of crops and token dropping; --seed_everything's where it is not given, else 0.
    """

    monitor, monitor_mode = "val/psnr", "max"

    def __init__(
        self,
        backbone: Backbone | None = None,
        quantizer: Quantizer | None = None,
        block_frames: int = 8,
        order: Order = "interlaced",
        recipe: Recipe = Recipe(),  # noqa: B008 (frozen)
        rates: list[float] | None = None,
        init_from: Path | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.codec = Codec(backbone, quantizer, block_frames, order)
        if init_from is not None:
            self.codec = continued(init_from, self.codec, recipe)
        elif recipe.train == "decoder":
            raise ValueError(
                "recipe.train=decoder without model.init_from: give the folder of the codec whose "
                "codes are to be kept"
            )
        check_recipe(self.codec, recipe)
        least = 1 / self.codec.block_frames
        if not all(least <= rate < math.inf for rate in rates or []):
            raise ValueError(f"rates={rates}: give at least {least:g} tokens a frame, one a block")
        self.beside = stand_beside(self.codec, recipe, seed or 0)
        self.recipe, self.rates, self.seed = recipe, rates or [], seed or 0
        self.average = Average(self.codec, recipe.average)  # again once there is a label head
        self.usage = CodeUsage(self.codec.codebook_size)
        self._errors: dict[str, list[Tensor]] = {}
        self._summaries: list[Tensor] = []  # of the clips watched
        self._told: list[Tensor] = []
        self._head_fits = False  # the label head is for what the data tell

    def configure_model(self) -> None:
        data = getattr(self.trainer, "datamodule", None)
        classes = data.classes if isinstance(data, ClipData) else {}
        phrases = data.phrases if isinstance(data, ClipData) else []
        weights = self.recipe.weights
        idle = "weights.phrases is 0" if not weights.phrases else "only the decoder is trained"
        if phrases and not (weights.phrases and self.recipe.train == "all"):
            warnings.warn(f"data.phrases={len(phrases)} has no effect: {idle}", stacklevel=2)
        wanted = bool(classes and weights.labels) or bool(phrases and weights.phrases)
        if wanted and self.codec.summary == 0:
            warnings.warn(
                f"weights.labels={weights.labels:g} and weights.phrases={weights.phrases:g} have "
                "no effect: the backbone's summary is 0 and both are read off summary tokens",
                stacklevel=2,
            )
        elif wanted and self.recipe.train == "all" and self._reads != (classes, phrases):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                summary, regional = self.codec.summary, self.codec.backbone.regional
                dim = self.codec.quantizer.dim
                self.codec.label_head = LabelHead(summary, dim, classes, phrases, regional)
            self.beside.stand_prior(self.codec, self.seed)  # it hears these
            self.average = Average(self.codec, self.recipe.average)
        self._head_fits = self._reads == (classes, phrases)

    @property
    def _reads(self) -> tuple[dict[str, list[str]], list[str]] | None:
        """What the label head reads, in its order."""
        head = self.codec.label_head
        return None if head is None else (head.classes, head.phrases)

    def configure_optimizers(self) -> MuonAdamW:
        return make_optimizer(self.codec, self.recipe, self.beside)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        limit = self.recipe.clip if gradient_clip_val is None else gradient_clip_val
        self.log("train/gradient", clip_gradients(self.codec, self.beside, limit))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        factor = self.recipe.schedule.factor(self.global_step, progress_of(self.trainer))
        optimizer = self.trainer.optimizers[0]
        assert isinstance(optimizer, MuonAdamW)
        optimizer.set_factor(factor)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        frames, told = batch
        sizes = [(frames.shape[-2], frames.shape[-1]), self.codec.trained_size or (0, 0)]
        self.codec.trained_size = max(sizes, key=lambda size: size[0] * size[1])
        generator = step_generator(self.seed, self.global_step)
        progress = progress_of(self.trainer)
        known = told if self._head_fits else None
        losses = training_losses(
            self.codec, frames, progress, self.recipe, generator, known, self.beside
        )
        total = self.recipe.weights.total(losses)
        if num_ranks() > 1:
            total = total + reached(self.codec, self.beside)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        self.log("train/loss", total.detach(), prog_bar=True)
        self.log("train/progress", progress)
        return total

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.average.update(self.codec)  # here: checkpoints are saved before `on_train_batch_end`

    def on_validation_epoch_start(self) -> None:
        self.average.swap(self.codec)
        self.usage.reset()
        self._errors, self._summaries, self._told = {}, [], []

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        frames, told = batch
        shown = []
        for name, rate in self._watched(frames):
            if self.codec.codebook_size == 1:  # unquantized: there is nothing to decode
                tokens, again = [], to_uint8(self.codec(frames).pixels).cpu()
            else:
                tokens = self.codec.encode_batch(frames, None, rate)
                again = torch.stack([clip.frames for clip in self.codec.decode_batch(tokens)])
            error = (again.float() - frames.cpu().float()).square().flatten(1).mean(1)
            self._errors.setdefault(name, []).append(error)  # (S,)
            shown.append(again[:4])
            if rate is None:
                for item, each in zip(tokens, told, strict=bool(tokens)):
                    self.usage.update(torch.cat(item.codes))
                    if self._head_fits:
                        self._summaries.append(self._summary_of(item.codes))
                        self._told.append(each)
        if batch_idx == 0:
            strips = [torch.cat(list(clips), 3) for clips in (frames[:4].cpu(), *shown)]
            log_video(self, "val/original_and_rates", [torch.cat(strips, 2)])

    def _summary_of(self, codes: Sequence[Tensor]) -> Tensor:
        """The vectors of a clip's summary tokens, (blocks, K, D)."""
        summary = torch.stack([block[: self.codec.summary] for block in codes])
        return self.codec.quantizer.vectors(summary.to(self.device))

    def _watched(self, frames: Tensor) -> list[tuple[str, float | None]]:
        top = self.codec.max_tokens_per_frame(*frames.shape[-2:])
        rates = self.rates if self.codec.codebook_size > 1 else []
        lower = [rate for rate in rates if 1 / self.codec.block_frames <= rate < top]
        return [("val/psnr", None), *((f"val/psnr_at_{rate:g}", rate) for rate in lower)]

    def on_validation_epoch_end(self) -> None:
        for name, errors in self._errors.items():  # each rank has watched its share of the clips
            error = gather_rows(torch.cat(errors).to(self.device)).mean()
            self.log(name, psnr(error), prog_bar=name == "val/psnr")
        self.usage.counts = sum_over_ranks(self.usage.counts.to(self.device)).cpu()
        self.log_dict({"val/used_codes": self.usage.used, "val/perplexity": self.usage.perplexity})
        head = self.codec.label_head
        if head is not None and self._summaries:
            told = torch.stack(self._told).to(self.device)
            summaries = gather_rows(torch.stack(self._summaries))
            right = head.right(summaries, gather_rows(told))
            self.log_dict({f"val/reads_{name}": share for name, share in right.items()})
        self.average.swap(self.codec)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["trained_size"] = self.codec.trained_size
        checkpoint["reads"] = self._reads

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get("reads") != self._reads:
            raise ValueError(
                "the clips' labels or phrases are others than when this training began, so its "
                "label head would read them wrongly: give the data as they were, or start anew in "
                "another --out"
            )
        size = checkpoint["trained_size"]
        self.codec.trained_size = None if size is None else (size[0], size[1])

    def export(self, folder: Path) -> Path:
        """Save the codec with its averaged weights as FOLDER/codec."""
        with self.average.applied_to(self.codec):
            self.codec.save(folder / "codec")
        return folder / "codec"


def continued(path: Path, asked: Codec, recipe: Recipe) -> Codec:
    """The codec saved at `path` to train further, in training mode.

    Args:
        path: Folder of a saved codec.
        asked: The codec that the settings describe; where its design differs, a warning says so.
        recipe: How it will be trained; if the decoder only, tokens keep the name they had.
    """
    codec = Codec.load(path)
    if any(codec.config().get(key) != value for key, value in asked.config().items()):
        warnings.warn(
            f"init_from={path} brings its own design: model.backbone, quantizer, block_frames and "
            "order have no effect where they differ",
            stacklevel=3,
        )
    codec.codes_of = codec.tokens_id if recipe.train == "decoder" else None
    codec.trained_size = None
    return codec.train()


def configured(configs: Sequence[Path], prog: str) -> tuple[CodecTraining, ClipData]:
    """The training and the data that config files make together, as `fit` would take them.

    Nothing is trained, opened or written; where files name no source, one is made up.

    Args:
        configs: Layered in this order.
        prog: The command, for errors, which end it as those of `fit` do.
    """
    from tokenizer.fitting import ParsedCLI, prepare

    argv = ["--data.source=scenes:easy", *(f"--config={file}" for file in configs)]
    cli = prepare(CodecTraining, ClipData, argv, prog, cli_class=ParsedCLI)
    return cli.model, cli.datamodule


def fit(argv: Sequence[str]) -> FitReport:
    """Train a codec: `kinolex tokenizer fit --config configs/tokenizer/base.yaml ...`."""
    from tokenizer.fitting import fit as run

    return run(CodecTraining, ClipData, argv, "kinolex tokenizer fit", "runs/codec")
