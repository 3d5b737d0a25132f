"""Learning a language model: the recipe and one optimizer step, without any trainer.

`Learner` holds everything a run needs to go on; the Lightning shell and the demo both drive it or
its parts. It does not know where batches come from.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lm.batches import Batch, Pass
from lm.loss import Loss, language_loss
from lm.model import Decoder, DecoderConfig, Sizes
from lm.positions import place_tokens
from lm.vocabulary import Vocabulary
from lm.width import rate_factor, scale_weights
from tokenizer.optimisation import Average, MuonAdamW, Schedule
from tokenizer.ranks import sum_over_ranks

MAX_LEVELS = 32  # values of a code vector's dimension up to which they are told one-hot


@dataclass(frozen=True)
class Recipe:
    """How a language model is trained."""

    schedule: Schedule = field(default_factory=Schedule)
    """Learning rate over the run."""
    matrices: Literal["muon", "adamw"] = "muon"
    """What trains the blocks' matrices; with adamw `matrix_lr` has no effect."""
    matrix_lr: float = 0.02
    """Peak learning rate of Muon, for the blocks' matrices."""
    lr: float = 3e-3
    """Peak learning rate of AdamW, for tables, head and gains."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices."""
    clip: float = 1.0
    """Largest gradient norm."""
    base_width: int | None = None
    """Width for which the rates were found, to carry them over to the model's, see `lm.width`; None
    takes them, and the first weights, as they are."""
    structure: float = 0.1
    """Weight of the mean loss over marks and headers."""
    text: float = 1.0
    """Weight of the mean loss over text."""
    video: float = 1.0
    """Weight of the mean loss over video codes."""
    ahead: float = 0.3
    """Weight of the loss of heads that foretell codes, where `sizes.ahead` is above 1."""
    z_loss: float = 0.0
    """Weight of the squared log of the softmax's denominator."""
    average: float = 0.0
    """Decay of averaged weights that are saved and evaluated in place of the last; 0: none."""
    checkpointing: bool = False
    """Compute blocks once more in the backward pass rather than keep what they computed."""

    def __post_init__(self) -> None:
        if not 0 < self.clip < math.inf:
            raise ValueError(f"recipe.clip={self.clip}: give a number above 0")
        rates, losses = ("lr", "matrix_lr"), ("structure", "text", "video", "ahead", "z_loss")
        for name in (*rates, "weight_decay", *losses):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"recipe.{name}={getattr(self, name)}: give 0 or more")
        if not any(self.weights):
            raise ValueError(
                "recipe.structure, text and video are all 0: give one of them a weight, or nothing "
                "is learned"
            )
        if self.base_width is not None and self.base_width < 1:
            raise ValueError(
                f"recipe.base_width={self.base_width}: give at least 1, or leave it out to take "
                "the rates as they are"
            )
        if self.matrices == "adamw" and self.matrix_lr != type(self).matrix_lr:
            warnings.warn(
                f"recipe.matrix_lr={self.matrix_lr} has no effect: AdamW trains all, at recipe.lr",
                stacklevel=3,
            )
        if not 0 <= self.average < 1:
            raise ValueError(
                f"recipe.average={self.average}: give a decay from 0 (none) to below 1"
            )

    @property
    def weights(self) -> tuple[float, float, float]:
        return (self.structure, self.text, self.video)


@dataclass(frozen=True)
class StepReport:
    """What one training step did."""

    loss: float  # weighted total
    text: float  # nats a text token
    video: float  # nats a code
    gradient: float  # norm before clipping
    tokens: int  # places processed, padding included
    skipped: bool  # not finite: weights were left alone


def code_features(vectors: Tensor) -> Tensor:
    """What a model is told of each code: its vector, and each number of few values one-hot.

    Scalar-quantized codes share levels dimension by dimension; told which, a model need not learn
    a thousand codes one by one.

    Args:
        vectors: The codec's vector of each code, float (codes, D).

    Returns:
        float (codes, features).
    """
    parts = [vectors.float()]
    for column in vectors.float().T:
        levels = column.unique()
        if len(levels) <= MAX_LEVELS:
            parts.append((column[:, None] == levels).float())
    return torch.cat(parts, dim=1)


