"""Guidance: logits of a prompt sharpened by those of its twins that lack words, or all.

Two branches: arXiv 2207.12598. Three, where words and stills weigh apart: arXiv 2211.09800.
Rescaling: arXiv 2305.08891. Knows logits only.

Shapes: A streams, V ids looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def combine(
    branches: Sequence[Tensor], guidance: Tensor, context_guidance: float, rescale: float
) -> Tensor:
    """Guided logits.

    Args:
        branches: Logits (A, V) of the prompt, then of its twin without words, then (for three
            branches) of its twin without words or stills.
        guidance: (A, 1): how far to go from the second to the first; 1 gives the first.
        context_guidance: How far to go from the third to the second.
        rescale: 0 to 1: how much of the growth of the logits' spread to take back.

    Returns:
        (A, V).
    """
    prompt, null = branches[0], branches[1]
    base = null
    if len(branches) > 2:
        base = branches[2] + context_guidance * (null - branches[2])
    guided = base + guidance * (prompt - null)
    if rescale:
        centred = guided - guided.mean(-1, keepdim=True)
        spread = prompt.std(-1, keepdim=True) / centred.std(-1, keepdim=True).clamp(min=1e-6)
        guided = rescale * spread * centred + (1 - rescale) * centred
    return guided
