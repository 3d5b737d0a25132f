"""Sampling: continues prompts under the grammar, each modality drawn in its own way.

A batch may mix prompts of any length; each sample has its own seed and does not depend on its
neighbours. With guidance the prompt and its twins run as rows of one batch, each with its
own cache. Knows ids and the grammar, not tasks.

Shapes: A active streams, B rows (A for each branch of guidance), L tokens, V ids looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as List
from dataclasses import dataclass
from functools import partial
from operator import index

import torch
from torch import Tensor

from lm.cache import Cache
from lm.document import Item
from lm.drawing import Sampling, draw
from lm.engine import Reading, Row
from lm.grammar import Grammar, Ranges, State
from lm.guidance import combine
from lm.model import Decoder
from lm.positions import WholeStep
from lm.sequence import VIDEO, Sequence
from lm.step import Step

SEEDS = range(-(2**62), 2**62)
Follow = Callable[[List[Item]], tuple[str, ...] | None]


@dataclass(frozen=True)
class Prompt:
    """A stream to continue, and its twins for guidance.

    null: without the words, or with those of what is not wanted. bare: without stills, too.
    """

    ids: list[int]
    null: list[int] | None = None
    bare: list[int] | None = None

    @classmethod
    def of(cls, sequence: Sequence, null: Sequence | None = None) -> Prompt:
        return cls(sequence.ids.tolist(), None if null is None else null.ids.tolist())

    @property
    def longest(self) -> int:
        """Tokens of the longest of them."""
        return max(len(ids) for ids in (self.ids, self.null, self.bare) if ids is not None)

    def branches(self, count: int) -> list[list[int]]:
        """The prompt and its first twins; one that is missing is like the one before."""
        found = [self.ids]
        for twin in (self.null, self.bare)[: count - 1]:
            found.append(found[-1] if twin is None else twin)
        return found


@dataclass
class Stream:
    """One stream in the making."""

    state: State
    limit: int  # most new ids
    goal: int | None  # items after which to stop; None: at <end>
    follow: Follow | None
    luck: Tensor  # (context,) uniform numbers, one for each token drawn
    spare: Tensor  # (2, context), see `lm.parallel`
    drawn: int = 0

    @property
    def finished(self) -> bool:
        enough = self.goal is not None and len(self.state.items) >= self.goal
        if enough or self.state.mode == "done":
            return True
        return self._marks() is not None and not self.allowed()  # no mark may follow, or has room

    def _marks(self) -> tuple[str, ...] | None:
        """Marks that may open the next item; None if all may, or an item is at hand."""
        return self.follow(self.state.items) if self.follow and self.state.mode == "item" else None

    def allowed(self) -> Ranges:
        ranges = self.state.allowed(self.limit - self.drawn, close=int(self.goal is None))
        marks = self._marks()
        if marks is None:
            return ranges
        ids = {self.state.grammar.vocabulary.special(mark) for mark in marks}
        return tuple(span for span in ranges if span[0] in ids)


@torch.inference_mode()
def continue_streams(
    model: Decoder,
    grammar: Grammar,
    prompts: List[Prompt],
    *,
    sampling: Sampling | None = None,
    seeds: List[int] | None = None,
    num_items: int | None = None,
    follow: Follow | None = None,
    max_new: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[State]:
    """Continue each prompt until its next items are complete.

    Args:
        model: The decoder; its engine writes, if it has one.
        grammar: Of the decoder's vocabulary.
        prompts: Open streams of any lengths.
        sampling: How to draw.
        seeds: One per prompt (default 0, 1, ...); a seed gives the same stream in any batch.
        num_items: Stop after so many more items; None: at `<end>`.
        follow: Which marks may open the next item after those there are; none: stop.
        max_new: Most new tokens a stream, by default what the context leaves. Streams always end
            complete within it.
        progress: Called after each step with the number of tokens drawn in it.

    Returns:
        The grammar states at the end, with the items read and written.

    Raises:
        ValueError: a prompt is broken, or its shortest completion does not fit the context.
    """
    if not prompts:
        return []
    sampling = sampling or Sampling()
    seeds = list(range(len(prompts))) if seeds is None else seeds
    read = [read_prompt(grammar, prompt.ids) for prompt in prompts]
    streams = [
        _open(state, prompt.longest, seed, model.config.context, num_items, max_new, follow)
        for (state, _), prompt, seed in zip(read, prompts, seeds, strict=True)
    ]
    count = _num_branches(prompts, sampling)
    twins = zip(*(prompt.branches(count) for prompt in prompts), strict=True)
    rows = [(ids, read_prompt(grammar, ids)[1]) for branch in twins for ids in branch]
    longest = max(stream.limit for stream in streams)
    if sampling.parallel > 1:
        from lm.parallel import run_streams

        return run_streams(model, grammar, streams, rows, count, longest, sampling, progress)
    read_rows = partial(OwnReading, model) if model.engine is None else model.engine.read
    reading: Reading = read_rows(rows, room=longest)
    active = streams
    while True:
        tokens, slots = draw_step(reading.scores, grammar, active, sampling, count)
        if progress is not None:
            progress(len(active))
        keep = [i for i, stream in enumerate(active) if not stream.finished]
        if not keep:
            return [stream.state for stream in streams]
        if len(keep) < len(active):
            reading.keep([i + k * len(active) for k in range(count) for i in keep])
            active = [active[i] for i in keep]
            tokens, slots = [tokens[i] for i in keep], [slots[i] for i in keep]
        reading.push(tokens * count, slots * count)


def _num_branches(prompts: List[Prompt], sampling: Sampling) -> int:
    """How many twins of each prompt are needed, itself included."""
    if sampling.context_guidance != 1 and any(prompt.bare is not None for prompt in prompts):
        return 3
    guided = sampling.guidance != 1 and any(prompt.null is not None for prompt in prompts)
    return 2 if guided else 1


class OwnReading:
    """Streams read by the decoder itself: prompts at once, then a token of each row at a time.

    Args:
        model: The decoder.
        rows: Ids and slots of each prompt.
        room: Tokens that each row will still take.
        step: What reads single tokens; None: made of the decoder's weights.
        spare: Places beyond, for padding.
    """

    def __init__(
        self,
        model: Decoder,
        rows: List[Row],
        room: int,
        step: Step | None = None,
        spare: int = 0,
    ) -> None:
        own = Step if model.places is None else WholeStep
        self._step = own(model) if step is None else step
        self._cache, self._hidden = prefill(model, rows, room, spare)

    def scores(self, low: int, high: int) -> Tensor:
        return self._step.scores(self._hidden, low, high).float()

    def push(self, ids: list[int], slots: list[int]) -> None:
        tokens, places = torch.tensor([ids, slots], device=self._hidden.device)
        self._hidden = self._step.read(tokens, places, self._cache)

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows, in any order; one that is named twice goes on as two."""
        chosen = torch.tensor(rows, device=self._hidden.device)
        self._cache, self._hidden = self._cache.select(chosen), self._hidden[chosen]


