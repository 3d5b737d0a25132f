"""Losses of codec training, by the names they are logged under, and their weights.

Pure functions of pixels; they know neither codec nor trainer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from tokenizer.ranks import mean_over_ranks

PIXEL_LOSSES = ("l2", "l1", "charbonnier", "log_mse")
FLOOR = 1e-3  # squared error, of pixels from -1 to 1, below which a clip hardly gains (39 dB)
ROUNDING = 1e-3  # error below which `charbonnier` turns from straight to round


@dataclass(frozen=True)
class LossWeights:
    """Weight of each loss, 0 or more; a loss of weight 0 is not computed."""

    l2: float = 2.0
    """Weight of the squared error."""
    l1: float = 0.3
    """Weight of the absolute error."""
    charbonnier: float = 0.0
    """Weight of the absolute error, rounded off near 0 so that small errors count less."""
    log_mse: float = 0.0
    """Weight of half the logarithm of each clip's squared error: a clip's gain in dB counts the
    same however well it is coded, so that no rate or content rules the rest."""
    perceptual: float = 0.0
    """Weight of the distance of features; `perceptual_path` has their network."""
    gan: float = 0.0
    """Weight of fooling discriminators, their pull made as strong as that of the pixels' losses."""
    prior: float = 0.0
    """Weight of how hard codes are to foretell from those before them, in nats a token."""
    quantizer: float = 1.0
    """Weight of the quantizer's own loss: commitment, entropy (FSQ has none)."""
    labels: float = 0.5
    """Weight of reading the clips' labels off the summary; without labels it has no effect."""
    phrases: float = 0.5
    """Weight of reading what their captions say; without data.phrases it has no effect."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if not 0 <= getattr(self, item.name) < math.inf:
                raise ValueError(
                    f"weights.{item.name}={getattr(self, item.name)}: give 0 (not computed) or more"
                )
        if not any(getattr(self, name) for name in PIXEL_LOSSES):
            raise ValueError(
                f"weights of {', '.join(PIXEL_LOSSES)} are all 0: give one of them, or nothing "
                "teaches the codec what its clips look like"
            )

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of losses named as the fields are.

        `discriminator` counts 1: it moves the discriminators only.
        """
        parts = [getattr(self, name, 1.0) * value for name, value in losses.items()]
        return torch.stack(parts).sum()


def emphasis(target: Tensor, strength: float) -> Tensor:
    """Weights (S, T, 1, H, W) of mean 1 over all ranks that favour what moves or stands out.

    Args:
        target: float (S, T, 3, H, W).
        strength: 0 weighs all pixels alike; at 1 an average pixel of a clip's most active places
            and the floor weigh about the same in sum.
    """
    if strength <= 0:
        return torch.ones_like(target[:, :, :1])
    moving = torch.zeros_like(target[:, :, :1])
    change = target.diff(dim=1).abs().mean(2, keepdim=True)
    moving[:, 1:] += change
    moving[:, :-1] += change
    flat = target.mean(2, keepdim=True).flatten(0, 1)
    near = F.avg_pool2d(flat, 5, 1, 2, count_include_pad=False)
    contrast = (flat - near).abs().unflatten(0, target.shape[:2])
    activity = F.avg_pool2d((moving + contrast).flatten(0, 1), 3, 1, 1).unflatten(
        0, target.shape[:2]
    )
    weight = 1 + strength * activity / (mean_over_ranks(activity.mean()) + 1e-3)
    return weight / mean_over_ranks(weight.mean())


def reconstruction_losses(
    pixels: Tensor, target: Tensor, weight: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """The losses of pixels that have a weight, by name.

    Args:
        pixels: float (S, T, 3, H, W), -1 black to 1 white.
        target: The same of the original.
        weight: (S, T, 1, H, W) of each place, of mean 1.
        weights: Which losses are wanted.
    """
    error = pixels - target
    square = weight * error.square()
    made = {
        "l2": lambda: square.mean(),
        "l1": lambda: (weight * error.abs()).mean(),
        "charbonnier": lambda: (weight * (error.square() + ROUNDING**2).sqrt()).mean(),
        "log_mse": lambda: 0.5 * (square.flatten(1).mean(1) + FLOOR).log().mean(),
    }
    return {name: make() for name, make in made.items() if getattr(weights, name)}
