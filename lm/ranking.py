"""Ranking: which of several labels or answers fits a video best, by likelihood.

Knows scores of texts after prompts. Knows neither what is asked nor any video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.completing import ROWS, Progress, chunks
from lm.scoring import score_texts

if TYPE_CHECKING:
    from lm.video_reader import VideoReader


@dataclass(frozen=True)
class LabelScore:
    """A label with how well it fits a clip."""

    label: str
    probability: float  # among the labels given, 0 to 1
    log_likelihood: float  # natural log, of the label's tokens and its end


def rank(
    model: VideoReader,
    prompts: list[list[int]],
    labels: Sequence[str],
    normalise: bool,
    progress: Progress | None = None,
) -> list[list[LabelScore]]:
    """Labels after each prompt, the likeliest first.

    Args:
        model: Reads them.
        prompts: Ids of open streams that end in a role mark.
        labels: What might follow.
        normalise: Compare mean likelihoods a token, so that long labels do not lose.
        progress: Called with the number of prompts done, chunk by chunk.

    Raises:
        ValueError: no labels, an empty one, the same twice, or a text in place of a list.
    """
    if isinstance(labels, str):
        raise ValueError(f"{labels!r} is one text: give a list of texts to choose from")
    if not labels or len({label.strip() for label in labels} - {""}) < len(labels):
        raise ValueError(
            f"{list(labels)}: give different labels or choices, at least one, none of them empty"
        )
    ranked: list[list[LabelScore]] = []
    for part in chunks(prompts, max(1, 4 * ROWS // len(labels))):
        scores, lengths = score_texts(model.decoder, model.grammar, part, labels)
        chances = (scores / lengths if normalise else scores).softmax(-1)
        for row, shares in zip(scores.tolist(), chances.tolist(), strict=True):
            found = [LabelScore(*fact) for fact in zip(labels, shares, row, strict=True)]
            ranked.append(sorted(found, key=lambda score: -score.probability))
        if progress is not None:
            progress(len(part))
    return ranked
