"""Interleaving: texts, times and videos in turn, of the model's own choice, after what is there.

Knows documents and prompts. Knows pixels only as the codec makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from data.clip import Clip
from lm.document import Item, Task, Text, Time, Video
from lm.drawing import Sampling
from lm.prompting import opened
from lm.sampling import Prompt, continue_streams

if TYPE_CHECKING:
    from lm.tasks import Model

LEAST_NEW = 2  # tokens: something, and the end


def write_on(
    model: Model,
    items: Sequence[Item],
    seed: int,
    sampling: Sampling | None,
    max_new: int | None,
) -> list[str | Time | Clip]:
    """`Model.write`."""
    said: list[str | Time | Clip] = []
    for item in written_items(model, items, seed, sampling, max_new):
        if isinstance(item, Text):
            said.append(item.text)
        elif isinstance(item, Time):
            said.append(item)
        elif isinstance(item, Video):
            said.append(model.codec.decode(item.tokens))
    return said


def written_items(
    model: Model,
    items: Sequence[Item],
    seed: int,
    sampling: Sampling | None,
    max_new: int | None,
) -> list[Item]:
    """The items of `Model.write` as the model wrote them, each with its role."""
    if "talk" not in model.taught:
        raise ValueError(
            "this model was not taught to write documents of its own: train it with "
            "--data.mixture.talk 0.2"
        )
    if max_new is not None and max_new < LEAST_NEW:
        raise ValueError(f"max_new={max_new}: give {LEAST_NEW} tokens or more, or leave it out")
    start = [Task("talk"), *items]
    (state,) = continue_streams(
        model.decoder,
        model.grammar,
        [Prompt(opened(model.vocabulary, start, None))],
        sampling=sampling,
        seeds=[seed],
        max_new=max_new,
    )
    return state.items[len(start) :]
