"""`SummarySums`: the codes of a block's summary, each with those of its kind before it.

A code of the grid means the same everywhere; one of the summary means another thing at each of its
places, and a codec's own reader of it (the label head) adds up what all of them say. Here a code
enters a language model as such a sum of itself and those before it, so that the last one of a
quadrant holds all that is told of the quadrant, for which layers of attention were needed
(docs/log.md has the gain). Knows codes, their features and places; knows no ids.

Shapes: B rows, L tokens, N codes of summaries, M blocks, S places of a summary, W of the whole
block, then R of each quadrant, in turns; F features of a code, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenizer.summary import QUADRANTS


@dataclass(frozen=True)
class Summaries:
    """What the summaries say that some codes belong to."""

    at: tuple[Tensor, Tensor]  # row and column of each of these codes, int64 (N,)
    block: Tensor  # its block, int64 (N,)
    place: Tensor  # its place in that block's summary, int64 (N,)
    features: Tensor  # float (M, S, F); at places after the last one that was read, anything


def summaries_of(
    features: Tensor, codes: Tensor, slots: Tensor, summary: int, earlier: Tensor | None = None
) -> Summaries:
    """What the summaries say that codes belong to.

    Args:
        features: Float (codebook, F).
        codes: int64 (B, L), below 0 where a token is no code.
        slots: int64 (B, L), index of a code in its block; they come in order, from 0 on.
        summary: S.
        earlier: Float (B, S, F), of the block that each row was in before; written over with the
            one it is in afterwards. None: rows begin here.
    """
    rows, columns = ((codes >= 0) & (slots < summary)).nonzero(as_tuple=True)
    place, known = slots[rows, columns], F.embedding(codes[rows, columns], features)
    if codes.shape[1] == 1 and earlier is not None:  # as below, in few operations
        earlier[rows, place] = known
        block = torch.arange(len(rows), device=rows.device)
        return Summaries((rows, columns), block, place, earlier[rows])
    begins, ends = torch.ones_like(rows, dtype=torch.bool), torch.ones_like(rows, dtype=torch.bool)
    ends[:-1] = rows[1:] != rows[:-1]  # the row
    begins[1:] = ends[:-1] | (place[1:] <= place[:-1])  # a block
    block = begins.cumsum(0) - 1
    if earlier is None:
        found = features.new_zeros(int(begins.sum()), summary, features.shape[1])
    else:
        found = earlier[rows[begins]]
    found[block, place] = known
    if earlier is not None:
        earlier[rows[ends]] = found[block[ends]]
    return Summaries((rows, columns), block, place, found)


class SummarySums(nn.Linear):
    """A linear map of features for each place, added up to and with the place at hand.

    Sums are as large for late places as for early ones: divided by the root of how many they are
    of. Quadrants are read alike, the first place of each by one map, the second by another, ...

    Args:
        summary: S.
        regional: R.
        features: F.
        width: D.
    """

    def __init__(self, summary: int, regional: int, features: int, width: int) -> None:
        self.regional, self.whole = regional, summary - QUADRANTS * regional
        super().__init__((self.whole + regional) * features, width, bias=False)

    def forward(self, summaries: Summaries) -> Tensor:  # pyright: ignore
        """Sums (N, D)."""
        read = int(summaries.place.max()) + 1 if len(summaries.place) else 0
        rows = -(-max(0, read - self.whole) // QUADRANTS)  # of places, one for each quadrant
        maps = self.weight.unflatten(1, (self.whole + self.regional, -1)).permute(1, 2, 0)
        heard = summaries.features.transpose(0, 1)  # (S, M, F)
        whole = min(read, self.whole)
        sums = _added_up(torch.bmm(heard[:whole], maps[:whole]))
        if rows:
            heard = heard[self.whole : self.whole + QUADRANTS * rows]
            heard = heard.unflatten(0, (rows, QUADRANTS)).flatten(1, 2)  # (rows, 4 M, F)
            parts = _added_up(torch.bmm(heard, maps[self.whole : self.whole + rows]))
            sums = torch.cat([sums, parts.unflatten(1, (QUADRANTS, -1)).flatten(0, 1)])
        return sums[summaries.place, summaries.block]


def _added_up(x: Tensor) -> Tensor:
    """Sums over the first dimension up to each, divided by the root of how many they are of."""
    count = torch.arange(1, len(x) + 1, device=x.device, dtype=x.dtype)
    return x.cumsum(0) * count.rsqrt()[:, None, None]
