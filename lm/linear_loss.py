"""Cross-entropy of tokens scored by a table, without all scores in memory at once.

Scores of a batch, tokens times ids, are the largest thing a step makes. Here a few tokens at a time
are scored while the processor's cache holds them, and once more for the gradient, which costs a
product but saves several passes through memory (the way of Liger, arXiv 2410.10989, and of Cut
Cross-Entropy, arXiv 2411.09009). Knows states and a table. Knows no ids' meaning.

Shapes: N tokens, D width, V ids.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

PULLS = 1 << 25  # gradients of scores kept at a time, so that products with them are large


def linear_losses(hidden: Tensor, table: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How unlikely each token was, in nats, and the log of its softmax's denominator.

    Args:
        hidden: States before the tokens, float (N, D).
        table: What states are compared with to score ids, float (V, D).
        targets: The tokens, int64 (N,), from 0 to V - 1.

    Returns:
        Two float (N,), of 32 bits at least.
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):  # as a linear layer would
        dtype = torch.get_autocast_dtype(kind)
        hidden, table = hidden.to(dtype), table.to(dtype)
    return _LinearLosses.apply(hidden, table, targets)  # pyright: ignore[reportReturnType]


def _stretches(count: int, length: int) -> list[slice]:
    return [slice(at, min(at + length, count)) for at in range(0, count, length)]


def _parts(count: int, table: Tensor) -> list[slice]:
    """Tokens to score at a time: few, but enough that it is not reading the table that costs."""
    return _stretches(count, max(64, table.shape[1]))


def _scores(hidden: Tensor, table: Tensor) -> Tensor:
    scores = F.linear(hidden, table)
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


class _LinearLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        chosen = hidden.new_empty(len(hidden), dtype=wide)
        denominators = torch.empty_like(chosen)
        for part in _parts(len(hidden), table):
            scores = _scores(hidden[part], table)
            chosen[part] = scores.gather(1, targets[part, None])[:, 0]
            torch.logsumexp(scores, 1, out=denominators[part])
        ctx.save_for_backward(hidden, table, targets, denominators)
        return denominators - chosen, denominators

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *pulled: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden, table, targets, denominators = ctx.saved_tensors
        of_loss, of_all = pulled[0], pulled[0] + pulled[1]
        to_hidden = torch.empty_like(hidden)
        to_table = torch.zeros_like(table, dtype=denominators.dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            for block in _stretches(len(hidden), max(64, PULLS // max(1, len(table)))):
                first = block.start
                pulls = hidden.new_empty(block.stop - first, len(table))
                for within in _parts(len(pulls), table):
                    part = slice(first + within.start, first + within.stop)
                    pull = _scores(hidden[part], table)
                    pull.sub_(denominators[part, None]).exp_().mul_(of_all[part, None])
                    pull.scatter_add_(1, targets[part, None], -of_loss[part, None])
                    pulls[within] = pull
                torch.mm(pulls, table, out=to_hidden[block])
                to_table += pulls.T @ hidden[block]
        return to_hidden, to_table.to(table.dtype), None
