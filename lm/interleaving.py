"""Interleaving: texts and videos in turn, of the model's own choice, after what is there.

Knows documents and prompts. Knows pixels only as the codec makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from data.clip import Clip
from lm.document import Item, Task, Text, Video
from lm.drawing import Sampling
from lm.prompting import opened
from lm.sampling import Prompt, continue_streams

if TYPE_CHECKING:
    from lm.tasks import Model


def write_on(
    model: Model,
    items: Sequence[Item],
    seed: int,
    sampling: Sampling | None,
    max_new: int | None,
) -> list[str | Clip]:
    """`Model.write`."""
    said: list[str | Clip] = []
    for item in written_items(model, items, seed, sampling, max_new):
        if isinstance(item, Text):
            said.append(item.text)
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
