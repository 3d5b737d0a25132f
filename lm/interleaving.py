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
    starts: Sequence[Sequence[Item]],
    seeds: Sequence[int],
    sampling: Sampling | None,
    max_new: int | None,
) -> list[list[str | Time | Clip]]:
    """`Model.write_batch`."""
    found: list[list[str | Time | Clip]] = []
    for written in written_items(model, starts, seeds, sampling, max_new):
        said: list[str | Time | Clip] = []
        for item in written:
            if isinstance(item, Text):
                said.append(item.text)
            elif isinstance(item, Time):
                said.append(item)
            elif isinstance(item, Video):
                said.append(model.codec.decode(item.tokens))
        found.append(said)
    return found


def written_items(
    model: Model,
    starts: Sequence[Sequence[Item]],
    seeds: Sequence[int],
    sampling: Sampling | None,
    max_new: int | None,
) -> list[list[Item]]:
    """The items of `Model.write_batch` as the model wrote them, each with its role."""
    if "talk" not in model.taught:
        raise ValueError(
            "this model was not taught to write documents of its own: train it with "
            "--data.mixture.talk 0.2"
        )
    if max_new is not None and max_new < LEAST_NEW:
        raise ValueError(f"max_new={max_new}: give {LEAST_NEW} tokens or more, or leave it out")
    begun = [[Task("talk"), *items] for items in starts]
    states = continue_streams(
        model.decoder,
        model.grammar,
        [Prompt(opened(model.vocabulary, items, None)) for items in begun],
        sampling=sampling,
        seeds=seeds,
        max_new=max_new,
    )
    return [state.items[len(items) :] for items, state in zip(begun, states, strict=True)]