def prefill(model: Decoder, rows: List[Row], room: int, spare: int = 0) -> tuple[Cache, Tensor]:
    """Read prompts of any lengths at once.

    Args:
        model: The decoder.
        rows: Ids and slots of each prompt.
        room: Tokens that each row will still take.
        spare: Places of the cache beyond those, and beyond the context, for padding.

    Returns:
        A cache that holds them, and the last hidden state of each (B, D).
    """
    config, device = model.config, model.table.weight.device
    lengths = torch.tensor([len(ids) for ids, _ in rows])
    longest = int(lengths.max())
    cache = Cache(
        config.layers,
        len(rows),
        min(longest + room, config.context) + spare,
        config.kv_heads,
        config.head_dim,
        dtype=model.table.weight.dtype,
        device=device,
    )
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    slots = torch.zeros_like(ids)
    for row, (tokens, places) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        slots[row, : len(tokens)] = torch.tensor(places)
    hidden = model(ids.to(device), slots=slots.to(device), cache=cache)
    cache.trim(lengths.to(device))
    return cache, hidden[torch.arange(len(rows)), lengths - 1]


def read_prompt(grammar: Grammar, ids: List[int]) -> tuple[State, list[int]]:
    """The state after a prompt, and the slot of each of its tokens."""
    state, slots = grammar.start(), []
    for token in ids:
        slots.append(state.place)
        state.push(token)
    return state, slots


