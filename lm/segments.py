"""Segments: which tokens of a row see each other when it holds several documents or branches.

A segment is `document * BRANCHES + branch`. Tokens see earlier ones of their own document, in the
trunk (branch 0) or in their own branch: texts of different branches are each read as if they stood
first after the trunk. Of all pairs of a row few see each other, where it holds branches or several
documents: `stretches` leaves most others out. Knows no ids.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

BRANCHES = 1024
STRETCH = 128  # tokens; of fewer, choosing keys costs more than it saves


@dataclass(frozen=True)
class Stretch:
    """Neighbouring tokens of all rows, and the tokens that any of them attends to."""

    tokens: slice
    seen: Tensor  # their numbers, int64 (N,)
    mask: Tensor  # what of these each token attends to, bool (B, 1, tokens, N)


def segment_mask(segments: Tensor) -> Tensor:
    """What each token of rows (B, L) attends to, bool (B, 1, L, L); itself at least."""
    document, branch = segments // BRANCHES, segments % BRANCHES
    same = document[:, :, None] == document[:, None, :]
    near = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
    return (same & near).tril()[:, None]


def stretches(mask: Tensor, length: int = STRETCH) -> list[Stretch]:
    """A mask (B, 1, L, L) for so many tokens at a time, without what none of them sees."""
    made = []
    for first in range(0, mask.shape[2], length):
        tokens = slice(first, first + length)
        rows = mask[:, :, tokens]
        seen = rows.any(2).any(0)[0].nonzero()[:, 0]
        made.append(Stretch(tokens, seen, rows[..., seen]))
    return made
