"""Choosing: of several videos made of one prompt, the one the model itself would caption so.

A model that reads better than it writes can so mend what it wrote. Knows how videos are ranked,
not how they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from data.clip import Clip
from lm.sampling import later_seed
from lm.scoring import score_captions

if TYPE_CHECKING:
    from lm.tasks import Model

SEED_STEP = 7_368_787  # between the seeds of two candidates of one prompt
ROWS = 64  # videos made and ranked side by side


def best_of(
    model: Model,
    draw: Callable[..., list[Clip]],
    candidates: int,
    prompts: Sequence[str | None],
    seeds: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Clip]:
    """The likeliest to be captioned by its prompt of several videos, for each prompt.

    The candidates are read anew from their pixels: their codes were drawn to please the prompt.

    Args:
        model: Reads them.
        draw: Makes a video of each prompt; takes `prompts` and `seeds`.
        candidates: Videos of each prompt; the first is the one that its seed alone would give.
        prompts: Captions.
        seeds: One per prompt (default 0, 1, ...).
        progress: Called with the number of prompts done, chunk by chunk.

    Raises:
        ValueError: fewer than one candidate, or no prompt to prefer one by.
    """
    told = [prompt for prompt in prompts if prompt is not None]
    if candidates < 1:
        raise ValueError(f"candidates={candidates}: make at least one video of each prompt")
    if len(told) < len(prompts):
        raise ValueError(f"candidates={candidates}: without a prompt there is none to prefer")
    pairs = list(zip(told, range(len(told)) if seeds is None else seeds, strict=True))
    kept: list[Clip] = []
    for first in range(0, len(pairs), rows := max(1, ROWS // candidates)):
        part = pairs[first : first + rows]
        again = [prompt for prompt, _ in part for _ in range(candidates)]
        drawn = [later_seed(seed, SEED_STEP * k) for _, seed in part for k in range(candidates)]
        clips = draw(prompts=again, seeds=drawn)
        tokens = model.encode_batch(clips)
        scores = score_captions(model.decoder, model.vocabulary, tokens, again)
        best = scores.view(len(part), candidates).argmax(1).tolist()
        kept += [clips[row * candidates + k] for row, k in enumerate(best)]
        if progress is not None:
            progress(len(part))
    return kept
