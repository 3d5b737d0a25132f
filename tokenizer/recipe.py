"""`Recipe`: how a codec is trained, and what is wrong or without effect in one.

Numbers only: the training itself stands in `tokenizer.learning`.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Literal

from tokenizer.codec import Codec
from tokenizer.losses import LossWeights
from tokenizer.optimisation import Schedule


@dataclass(frozen=True)
class Recipe:
    """How a codec is trained. Moments are fractions of the run, 0 to 1."""

    weights: LossWeights = field(default_factory=LossWeights)
    """Weight of each loss by its logged name."""
    schedule: Schedule = field(default_factory=Schedule)
    """Learning rate over the run."""
    matrices: Literal["muon", "adamw"] = "muon"
    """What trains matrices and convolution kernels; with adamw `matrix_lr` has no effect."""
    matrix_lr: float = 0.02
    """Peak learning rate of Muon, for matrices and convolution kernels."""
    lr: float = 2e-3
    """Peak learning rate of AdamW, for all else."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices."""
    clip: float = 1.0
    """Largest gradient norm."""
    emphasis: float = 1.0
    """How much more pixels count that move or stand out; 0 weighs all alike."""
    crop: int = 16
    """Side in pixels of training crops, a multiple of the codec's stride; 0 for whole clips."""
    crops_per_clip: int = 1
    """Crops taken of each clip of a batch."""
    crop_until: float = 0.8
    """Moment from which whole clips are seen instead of crops."""
    whole_clips: int = 16
    """Clips of a step once they are whole, as they cost more: the first so many of the batch."""
    round_from: float = 0.15
    """Moment from which vectors are rounded to codes."""
    drop_from: float = 0.5
    """Moment from which tokens are dropped; 1 trains for the full rate only."""
    full_rate: float = 0.5
    """Share of clips that keep all their tokens once dropping has begun."""
    mistakes: float = 0.0
    """Share of clips that the decoder sees with some codes of the grid as the prior draws them, to
    make the best of those that a language model gets wrong (after arXiv 2503.08354)."""
    gan_from: float = 0.8
    """Moment from which discriminators learn; shortly after, the codec is judged by them."""
    gan_width: int = 16
    """Channels of the discriminators' first layers."""
    gan_lr: float = 2e-4
    """Peak learning rate of the discriminators (AdamW)."""
    lecam: float = 0.001
    """Weight of LeCam regularisation in the discriminators' loss."""
    perceptual_path: str | None = None
    """File with the weights of the perceptual loss; tokenizer/perceptual.py has its layout."""
    average: float = 0.99
    """Decay of the averaged weights that are saved and evaluated."""
    train: Literal["all", "decoder"] = "all"
    """What is trained: everything, or the decoder of a trained codec, so that its codes stay as
    they are, to the bit, and so do token files and language models."""


def check_recipe(codec: Codec, recipe: Recipe) -> None:
    """ValueError if a recipe does not fit a codec."""
    stride = codec.backbone.space_stride
    if recipe.crop < 0 or recipe.crop % stride:
        raise ValueError(
            f"crop={recipe.crop}: give a multiple of the codec's stride {stride}, or 0 for whole "
            "clips"
        )
    for name in ("crops_per_clip", "whole_clips"):
        if getattr(recipe, name) < 1:
            raise ValueError(f"{name}={getattr(recipe, name)}: at least one")
    for name in ("lr", "matrix_lr", "gan_lr", "clip"):
        if not 0 < getattr(recipe, name) < math.inf:
            raise ValueError(f"recipe.{name}={getattr(recipe, name)}: give a number above 0")
    for name in ("weight_decay", "emphasis", "lecam"):
        if not 0 <= getattr(recipe, name) < math.inf:
            raise ValueError(f"recipe.{name}={getattr(recipe, name)}: give 0 or more")
    for name in ("crop_until", "round_from", "drop_from", "full_rate", "gan_from", "mistakes"):
        if not 0 <= getattr(recipe, name) <= 1:
            raise ValueError(f"recipe.{name}={getattr(recipe, name)}: give a share, 0 to 1")
    for change in ineffective(recipe):
        warnings.warn(change, stacklevel=3)


def ineffective(recipe: Recipe) -> list[str]:
    """Of each setting that was changed without effect: what makes it so, in one line."""
    usual, found = Recipe(), []

    def tell(cause: str, *names: str) -> None:
        for name in names:
            if (value := getattr(recipe, name)) != getattr(usual, name):
                found.append(f"recipe.{name}={value} has no effect: {cause}")

    if recipe.matrices == "adamw":
        tell("AdamW trains all, at recipe.lr", "matrix_lr")
    if recipe.crop == 0:
        tell("recipe.crop is 0, clips are whole", "crops_per_clip", "crop_until", "whole_clips")
    if recipe.drop_from >= 1:
        tell("recipe.drop_from is 1, no tokens are dropped", "full_rate")
    if not recipe.weights.prior:
        tell("weights.prior is 0, nothing draws them", "mistakes")
    if recipe.train == "all" and recipe.round_from >= 1:
        cause = "recipe.round_from is 1, there are no codes"
        tell(cause, "mistakes")
        if recipe.weights.prior:
            found.append(f"weights.prior={recipe.weights.prior:g} has no effect: {cause}")
    if not recipe.weights.gan:
        tell("weights.gan is 0", "gan_from", "gan_width", "gan_lr", "lecam")
    if not recipe.weights.perceptual:
        tell("weights.perceptual is 0", "perceptual_path")
    if recipe.train == "decoder":
        if recipe.weights.prior and not recipe.mistakes:
            found.append("recipe.weights.prior has no effect: only the decoder is trained")
        tell("only the decoder is trained, codes are always rounded", "round_from")
    return found