def check_seed(seed: int) -> None:
    """Raise ValueError unless streams can be drawn with it."""
    if not hasattr(seed, "__index__") or index(seed) not in SEEDS:
        raise ValueError(f"seed={seed}: give a whole number from {SEEDS.start} to {SEEDS.stop - 1}")


def later_seed(seed: int, step: int) -> int:
    """A seed `step` after another; after the last comes the first."""
    return SEEDS.start + (index(seed) - SEEDS.start + step) % (SEEDS.stop - SEEDS.start)


def _open(
    state: State,
    length: int,
    seed: int,
    context: int,
    num_items: int | None,
    max_new: int | None,
    follow: Follow | None,
) -> Stream:
    limit = context - length
    if max_new is not None:
        limit = min(limit, max_new)
    needed = max(state.cost(), 1) + (num_items is None)
    if limit < needed:
        over = length + needed - context if max_new is None or limit < max_new else needed - limit
        raise ValueError(
            f"the prompt takes {length} tokens and its completion at least {needed}, {over} more "
            f"than fit (context {context}): shorten the text, give a shorter clip, or read and "
            "generate at fewer tokens a frame"
        )
    check_seed(seed)
    state.own = True
    goal = None if num_items is None else len(state.items) + num_items
    generator = torch.Generator().manual_seed(index(seed))
    luck = torch.rand(context, generator=generator, dtype=torch.float64)
    spare = torch.rand(2, context, generator=generator, dtype=torch.float64)
    return Stream(state, limit, goal, follow, luck, spare)


def draw_step(
    score: Callable[[int, int], Tensor],
    grammar: Grammar,
    active: list[Stream],
    sampling: Sampling,
    num_branches: int,
) -> tuple[list[int], list[int]]:
    """Draw and take the next token of every stream; give back tokens and their slots."""
    ranges = [stream.allowed() for stream in active]
    is_video = [stream.state.modality == VIDEO for stream in active]
    slots = [stream.state.place for stream in active]
    if all(len(r) == 1 and r[0][1] - r[0][0] == 1 for r in ranges):
        tokens = [r[0][0] for r in ranges]  # the grammar leaves no choice
    else:
        low = min(r[0][0] for r in ranges)
        high = max(span[1] for r in ranges for span in r)
        logits = score(low, high)  # (B, V)
        if num_branches > 1:
            branches = logits.split(len(active))
            logits = branches[0]
            if any(is_video):
                factor = [sampling.guidance if v else 1.0 for v in is_video]
                scale = torch.tensor(factor, device=logits.device)[:, None]
                guided = combine(branches, scale, sampling.context_guidance, sampling.rescale)
                is_code = torch.tensor(is_video, device=logits.device)[:, None]
                logits = torch.where(is_code, guided, logits)  # words beside them stay as they are
        if any(r != ((low, high),) for r in ranges):
            mask = torch.stack([grammar.mask(r)[low:high] for r in ranges])
            logits = logits.masked_fill(~mask.to(logits.device), -torch.inf)
        luck = torch.stack([stream.luck[stream.drawn] for stream in active])
        draws = [sampling.video if v else sampling.text for v in is_video]
        tokens = (draw(logits, draws, luck.to(logits.device)) + low).tolist()
    for stream, token in zip(active, tokens, strict=True):
        stream.state.take(token)
        stream.drawn += 1
    return tokens, slots