def make_decoder(
    vocabulary: Vocabulary,
    features: Tensor,
    sizes: Sizes | None = None,
    seed: int = 0,
    base_width: int | None = None,
) -> Decoder:
    """A decoder with fresh weights.

    Args:
        vocabulary: Its id space.
        features: What is known of each code, float (codes, any), see `code_features`.
        sizes: Of the network.
        seed: Of the weights.
        base_width: As in `Recipe`.
    """
    sizes = sizes or Sizes()
    layout = vocabulary.layout if sizes.slot_embedding else None
    config = DecoderConfig(
        **asdict(sizes),
        num_ids=len(vocabulary),
        video_start=vocabulary.video_start,
        code_dim=features.shape[1],
        num_slots=vocabulary.num_places if sizes.slot_embedding else 0,
        summary=0 if layout is None else layout.summary,
        regional=0 if layout is None else layout.regional,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Decoder(config, features)
    place_tokens(decoder, vocabulary)
    if base_width is not None:
        scale_weights(decoder, base_width)
    return decoder


def make_optimizer(decoder: Decoder, recipe: Recipe) -> MuonAdamW:
    """Muon for the blocks' matrices, if the recipe says so, AdamW for the rest."""
    ratio = 1.0 if recipe.base_width is None else recipe.base_width / decoder.config.width
    return MuonAdamW(
        decoder.named_parameters(),
        matrix_lr=recipe.matrix_lr,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        is_matrix=lambda name, _: recipe.matrices == "muon" and name.startswith("blocks."),
        scale=partial(rate_factor, ratio=ratio),
    )


def recompute_blocks(decoder: Decoder) -> None:
    """Let blocks keep their inputs alone for the backward pass, which computes the rest again."""
    for block in decoder.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def training_loss(decoder: Decoder, step: Pass | Sequence[Batch], recipe: Recipe) -> Loss:
    """The loss of one step's batches, or this pass's share of it, with gradients."""
    if isinstance(step, Pass):
        totals = sum_over_ranks(step.totals)
        return language_loss(
            decoder, step.batches, recipe.weights, recipe.z_loss, totals, recipe.ahead
        )
    return language_loss(decoder, step, recipe.weights, recipe.z_loss, None, recipe.ahead)


class Learner:
    """A decoder being trained: weights, optimizer and the step, to save and resume."""

    def __init__(self, decoder: Decoder, recipe: Recipe | None = None) -> None:
        self.decoder, self.recipe = decoder, recipe or Recipe()
        self.optimizer = make_optimizer(decoder, self.recipe)
        self.average = Average(decoder, self.recipe.average) if self.recipe.average else None
        if self.recipe.checkpointing:
            recompute_blocks(decoder)
        self.step_number = 0
        self.num_skipped = 0  # steps whose loss or gradient was not finite

    def step(self, batches: Sequence[Batch], progress: float) -> StepReport:
        """Train on one step's batches, with `progress` (0 to 1) of the run done."""
        self.decoder.train()
        loss = training_loss(self.decoder, batches, self.recipe)
        self.optimizer.zero_grad()
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), self.recipe.clip)
        skipped = not bool(torch.isfinite(loss.total) & torch.isfinite(norm))
        if skipped:
            self.num_skipped += 1
        else:
            self.optimizer.set_factor(self.recipe.schedule.factor(self.step_number, progress))
            self.optimizer.step()
            if self.average is not None:
                self.average.update(self.decoder)
        self.step_number += 1
        return StepReport(
            loss=float(loss.total.detach()),
            text=float(loss.text),
            video=float(loss.video),
            gradient=float(norm),
            tokens=sum(batch.num_tokens for batch in batches),
            skipped=skipped,
        )

    def finished(self) -> Decoder:
        """The decoder with its averaged weights, if any, in eval mode; call it when all is done."""
        if self.average is not None:
            self.average.copy_to(self.decoder)
        return self.decoder.eval()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers from which `load_state_dict` goes on."""
        return {
            "decoder": self.decoder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "step": self.step_number,
            "num_skipped": self.num_skipped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.decoder.load_state_dict(state["decoder"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.step_number, self.num_skipped = int(state["step"]), int(state["num_skipped"])
