"""Segments: which tokens of a row see each other when it holds several documents or branches.

A segment is `document * BRANCHES + branch`. Tokens see earlier ones of their own document, in the
trunk (branch 0) or in their own branch: texts of different branches are each read as if they stood
first after the trunk. Knows no ids.
"""

from __future__ import annotations

from torch import Tensor

BRANCHES = 1024


def segment_mask(segments: Tensor) -> Tensor:
    """What each token of rows (B, L) attends to, bool (B, 1, L, L); itself at least."""
    document, branch = segments // BRANCHES, segments % BRANCHES
    same = document[:, :, None] == document[:, None, :]
    near = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
    return (same & near).tril()[:, None]
