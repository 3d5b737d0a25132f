"""The training loss: mean cross-entropy per modality, weighted, with a masked z-loss.

Knows logits and weights. Knows no trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lm.batches import Batch
from lm.model import Decoder

MODALITIES = ("structure", "text", "video")


@dataclass(frozen=True)
class Loss:
    """Losses of one batch; scalars in nats a token."""

    total: Tensor
    structure: Tensor  # marks, headers and roles
    text: Tensor  # pieces and <stop>
    video: Tensor  # codes
    tokens: tuple[int, int, int]  # with a loss, by modality


def language_loss(
    model: Decoder,
    batches: Sequence[Batch],
    weights: tuple[float, float, float] = (0.1, 1.0, 1.0),
    z_weight: float = 0.0,
) -> Loss:
    """Loss of a step: for each modality the mean over its weighted tokens, then a weighted sum.

    Args:
        model: The decoder.
        batches: Rows of documents, padded or packed; together they are one step.
        weights: Of structure, text and video.
        z_weight: Weight of the squared log of the softmax's denominator; over the same tokens.
    """
    parts = [_states(model, batch) for batch in batches]
    hidden, targets, modality, value = (torch.cat(part) for part in zip(*parts, strict=True))
    logits = model.logits(hidden).float()  # (N, V): only where a loss falls
    losses = F.cross_entropy(logits, targets, reduction="none")
    if z_weight:
        penalty = z_weight * logits.logsumexp(-1).square()
    means, counts = [], []
    total = logits.new_zeros(())
    for kind, weight in enumerate(weights):
        inside = (modality == kind) * value
        scale = inside.sum().clamp(min=1e-6)
        means.append((losses * inside).sum() / scale)
        counts.append(int((inside > 0).sum()))
        total = total + weight * means[-1]
        if z_weight:
            total = total + weight * (penalty * inside).sum() / scale  # type: ignore[possibly-unbound]
    structure, text, video = (mean.detach() for mean in means)
    return Loss(total, structure, text, video, (counts[0], counts[1], counts[2]))


def _states(model: Decoder, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden state, target, modality and weight wherever a loss falls."""
    packed = batch.segments is not None
    hidden = model(
        batch.ids[:, :-1],
        slots=batch.slots[:, :-1],
        positions=batch.positions[:, :-1] if packed else None,
        segments=batch.segments[:, :-1] if batch.segments is not None else None,
    )
    weights = batch.weights[:, 1:]
    chosen = (weights > 0) & (batch.positions[:, 1:] > 0)  # a first token follows nothing
    return (
        hidden[chosen],
        batch.ids[:, 1:][chosen],
        batch.modality[:, 1:][chosen],
        weights[chosen],
    )
