"""`Attention`: queries in groups that share keys and values, with one fused projection.

Knows a layer's sizes and its cache, not the ids.

Shapes: B rows, L tokens, D width, H query heads, G key/value heads, E head size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm.cache import Cache
from lm.normalising import normalise_and_rotate
from lm.rope import Rope, rotate
from lm.segments import Stretch

Mask = Tensor | list[Stretch] | None  # None: causal

if TYPE_CHECKING:
    from lm.model import DecoderConfig


class Attention(nn.Module):
    """Grouped-query attention with one fused projection for queries, keys and values."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        total = (self.heads + 2 * self.kv_heads) * self.head_dim
        self.qkv = nn.Linear(config.width, total, bias=False)
        self.out = nn.Linear(self.heads * self.head_dim, config.width, bias=False)
        self.eps = config.norm_eps
        self.query_norm = nn.Parameter(torch.ones(self.head_dim)) if config.qk_norm else None
        self.key_norm = nn.Parameter(torch.ones(self.head_dim)) if config.qk_norm else None

    def forward(
        self,
        x: Tensor,
        rope: Rope,
        mask: Mask,
        cache: Cache | None,
        layer: int,
    ) -> Tensor:
        rows, length, _ = x.shape
        heads, groups = self.heads, self.kv_heads
        qkv = self.qkv(x).view(rows, length, heads + 2 * groups, self.head_dim)
        qk, v = qkv.split((heads + groups, groups), dim=2)
        if self.query_norm is not None and self.key_norm is not None:
            gain = torch.cat(
                [self.query_norm.expand(heads, -1), self.key_norm.expand(groups, -1)]
            )  # (H + G, E)
            qk = normalise_and_rotate(qk, gain, self.eps, rope)
        else:
            qk = rotate(qk, rope)
        q, k = qk.transpose(1, 2).split((heads, groups), dim=1)  # (B, H or G, L, E)
        v = v.transpose(1, 2)
        if cache is not None:
            k, v = cache.write(layer, k, v)
        if length == 1:  # heads that share keys are rows of one query: no key is copied
            q = q.reshape(rows, groups, heads // groups, self.head_dim)
            assert not isinstance(mask, list)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, G, H / G, E)
            return self.out(y.reshape(rows, 1, heads * self.head_dim))
        if groups < heads:
            k = k.repeat_interleave(heads // groups, dim=1)
            v = v.repeat_interleave(heads // groups, dim=1)
        y = attend(q, k, v, mask)
        return self.out(y.transpose(1, 2).reshape(rows, length, heads * self.head_dim))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """Attention (B, H, L, E) of all tokens, causal without a mask.

    Without autocast where that is quicker, in training on a processor: torch's kernel for the
    gradient with 16 bits takes twice as long as with 32 for heads of 32 numbers, at 64 it is the
    other way round (docs/log.md).
    """
    if isinstance(mask, list):
        parts = []
        for part in mask:
            keys, values = k.index_select(2, part.seen), v.index_select(2, part.seen)
            parts.append(attend(q[:, :, part.tokens], keys, values, part.mask))
        return torch.cat(parts, dim=2)
    small = q.device.type == "cpu" and q.shape[-1] < 64 and torch.is_grad_enabled()
    if not small:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    with torch.autocast("cpu", enabled=False):
        v = v.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
