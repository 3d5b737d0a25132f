"""Choosing: of several videos made of one prompt, the best, such as the one the model itself would
caption so.

A model that reads better than it writes can so mend what it wrote. Knows how videos are ranked,
not how they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from data.clip import Clip
from lm.completing import chunks
from lm.sampling import later_seed
from lm.scoring import score_captions

if TYPE_CHECKING:
    from lm.tasks import Model

SEED_STEP = 7_368_787  # between the seeds of two candidates of one prompt
ROWS = 64  # videos made and ranked side by side
MOST = 256  # candidates of one prompt


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
    check_candidates(candidates)
    if len(told) < len(prompts):
        raise ValueError(f"candidates={candidates}: without a prompt there is none to prefer")
    given = list(range(len(told)) if seeds is None else seeds)

    def drawn(rows: list[int], seeds: list[int]) -> list[Clip]:
        return draw(prompts=[told[row] for row in rows], seeds=seeds)

    def score(rows: list[int], clips: list[Clip]) -> Tensor:
        tokens, words = model.encode_batch(clips), [told[row] for row in rows]
        return score_captions(model.decoder, model.vocabulary, tokens, words)

    return keep_best(len(told), given, candidates, drawn, score, progress)


def check_candidates(candidates: int) -> None:
    """Raise ValueError for none, or for more than are held at once."""
    if candidates < 1:
        raise ValueError(f"candidates={candidates}: make at least one video of each prompt")
    if candidates > MOST:
        raise ValueError(f"candidates={candidates}: at most {MOST} are made side by side")


def keep_best(
    number: int,
    seeds: Sequence[int],
    candidates: int,
    draw: Callable[[list[int], list[int]], list[Clip]],
    score: Callable[[list[int], list[Clip]], Tensor],
    progress: Callable[[int], None] | None = None,
) -> list[Clip]:
    """The best of several videos of each of `number` requests.

    Args:
        number: Of requests.
        seeds: One for each.
        candidates: Videos of each; the first is the one that its seed alone would give.
        draw: Makes videos of these requests with these seeds.
        score: How good videos of these requests are, (videos,); the highest is kept.
        progress: Called with the number of requests done, chunk by chunk.
    """
    pairs = list(zip(range(number), seeds, strict=True))
    kept: list[Clip] = []
    for part in chunks(pairs, max(1, ROWS // candidates)):
        rows = [row for row, _ in part for _ in range(candidates)]
        drawn = [later_seed(seed, SEED_STEP * k) for _, seed in part for k in range(candidates)]
        clips = draw(rows, drawn)
        best = score(rows, clips).view(len(part), candidates).argmax(1).tolist()
        kept += [clips[i * candidates + k] for i, k in enumerate(best)]
        if progress is not None:
            progress(len(part))
    return kept
