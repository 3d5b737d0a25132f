"""Losses of codec training, by the names they are logged under, and their weights.

Pure functions of pixels; they know neither codec nor trainer.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class LossWeights:
    """Weight of each loss; a loss of weight 0 is not computed."""

    l2: float = 2.0
    """Weight of the squared error."""
    l1: float = 0.3
    """Weight of the absolute error."""
    quantizer: float = 1.0
    """Weight of the quantizer's own loss: commitment, entropy (FSQ has none)."""
    labels: float = 0.5
    """Weight of reading the clips' labels off the summary; without labels it has no effect."""

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of losses named as the fields are."""
        known = {item.name for item in fields(self)}
        parts = [getattr(self, name) * value for name, value in losses.items() if name in known]
        return torch.stack(parts).sum()


def emphasis(target: Tensor, strength: float) -> Tensor:
    """Weights (S, T, 1, H, W) of mean 1 per batch that favour what moves or stands out.

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
    weight = 1 + strength * activity / (activity.mean() + 1e-3)
    return weight / weight.mean()


def reconstruction_losses(pixels: Tensor, target: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Weighted means of the squared and absolute errors, both float (S, T, 3, H, W)."""
    error = pixels - target
    return {"l2": (weight * error.square()).mean(), "l1": (weight * error.abs()).mean()}
