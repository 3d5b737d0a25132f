"""How learning rates and first weights carry over from one width of a decoder to another.

Rates found on a small model then hold for a wide one (muP, arXiv 2203.03466; for Muon the spectral
condition, arXiv 2310.17813). With r = base width / width, relative to what a decoder has anyway:

    weights                          first deviation   learning rate
    blocks' matrices, by Muon        sqrt(r)           1   (its steps are of one spectral size)
    blocks' matrices, by AdamW       sqrt(r)           r
    head, and its map of features    r                 r   (AdamW)
    maps of the heads for codes ahead  (nothing)       r   (AdamW)
    input table, its maps, slots     1                 1   (AdamW)
    gains                            1                 1   (AdamW)

Heads get more, not wider; the hidden width grows as the width does. Knows names of parameters.
"""

from __future__ import annotations

import torch

from lm.model import Decoder

_HEAD = ("head.", "head_map.")


def rate_factor(name: str, ratio: float) -> float:
    """What AdamW's learning rate is multiplied by for a parameter; `ratio` is base / width."""
    return ratio if name.startswith(("blocks.", "ahead.", *_HEAD)) else 1.0


@torch.no_grad()
def scale_weights(decoder: Decoder, base_width: int) -> None:
    """Give fresh weights, made for decoders of `base_width`, the deviations of the table above.

    Raises:
        ValueError: the head is the input table, which cannot follow both of their rules.
    """
    if decoder.config.tied:
        raise ValueError(
            f"recipe.base_width={base_width} with sizes.tied: input table and head follow "
            "different rules, untie them or leave base_width out"
        )
    ratio = base_width / decoder.config.width
    for name, p in decoder.named_parameters():
        if name.startswith(_HEAD):
            p.mul_(ratio)
        elif name.startswith("blocks.") and p.ndim >= 2:
            p.mul_(ratio**0.5)
