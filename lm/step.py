"""`Step`: a decoder that reads one more token of every row, in few operations.

The same function as `Decoder.forward` with a cache and one token, in a form made once for many
tokens: gains side by side, features of codes folded into the tables, norms of few operations. It
holds the decoder's own weights, or what `product` makes of them, and must be made anew after they
change. Knows ids and slots, no grammar; not for training.

Shapes: B rows, D width, V ids, H query heads, G key/value heads, E head size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lm.cache import Cache
from lm.model import Block, Decoder
from lm.rope import rotate
from lm.summary_sums import summaries_of


class Product(Protocol):
    """A matrix (N, D) that rows are multiplied by."""

    def __call__(self, x: Tensor) -> Tensor:
        """(B, D) to (B, N), of the type of `x`."""
        ...


MANY, OFTEN = 4, 8  # rows, and products of as many, from which a matrix is laid out anew


class Plain:
    """The matrix as it is; for many rows a copy whose layout suits the processor's kernels."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        fitting = weight.device.type == "cpu" and weight.dtype == torch.float32
        self._laid_out: Tensor | None = None
        self._left = OFTEN if fitting and torch.backends.mkldnn.is_available() else -1

    def __call__(self, x: Tensor) -> Tensor:
        if self._left < 0 or len(x) < MANY:
            return self._few(x)
        if self._laid_out is None:
            self._left -= 1
            if self._left > 0:
                return self._few(x)
            self._laid_out = torch.ops.mkldnn._reorder_linear_weight(self.weight, len(x))
        return torch.ops.mkldnn._linear_pointwise(x, self._laid_out, None, "none", [], "")

    def _few(self, x: Tensor) -> Tensor:
        """Few rows against many: quicker this way round, and two rows quicker than a vector."""
        if len(x) == 1 and self._left >= 0:
            return (self.weight @ x.repeat(2, 1).T)[:, :1].T
        return (self.weight @ x.T).T


