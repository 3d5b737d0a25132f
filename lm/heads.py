"""`Ahead`: small heads that foretell codes after the next, so that several are drawn at once.

Each is a residual map of the last hidden state (Medusa, arXiv 2401.10774), scored by the decoder's
own output table, and learned along with the decoder (arXiv 2404.19737) on codes of the same block.
Knows hidden states and batches. Knows no sampling.

Shapes: M states, B rows, L tokens, D width, N codes that one state foretells, the next included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from lm.linear_loss import linear_losses
from lm.sequence import VIDEO

if TYPE_CHECKING:
    from lm.batches import Batch
    from lm.model import Decoder


class Ahead(nn.Module):
    """States to be scored for the codes that come 2nd to N-th; fresh ones all foretell the next."""

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.reach = reach  # N
        self.maps = nn.Linear(width, (reach - 1) * width, bias=False)
        nn.init.zeros_(self.maps.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        """(M, D) to (M, N - 1, D)."""
        mapped = self.maps(hidden).unflatten(-1, (self.reach - 1, -1))
        return hidden.unsqueeze(-2) + F.silu(mapped)


def foretold_loss(model: Decoder, batch: Batch, hidden: Tensor, table: Tensor) -> Tensor:
    """Cross-entropy of codes foretold, in nats, summed with their loss weights.

    A state before a code foretells those after it as far as their block goes: what lies beyond, or
    is no code, counts for nothing.

    Args:
        model: A decoder with heads.
        batch: Its rows, padded or packed.
        hidden: States of all tokens but the last, (B, L - 1, D).
        table: What `model.output_table` gave.
    """
    assert model.ahead is not None
    reach = model.ahead.reach

    def following(x: Tensor) -> Tensor:  # (B, L - 1, N - 1): of the tokens after the next
        return F.pad(x[:, 1:], (0, reach - 1)).unfold(1, reach, 1)

    run = following((batch.modality == VIDEO).to(hidden.dtype)).cumprod(-1)  # marks end it
    weights = (run * following(batch.weights))[..., 1:]
    chosen = weights > 0
    places = chosen.any(-1)  # (B, L - 1)
    states = model.ahead(hidden[places])[chosen[places]]
    targets = following(batch.ids)[..., 1:][chosen] - model.config.video_start
    losses, _ = linear_losses(states, table[model.config.video_start :], targets)
    return (losses * weights[chosen]).sum()
