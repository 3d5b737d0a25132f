"""`SummaryMap`: the codes of a block's summary, each with those of its kind before it.

A code of the grid means the same everywhere; one of the summary means another thing at each of its
places, and a codec's own reader of it (the label head) adds up what all of them say. Here a code
enters a language model as such a sum of itself and those before it, so that the last one of a
quadrant holds all that is told of the quadrant, for which layers of attention were needed.
Knows codes, their features and places; knows no ids.

Shapes: B rows, L tokens, N codes of summaries, M blocks, S places of a summary, W of the whole
block, R of each quadrant, F features of a code, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.summary import QUADRANTS


@dataclass(frozen=True)
class Told:
    """What the summaries say that some codes belong to."""

    at: tuple[Tensor, Tensor]  # row and column of each of these codes, int64 (N,)
    block: Tensor  # its block, int64 (N,)
    place: Tensor  # its place in that block's summary, int64 (N,)
    features: Tensor  # float (M, S, F); at places after the last one that was read, anything


def tell(
    features: Tensor, codes: Tensor, slots: Tensor, summary: int, earlier: Tensor | None = None
) -> Told:
    """What the summaries say that codes belong to.

    Args:
        features: Float (codebook, F).
        codes: int64 (B, L), below 0 where a token is no code.
        slots: int64 (B, L), index of a code in its block, whose codes come in this order.
        summary: S.
        earlier: Float (B, S, F), of the block that each row was in before; written over with the
            one it is in afterwards. None: rows begin here.
    """
    rows, columns = ((codes >= 0) & (slots < summary)).nonzero(as_tuple=True)
    place, known = slots[rows, columns], F.embedding(codes[rows, columns], features)
    if codes.shape[1] == 1 and earlier is not None:  # as below, in few operations
        earlier[rows, place] = known
        block = torch.arange(len(rows), device=rows.device)
        return Told((rows, columns), block, place, earlier[rows])
    begins, ends = torch.ones_like(rows, dtype=torch.bool), torch.ones_like(rows, dtype=torch.bool)
    ends[:-1] = rows[1:] != rows[:-1]  # the row
    begins[1:] = ends[:-1] | (place[1:] <= place[:-1])  # a block
    block = begins.cumsum(0) - 1
    if earlier is None:
        told = features.new_zeros(int(begins.sum()), summary, features.shape[1])
    else:
        told = earlier[rows[begins]]
    told[block, place] = known
    if earlier is not None:
        earlier[rows[ends]] = told[block[ends]]
    return Told((rows, columns), block, place, told)


class SummaryMap(nn.Linear):
    """A linear map of features for each place, added up to and with the place at hand.

    Sums are as large for late places as for early ones: divided by the root of how many they are
    of. Quadrants are read alike, the first place of each by one map, the second by another, ...

    Args:
        summary: S.
        regional: R. The last 4 R places are the quadrants', in turns.
        features: F.
        width: D.
    """

    def __init__(self, summary: int, regional: int, features: int, width: int) -> None:
        self.regional, self.whole = regional, summary - QUADRANTS * regional
        super().__init__((self.whole + regional) * features, width, bias=False)

    def forward(self, told: Told) -> Tensor:  # pyright: ignore
        """Sums (N, D)."""
        maps = self.weight.unflatten(1, (self.whole + self.regional, -1)).permute(1, 2, 0)
        heard = told.features.transpose(0, 1)  # (S, M, F)
        sums = _added_up(torch.bmm(heard[: self.whole], maps[: self.whole]))
        if self.regional:
            parts = heard[self.whole :].unflatten(0, (self.regional, QUADRANTS)).flatten(1, 2)
            parts = _added_up(torch.bmm(parts, maps[self.whole :]))  # (R, 4 M, D)
            sums = torch.cat([sums, parts.unflatten(1, (QUADRANTS, -1)).flatten(0, 1)])
        return sums[told.place, told.block]


def _added_up(x: Tensor) -> Tensor:
    """Sums over the first dimension up to each, divided by the root of how many they are of."""
    count = torch.arange(1, len(x) + 1, device=x.device, dtype=x.dtype)
    return x.cumsum(0) * count.rsqrt()[:, None, None]
