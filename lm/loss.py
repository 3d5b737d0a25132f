"""The training loss: mean cross-entropy per modality, weighted, with a masked z-loss.

Knows logits and weights. Knows no trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lm.batches import Batch, weight_totals
from lm.heads import foretold_loss
from lm.linear_loss import linear_losses
from lm.model import Decoder
from lm.sequence import VIDEO

MODALITIES = ("structure", "text", "video")


@dataclass(frozen=True)
class Loss:
    """Losses of one pass; scalars in nats a token, of a part of a step its share of them."""

    total: Tensor
    structure: Tensor  # marks, headers and roles
    text: Tensor  # pieces and <stop>
    video: Tensor  # codes
    ahead: Tensor  # codes foretold by heads, see `language_loss`; 0 without heads
    tokens: tuple[int, int, int]  # with a loss, by modality


def language_loss(
    model: Decoder,
    batches: Sequence[Batch],
    weights: tuple[float, float, float] = (0.1, 1.0, 1.0),
    z_weight: float = 0.0,
    totals: Tensor | None = None,
    ahead_weight: float = 0.0,
) -> Loss:
    """Loss of a step: for each modality the mean over its weighted tokens, then a weighted sum.

    A mean of means is no mean: where batches are only a part of a step (others stand on other
    devices or come before or after), `totals` of the whole step make the parts' losses, and their
    gradients, add up to those of the step in one.

    Args:
        model: The decoder.
        batches: Rows of documents, padded or packed; together they are one step or a part of it.
        weights: Of structure, text and video.
        z_weight: Weight of the squared log of the softmax's denominator; over the same tokens.
        totals: Summed loss weights of the step by modality, float (3,), see `weight_totals`; None:
            the batches are all of it.
        ahead_weight: Weight of the loss of the decoder's heads, if it has any: summed over what
            they foretell, over the weight of all codes and the number of heads. (Near the mean: the
            last codes of a block have fewer after them.)
    """
    if totals is None:
        totals = weight_totals(batches)
    states = [_hidden(model, batch) for batch in batches]
    parts = [_chosen(batch, hidden) for batch, hidden in zip(batches, states, strict=True)]
    hidden, targets, modality, value = (torch.cat(part) for part in zip(*parts, strict=True))
    losses, denominators = token_losses(model, hidden, targets)
    means, counts = [], []
    total = losses.new_zeros(())
    for kind, weight in enumerate(weights):
        inside = (modality == kind) * value
        scale = totals[kind].to(losses.device).clamp(min=1e-6)
        means.append((losses * inside).sum() / scale)
        counts.append(int((inside > 0).sum()))
        total = total + weight * means[-1]
        if z_weight:
            penalty = z_weight * denominators.square()
            total = total + weight * (penalty * inside).sum() / scale
    foretold = losses.new_zeros(())
    if model.ahead is not None:
        scale = totals[VIDEO].to(losses.device).clamp(min=1e-6) * (model.ahead.reach - 1)
        table = model.output_table()
        for batch, seen in zip(batches, states, strict=True):
            foretold = foretold + foretold_loss(model, batch, seen, table) / scale
        total = total + ahead_weight * foretold
    structure, text, video = (mean.detach() for mean in means)
    return Loss(total, structure, text, video, foretold.detach(), (counts[0], counts[1], counts[2]))


def token_losses(model: Decoder, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How unlikely each token was, in nats, and the log of its softmax's denominator.

    Codes are scored among codes, all else among all else: which of the two comes next the grammar
    leaves no choice about. That is also quicker than scoring all ids, and no probability leaks to
    what could not follow.

    Args:
        model: The decoder.
        hidden: Its states before the tokens, float (N, D).
        targets: The tokens, int64 (N,).

    Returns:
        Two float (N,), of 32 bits at least.
    """
    start, table = model.config.video_start, model.output_table()
    rows, losses, denominators = [], [], []
    for chosen, low, high in (
        (targets < start, 0, start),
        (targets >= start, start, model.config.num_ids),
    ):
        rows.append(chosen.nonzero()[:, 0])
        found = linear_losses(hidden[rows[-1]], table[low:high], targets[rows[-1]] - low)
        losses.append(found[0])
        denominators.append(found[1])
    back = torch.cat(rows).argsort()
    return torch.cat(losses)[back], torch.cat(denominators)[back]


def learned_states(model: Decoder, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden state, target, modality and weight wherever a loss falls."""
    return _chosen(batch, _hidden(model, batch))


def _hidden(model: Decoder, batch: Batch) -> Tensor:
    """States of all tokens but the last of each row, (B, L - 1, D)."""
    packed = batch.segments is not None
    read = batch.ids if batch.inputs is None else batch.inputs
    return model(
        read[:, :-1],
        slots=batch.slots[:, :-1],
        positions=batch.positions[:, :-1] if packed else None,
        segments=batch.segments[:, :-1] if batch.segments is not None else None,
    )


def _chosen(batch: Batch, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    chosen = batch.learned
    return (
        hidden[chosen],
        batch.ids[:, 1:][chosen],
        batch.modality[:, 1:][chosen],
        batch.weights[:, 1:][chosen],
    )
