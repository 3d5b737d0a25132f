"""Completing: prompts run through a model, many at a time, until what was asked for is said.

`complete` draws words, or takes the likeliest at each step; `search` looks for the likeliest text.

Knows prompts, sampling and when to stop. Knows no tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from lm.beams import LENGTH_POWER, Beam, beam_texts
from lm.document import Item
from lm.drawing import Draw, Sampling
from lm.sampling import Prompt, continue_streams

if TYPE_CHECKING:
    from lm.video_reader import VideoReader

MAX_TEXT = 256  # tokens of one caption or answer
ROWS = 64  # streams side by side
GREEDY = Draw(temperature=0.0)
Progress = Callable[[int], None]
T = TypeVar("T")


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """The items in parts of at most `size`."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def complete(
    model: VideoReader,
    prompts: Sequence[list[int]],
    draw: Draw = GREEDY,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Item]:
    """The next item of each prompt, an open stream that ends in the item's own mark.

    Args:
        model: What reads and writes.
        prompts: Open streams.
        draw: How to draw words.
        seed: Of the first; the others count on from it.
        progress: Called with the number of prompts done, chunk by chunk.
    """
    found: list[Item] = []
    for part in chunks(prompts, ROWS):
        states = continue_streams(
            model.decoder,
            model.grammar,
            [Prompt(ids) for ids in part],
            sampling=Sampling(text=draw),
            seeds=[seed + len(found) + i for i in range(len(part))],
            num_items=1,
            max_new=MAX_TEXT,
        )
        found += [state.items[-1] for state in states]
        if progress is not None:
            progress(len(part))
    return found


def search(
    model: VideoReader,
    prompts: Sequence[list[int]],
    beams: int,
    length_power: float = LENGTH_POWER,
    progress: Progress | None = None,
) -> list[list[Beam]]:
    """The likeliest texts after each prompt, the best first; see `lm.beams.beam_texts`."""
    found: list[list[Beam]] = []
    for part in chunks(prompts, max(1, ROWS // (max(beams, 1) + 1))):
        found += beam_texts(model.decoder, model.grammar, part, beams, MAX_TEXT, length_power)
        if progress is not None:
            progress(len(part))
    return found