class Norm:
    """RMSNorm over the last dimension; float32 in five small operations in place of ten."""

    def __init__(self, gain: Tensor, eps: float) -> None:
        self.gain, self.eps = gain, gain.new_full((), eps)

    def __call__(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:  # squares of short types want more bits
            return F.rms_norm(x, x.shape[-1:], eps=float(self.eps)) * self.gain
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = torch.addcmul(self.eps, size, size, value=1 / x.shape[-1]).rsqrt_()
        return (x * scale).mul_(self.gain)


class Layer:
    """One block of the decoder."""

    def __init__(self, block: Block, product: Callable[[Tensor], Product]) -> None:
        attention, feed_forward = block.attention, block.feed_forward
        self.heads, self.groups = attention.heads, attention.kv_heads
        self.head_dim = attention.head_dim
        self.qkv, self.out = product(attention.qkv.weight), product(attention.out.weight)
        self.gate_up = product(feed_forward.gate_up.weight)
        self.down = product(feed_forward.down.weight)
        eps = attention.eps
        self.before = Norm(block.attention_norm.weight, eps)
        self.between = Norm(block.feed_forward_norm.weight, eps)
        self.qk_norm = None
        if attention.query_norm is not None and attention.key_norm is not None:
            gains = [(attention.query_norm, self.heads), (attention.key_norm, self.groups)]
            gain = torch.cat([each.detach().expand(count, -1) for each, count in gains])
            self.qk_norm = Norm(gain, eps)  # (H + G, E)

    def __call__(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache, layer: int
    ) -> Tensor:
        heads, groups = self.heads, self.groups
        qkv = self.qkv(self.before(x)).contiguous()  # attention is slow on other layouts
        qkv = qkv.view(len(x), heads + 2 * groups, self.head_dim)
        qk, v = qkv.split((heads + groups, groups), dim=1)
        qk = rotate(qk if self.qk_norm is None else self.qk_norm(qk), rope)
        q, k = qk.split((heads, groups), dim=1)
        keys, values = cache.write(layer, k.unsqueeze(2), v.unsqueeze(2))
        q = q.reshape(len(x), groups, heads // groups, self.head_dim)  # heads that share keys
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)  # (B, G, H / G, E)
        x = x + self.out(y.reshape(len(x), heads * self.head_dim))
        gate, up = self.gate_up(self.between(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate).mul_(up))

    def read_several(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor, cache: Cache, layer: int
    ) -> Tensor:
        """The same for L tokens of each row: x (B * L, D), rope (B, L, 1, E), mask as in `Step`."""
        (rows, length), (heads, groups) = rope[0].shape[:2], (self.heads, self.groups)
        qkv = self.qkv(self.before(x)).contiguous()
        qkv = qkv.view(rows, length, heads + 2 * groups, self.head_dim)
        qk, v = qkv.split((heads + groups, groups), dim=2)
        qk = rotate(qk if self.qk_norm is None else self.qk_norm(qk), rope)
        q, k = qk.split((heads, groups), dim=2)
        keys, values = cache.write(layer, k.transpose(1, 2), v.transpose(1, 2))
        q = q.unflatten(2, (groups, -1)).transpose(1, 2).flatten(2, 3)  # (B, G, L * H / G, E)
        y = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        y = y.unflatten(2, (length, -1)).transpose(1, 2)  # (B, L, G, H / G, E)
        x = x + self.out(y.reshape(len(x), heads * self.head_dim))
        gate, up = self.gate_up(self.between(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate).mul_(up))


class Step:
    """Reads a token of every row, and scores ids.

    product: What makes weights (N, D) into what multiplies rows; None: the weights themselves.
    """

    def __init__(
        self, decoder: Decoder, product: Callable[[Tensor], Product] | None = None
    ) -> None:
        product = product or Plain
        self._video_start = decoder.config.video_start
        self._inputs = decoder.input_table().detach()
        outputs = self._inputs if decoder.head is None else decoder.output_table().detach()
        start = self._video_start
        self._words = product(outputs[:start])
        self._codes = product(outputs[start:]) if start < len(outputs) else None
        self._slots: Tensor | None = None  # of each slot; the last row is nothing
        if decoder.slots is not None:
            self._slots = F.pad(decoder.slots.weight.detach(), (0, 0, 0, 1))
        self._summary_sums = decoder.summary_sums
        self._features, self._summary_size = decoder.code_features, decoder.config.summary
        self._layers = [Layer(block, product) for block in decoder.blocks]  # type: ignore[arg-type]
        self._norm = Norm(decoder.norm.weight, decoder.config.norm_eps)
        self._cos, self._sin = decoder.cos, decoder.sin
        self._sharing = decoder.config.heads // decoder.config.kv_heads  # heads that share keys

    def read(self, ids: Tensor, slots: Tensor | None, cache: Cache) -> Tensor:
        """The last hidden states (B, D) after one more token of every row.

        Args:
            ids: int64 (B,).
            slots: int64 (B,), index of a code in its block; None: codes have no place.
            cache: What the rows have read; takes this token.
        """
        positions, mask = cache.place(1)  # (B, 1)
        rope = F.embedding(positions, self._cos), F.embedding(positions, self._sin)
        x = self._embed(ids[:, None], None if slots is None else slots[:, None], cache)
        for number, layer in enumerate(self._layers):
            x = layer(x, rope, mask, cache, number)
        cache.advance(1)
        return self._norm(x)

    def read_several(self, ids: Tensor, slots: Tensor, cache: Cache) -> Tensor:
        """The last hidden states (B, L, D) after each of L more tokens of every row.

        Rows with fewer tokens are padded on the right, beyond the context if need be; `Cache.trim`
        then takes the padding back.

        Args:
            ids: int64 (B, L).
            slots: int64 (B, L), as in `read`.
            cache: What the rows have read, not empty; takes these tokens.
        """
        rows, length = ids.shape
        positions, mask = cache.place(length)  # (B, L), (B, 1, L, columns)
        assert mask is not None
        mask = mask.repeat_interleave(self._sharing, dim=2)
        positions = positions.clamp(max=len(self._cos) - 1)
        rope = tuple(F.embedding(positions, table)[:, :, None] for table in (self._cos, self._sin))
        x = self._embed(ids, slots, cache)
        for number, layer in enumerate(self._layers):
            x = layer.read_several(x, (rope[0], rope[1]), mask, cache, number)
        cache.advance(length)
        return self._norm(x).view(rows, length, -1)

    def _embed(self, ids: Tensor, slots: Tensor | None, cache: Cache) -> Tensor:
        """`Decoder.embed` for (B, L) ids: (B * L, D)."""
        x = F.embedding(ids, self._inputs).flatten(0, 1)
        if slots is None:
            return x
        codes = ids - self._video_start
        if self._slots is not None:
            nothing = len(self._slots) - 1
            places = slots.clamp(max=nothing - 1).masked_fill(codes < 0, nothing)
            x = x + F.embedding(places, self._slots).flatten(0, 1)
        if self._summary_sums is not None:
            earlier = cache.summaries(self._summary_size, self._features)
            found = summaries_of(self._features, codes, slots, self._summary_size, earlier)
            rows, columns = found.at
            if len(rows):
                sums = self._summary_sums(found).to(x.dtype)
                x = x.index_add(0, rows * ids.shape[1] + columns, sums)
        return x

    def scores(self, hidden: Tensor, low: int, high: int) -> Tensor:
        """Scores (B, high - low) of the ids in [low, high) after hidden states (B, D)."""
        start = self._video_start
        if self._codes is None or high <= start:
            return self._words(hidden)[:, low:high]
        if low >= start:
            return self._codes(hidden)[:, low - start : high - start]
        return torch.cat([self._words(hidden), self._codes(hidden)], dim=1)[:, low:high]
