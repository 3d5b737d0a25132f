"""`Cache`: keys and values of the tokens read so far, preallocated, each row at its own length.

Rows of a batch may have prompts of different length, padded on the right; what padding wrote is
overwritten by the tokens that follow and never seen before that. Knows no ids.

Shapes: B rows, L new tokens, C capacity, G key/value heads, E head size, S places of a summary, F
features of a code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lm.positions import Walk


class Cache:
    """Static key/value cache.

    Args:
        layers: Transformer blocks.
        rows: B.
        capacity: Most tokens a row can hold.
        kv_heads: G.
        head_dim: E.
    """

    def __init__(
        self,
        layers: int,
        rows: int,
        capacity: int,
        kv_heads: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.capacity = capacity
        shape = (layers, rows, kv_heads, capacity, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)  # (B,) tokens read
        self._rows = torch.arange(rows, device=device)[:, None]
        self._positions = torch.zeros(rows, 0, dtype=torch.int64)
        self._used = 0  # columns any row may read this step
        self._common: int | None = 0  # tokens read, where all rows have read as many
        self.walks: list[Walk] = []  # where rows stand, of decoders that count seconds
        self._summaries: Tensor | None = None

    def place(self, length: int) -> tuple[Tensor, Tensor | None]:
        """Positions (B, L) of the next tokens and the mask (B, 1, L, columns) they attend under.

        The mask is None where plain causal attention does: in an empty cache, and for one token of
        rows that are equally long.
        """
        offsets = torch.arange(length, device=self.lengths.device)
        self._positions = self.lengths[:, None] + offsets
        longest = int(self.lengths.max()) if self._common is None else self._common
        self._used = longest + length
        if self._used > self.capacity:
            raise ValueError(
                f"{self._used} tokens in a cache of {self.capacity}: shorten the prompt "
                "or ask for less"
            )
        if self._used == length or (length == 1 and self._common is not None):
            return self._positions, None
        columns = torch.arange(self._used, device=self.lengths.device)
        return self._positions, (columns <= self._positions[:, :, None])[:, None]

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, G, L, E); give back all so far (B, G, columns, E)."""
        keys, values = self.keys[layer], self.values[layer]
        if self._common is not None:
            keys[:, :, self._common : self._used] = k
            values[:, :, self._common : self._used] = v
        else:
            keys[self._rows, :, self._positions] = k.transpose(1, 2)
            values[self._rows, :, self._positions] = v.transpose(1, 2)
        return keys[:, :, : self._used], values[:, :, : self._used]

    def advance(self, length: int) -> None:
        """Count `length` more tokens in every row; `trim` takes padding back."""
        self.lengths = self.lengths + length
        if self._common is not None:
            self._common += length

    def trim(self, lengths: Tensor) -> None:
        """Say how many tokens (B,) each row truly holds, after a padded prompt."""
        self.lengths = lengths.clone()
        self._common = _equal(lengths)

    def summaries(self, summary: int, features: Tensor) -> Tensor:
        """What the summary of each row's block has said, (B, S, F), for readers to write over.

        Where `trim` takes back tokens of the block at hand, nothing need be done here: a place is
        looked at only after a token that stands at it, which writes it anew.

        Args:
            summary: S.
            features: Float (codes, F), whose kind these are.
        """
        if self._summaries is None:
            with torch.inference_mode(False):  # to be written to in any mode
                shape = len(self.lengths), summary, features.shape[1]
                self._summaries = features.new_zeros(shape)
        return self._summaries

    def select(self, rows: Tensor) -> Cache:
        """A cache of some rows, in the order given; a row may repeat."""
        twin = object.__new__(Cache)
        twin.capacity = self.capacity
        twin.keys, twin.values = self.keys[:, rows], self.values[:, rows]
        twin.lengths = self.lengths[rows]
        twin._rows = torch.arange(len(rows), device=self.lengths.device)[:, None]
        twin._positions, twin._used = self._positions[rows], self._used
        twin._common = _equal(twin.lengths)
        twin._summaries = None if self._summaries is None else self._summaries[rows]
        twin.walks = [self.walks[row].copy() for row in rows.tolist()] if self.walks else []
        return twin


def _equal(lengths: Tensor) -> int | None:
    """The length of all rows, None if they differ."""
    found = set(lengths.tolist())
    return found.pop() if len(found) == 1 else None
