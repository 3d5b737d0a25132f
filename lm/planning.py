"""Planning: what each way of reading a long video costs in tokens, counted by the stream's grammar.

A strategy is a function from a `Task` to a `Way`; a new one is a function and its line in
`STRATEGIES`. Knows frames, rates and the grammar. Knows no pixels, no network and no table.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from lm.formats import VideoFormat
from lm.long.memory import BUDGET
from lm.long.parts import window_step
from lm.long.rolling import Room
from lm.sequence import LIMITS, spell_header
from tokenizer.rate import block_tokens

MARKS = 7  # <begin>, <watch>, <question> <stop>, <answer> <stop>, <end>
SCENE = 8  # parts that a scene is taken to last


@dataclass(frozen=True)
class Cost:
    """Tokens of one reading, by what they are for."""

    codes: int
    blocks: int  # `<block>` marks
    header: int  # `<video>`, size, frames, times, rate and start, `</video>`
    marks: int  # `<begin>`, `<end>` and those around question and answer
    text: int  # kept for the words of question and answer

    @property
    def total(self) -> int:
        return self.codes + self.blocks + self.header + self.marks + self.text


@dataclass(frozen=True)
class Task:
    """A video as it would be read, and what there is to read it with."""

    times: Sequence[float]  # seconds of each frame
    height: int  # pixels of the pictures that are read
    width: int  # pixels
    tokens_per_frame: float
    block_frames: int
    most_per_block: int  # tokens of a block that codec and model can have
    context: int  # tokens
    text: int  # tokens kept for the words of question and answer
    presets: frozenset[VideoFormat] = frozenset()  # formats whose header is one token
    trained_frames: int | None = None  # of the model's longest clip; None: no model
    trained_fps: float | None = None

    def counts(self, num_frames: int, first_block: int = 0) -> tuple[int, ...]:
        """Tokens of each block of so many frames, from block number `first_block` on."""
        return self._counts[first_block : first_block + -(-num_frames // self.block_frames)]

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        blocks = range(-(-len(self.times) // self.block_frames))
        return tuple(block_tokens(self.tokens_per_frame, self.block_frames, b) for b in blocks)

    @cached_property
    def parts(self) -> tuple[list[Cost], int]:
        """See `_cut`."""
        return _cut(self)

    def cost(self, times: Sequence[float], counts: tuple[int, ...]) -> Cost:
        """Of one reading: a clip with frames at `times` and so many tokens a block, and texts."""
        return self.cost_as(*VideoFormat.at(times, self.height, self.width, counts))

    def cost_as(self, fmt: VideoFormat, start_ms: int) -> Cost:
        """`cost` of a clip whose format and start are known."""
        preset, counts = fmt in self.presets, fmt.tokens_per_block
        header = 2 + preset + len(spell_header(fmt, start_ms, preset))
        return Cost(sum(counts), len(counts), header, MARKS, self.text)

    def fits(self, cost: Cost) -> bool:
        return cost.total <= self.context


@dataclass(frozen=True)
class Way:
    """What one strategy costs."""

    strategy: str
    how: str
    frames: int  # that are looked at
    readings: int  # times that the model is run over a part
    largest: Cost  # of the longest reading
    tokens_each: int  # of the longest reading, which must fit the context
    tokens: int  # of all readings
    fits: bool


def whole(task: Task) -> Way:
    """Every frame in one reading."""
    cost = task.cost(task.times, task.counts(len(task.times)))
    clip = "clip" if task.trained_frames is None else "model.framing.at_rate(clip)"
    how = f"tokens = model.codec.encode({clip}, rate), model.ask(tokens, ...)"
    return _way(task, "whole", how, len(task.times), [cost])


def chunks(task: Task) -> Way:
    """Every frame, in as few even parts as fit, none longer than trained."""
    costs, frames = task.parts
    how = f"{frames} frames each, every part for itself"
    return _way(task, "chunks", how, len(task.times), costs)


def spread(task: Task) -> Way:
    """Fewer frames, evenly spread, in one reading: what `caption` and `ask` do with a file."""
    if task.trained_frames is not None and task.trained_fps is not None:
        count = min(len(task.times), task.trained_frames)
        times: Sequence[float] = [i / task.trained_fps for i in range(count)]
        own = task.tokens_per_frame * task.block_frames == task.most_per_block
        how = "caption and ask of a file" if own else "model.ask(model.encode(file, rate), ...)"
        even = task.counts(1) * len(task.counts(count))
        return _way(task, "spread", how, count, [task.cost(times, even)])
    step = _thinning(task)
    times = task.times[::step]
    how = f"caption and ask of a file with one frame of {step}, if the model knows clips as long"
    return _way(task, "spread", how, len(times), [task.cost(times, task.counts(len(times)))])


def recall(task: Task) -> Way:
    """As many parts as are remembered at the end."""
    costs, frames = task.parts
    codes = max(cost.codes for cost in costs)
    budget = max(BUDGET, codes)
    kept = costs[: budget // codes]
    name = "recall" if budget == BUDGET else f"recall={budget}"
    how = (
        f"{len(kept)} of {len(costs)} parts of {frames} frames, those most unlike their neighbours"
    )
    return _way(task, name, how, len(task.times), kept)


def keyframes(task: Task) -> Way:
    """The first part of each scene; how many scenes there are only reading tells."""
    costs, frames = task.parts
    how = (
        f"the first {frames} frames of each scene; counted as if a scene lasted {SCENE} parts "
        f"({SCENE * frames} frames)"
    )
    return _way(task, "keyframes", how, len(task.times), costs[::SCENE])


def window(task: Task) -> Way:
    """Every block once, after as many of those before as fit; asked after each."""
    size, most = task.block_frames, max(task.counts(len(task.times)))
    room = Room.of_window(_blocks_at_once(task), most)
    how = f"block by block, the last {min(len(task.times), room.blocks * size)} frames in mind"
    return _rolling(task, "window", how, room)


def memory(task: Task) -> Way:
    """Every block once, beside what a memory keeps of those before; asked after each."""
    most = max(task.counts(len(task.times)))
    room = Room.of_memory(_blocks_at_once(task), most)
    how = (
        f"block by block, {room.blocks} beside {room.memory} tokens that all before are merged into"
    )
    return _rolling(task, "memory", how, room)


def _rolling(task: Task, name: str, how: str, room: Room) -> Way:
    """The first reading, as many blocks as there is room for; then every block with a question."""
    times, size = task.times, task.block_frames
    counts = tuple(min(count, room.block_tokens) for count in task.counts(len(times)))
    first = task.cost(times[: room.first * size], counts[: room.first])
    marks = MARKS - 2  # neither <begin> nor <watch>
    costs = [Cost(count, 1, 1, marks, task.text) for count in counts[room.first :]]
    way = _way(task, name, how, len(times), [first, *costs])
    if not costs:
        return way
    held = first.total - first.codes - first.blocks + room.tokens  # once there is all it holds
    return replace(way, fits=way.fits and held <= task.context)


def overlap(task: Task) -> Way:
    """Every frame twice, in parts that overlap by half."""
    _, frames = task.parts
    step = window_step(frames, task.block_frames)
    starts = range(0, max(1, len(task.times) - frames + step), step)
    parts = [task.times[start : start + frames] for start in starts]
    costs = [task.cost(_from_zero(times), task.counts(len(times))) for times in parts]
    how = f"{frames} frames each, one part every {step}"
    return _way(task, "overlap", how, len(task.times), costs)


def hierarchy(task: Task) -> Way:
    """Keyframes; where they do not tell, one part of four; where that does not, all."""
    costs, frames = task.parts
    how = (
        f"the first {frames} frames of each scene; where unsure one part of 4, then all; counted "
        "as if always unsure"
    )
    return _way(task, "hierarchy", how, len(task.times), costs)


def aggregate(task: Task) -> Way:
    """As many consecutive frames as it takes count as one; all in one reading."""
    step = max(2, _thinning(task))
    if task.trained_frames is not None:
        step = max(step, -(-len(task.times) // task.trained_frames))
    step = min(len(task.times), step)
    times = task.times[::step]
    if task.trained_fps is not None:  # shown as fast as clips in training
        times = [i / task.trained_fps for i in range(len(times))]
    cost = task.cost(times, task.counts(len(times)))
    how = f"{step} consecutive frames as one"
    return _way(task, f"aggregate={step}", how, len(task.times), [cost])


STRATEGIES: tuple[Callable[[Task], Way], ...] = (
    whole,
    chunks,
    spread,
    window,
    memory,
    recall,
    keyframes,
    hierarchy,
    overlap,
    aggregate,
)


def fitting_rate(task: Task) -> float | None:
    """Most tokens a frame at which the whole video fits in one reading; None if none does.

    Whole numbers of tokens a block, which are the most that fit: where blocks differ, the header
    names the tokens of each, which costs more than one token a block.
    """
    blocks = -(-len(task.times) // task.block_frames)
    fmt, start = VideoFormat.at(task.times, task.height, task.width, (1,) * blocks)

    def fits(count: int) -> bool:
        return task.fits(task.cost_as(replace(fmt, tokens_per_block=(count,) * blocks), start))

    return _most(task.most_per_block, fits) / task.block_frames or None


def _way(task: Task, name: str, how: str, frames: int, costs: list[Cost]) -> Way:
    largest = max(costs, key=lambda cost: cost.total)
    return Way(
        strategy=name,
        how=how,
        frames=frames,
        readings=len(costs),
        largest=largest,
        tokens_each=largest.total,
        tokens=sum(cost.total for cost in costs),
        fits=task.fits(largest),
    )


def _cut(task: Task) -> tuple[list[Cost], int]:
    """Costs of as few even parts as fit, of one block each if none does, and a part's frames."""
    size, blocks = task.block_frames, -(-len(task.times) // task.block_frames)
    most = blocks
    if task.trained_frames is not None:
        most = min(most, max(1, task.trained_frames // size))

    def part(first: int, length: int) -> Cost:
        times = _from_zero(task.times[first * size : (first + length) * size])
        return task.cost(times, task.counts(len(times), first))

    def last_fits(length: int) -> bool:
        return task.fits(part((blocks - length) // length * length, length))

    length = max(1, _most(most, last_fits))
    if task.trained_frames is None:  # a model knows its own length best
        length = -(-blocks // -(-blocks // length))
    while True:  # all but the last whole part were not looked at yet
        costs = [part(first, length) for first in range(0, blocks, length)]
        if length == 1 or all(map(task.fits, costs)):
            return costs, min(len(task.times), length * size)
        length -= 1


def _blocks_at_once(task: Task) -> int:
    """Blocks of the longest clips that the model knows; without one, as many as fit evenly."""
    if task.trained_frames is not None:
        return max(1, task.trained_frames // task.block_frames)
    return -(-task.parts[1] // task.block_frames)


def _from_zero(times: Sequence[float]) -> Sequence[float]:
    """The times of a part that is a clip of its own."""
    return [time - times[0] for time in times]


def _thinning(task: Task) -> int:
    """The smallest n such that every n-th frame fits in one reading; the largest if none does."""
    gap = max((b - a for a, b in pairwise(task.times)), default=1.0)
    largest = int(LIMITS["interval"] / 1000 / gap)  # a header holds no longer gap between frames

    def too_many(step: int) -> bool:
        times = task.times[::step]
        return not task.fits(task.cost(times, task.counts(len(times))))

    largest = max(1, min(len(task.times), largest))
    return min(largest, 1 + _most(largest, too_many))


def _most(high: int, holds: Callable[[int], bool]) -> int:
    """The largest n up to `high` that holds, 0 if none: those that hold come before the others."""
    return bisect_right(range(1, high + 1), False, key=lambda n: not holds(n))
