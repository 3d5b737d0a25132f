"""`RollingCache`: keys and values of a stream that never ends, in the same memory all the time.

The first tokens stay; of those after them the oldest are dropped or merged into few. What remains
moves to lower places, so that a model meets no position that it was not trained on (the idea is
StreamingLLM's, arXiv 2309.17453). Knows no ids and no video.

Shapes: N tokens, D numbers of a token in all layers and heads, C capacity, E head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lm.cache import Cache
from lm.model import Decoder
from lm.rope import rotate


class RollingCache(Cache):
    """A cache of one row whose tokens after the first ones roll.

    Keys lie in it turned by their place, and are turned back by as many places as they move.

    Args:
        decoder: What fills it.
        capacity: C, most tokens held.
    """

    def __init__(self, decoder: Decoder, capacity: int) -> None:
        config, table = decoder.config, decoder.table.weight
        super().__init__(
            config.layers, 1, capacity, config.kv_heads, config.head_dim, table.dtype, table.device
        )
        self._cos, self._sin = decoder.cos, decoder.sin
        self.stands_for = torch.ones(capacity, dtype=torch.int64)  # tokens merged into each, (C,)

    @property
    def length(self) -> int:
        """Tokens held."""
        return int(self.lengths[0])

    def shorten(self, first: int, count: int, keep: int = 0) -> None:
        """Make `count` tokens from place `first` on into `keep`, and close the gap.

        Args:
            first: Place of the oldest of them.
            count: How many.
            keep: How many are left: neighbours whose keys are most alike are merged, into the mean
                of all that they stand for. 0 drops them.
        """
        stop, gone = first + count, count - keep
        assert 0 <= keep <= count and stop <= self.length, "what is not held cannot be shortened"
        if gone == 0:
            return
        if keep:
            self._merge(first, count, keep)
        moved = slice(first + keep, self.length - gone)
        places = torch.tensor([gone], device=self.keys.device)
        self.keys[..., moved, :] = self._turned(self.keys[..., stop : self.length, :], places, -1)
        self.values[..., moved, :] = self.values[..., stop : self.length, :].clone()
        self.stands_for[moved] = self.stands_for[stop : self.length].clone()
        self.stands_for[moved.stop :] = 1
        self.trim(self.lengths - gone)

    def copies(self, count: int, room: int) -> Cache:
        """Plain caches of what is held, `count` rows with room for so many tokens more."""
        layers, _, groups, _, size = self.keys.shape
        length, keys = self.length, self.keys
        twin = Cache(layers, count, length + room, groups, size, keys.dtype, keys.device)
        twin.keys[..., :length, :] = self.keys[..., :length, :]
        twin.values[..., :length, :] = self.values[..., :length, :]
        twin.trim(self.lengths.expand(count))
        return twin

    def _merge(self, first: int, count: int, keep: int) -> None:
        held, left = slice(first, first + count), slice(first, first + keep)
        places = torch.arange(first, first + count, device=self.keys.device)
        plain = self._turned(self.keys[..., held, :], places, -1)
        shape = plain.shape
        keys, values, counts = merge_neighbours(
            _by_token(plain), _by_token(self.values[..., held, :]), self.stands_for[held], keep
        )
        self.keys[..., left, :] = self._turned(_by_layer(keys, shape), places[:keep], 1)
        self.values[..., left, :] = _by_layer(values, shape)
        self.stands_for[left] = counts

    def _turned(self, keys: Tensor, places: Tensor, sign: int) -> Tensor:
        """Keys (..., n, E) turned on (sign 1) or back (-1) by so many places each."""
        return rotate(keys, (self._cos[places], sign * self._sin[places]))


def _by_token(x: Tensor) -> Tensor:
    """(layers, 1, G, n, E) as (n, D)."""
    return x.movedim(-2, 0).flatten(1)


def _by_layer(x: Tensor, like: torch.Size) -> Tensor:
    layers, rows, groups, _, size = like
    return x.view(-1, layers, rows, groups, size).movedim(0, -2)


def merge_neighbours(
    keys: Tensor, values: Tensor, counts: Tensor, keep: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Few tokens that stand for many: the two neighbours most alike become one, again and again.

    Args:
        keys: (N, D), what tokens are compared by (cosine).
        values: (N, D).
        counts: int64 (N,), how many tokens each stands for, its weight in a mean.
        keep: Tokens to be left, 1 to N.

    Returns:
        Keys, values and counts of these, in order.
    """
    rows = [(k, v, int(c)) for k, v, c in zip(keys, values, counts, strict=True)]
    alike = F.cosine_similarity(keys[:-1], keys[1:]).tolist()
    while len(rows) > keep:
        i = max(range(len(alike)), key=alike.__getitem__)  # of equal ones the earliest
        (k1, v1, a), (k2, v2, b) = rows[i : i + 2]
        share = b / (a + b)
        rows[i : i + 2] = [(torch.lerp(k1, k2, share), torch.lerp(v1, v2, share), a + b)]
        del alike[i]
        for j in (i - 1, i):
            if 0 <= j < len(alike):
                alike[j] = float(F.cosine_similarity(rows[j][0], rows[j + 1][0], dim=0))
    merged_keys, merged_values, merged = zip(*rows, strict=True)
    return torch.stack(merged_keys), torch.stack(merged_values), torch.tensor(merged)
