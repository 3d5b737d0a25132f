"""`long=`: a strategy by its name, and a model asked about a video of any length with it.

    chunks[=frames]   every part for itself, none longer than trained
    keyframes         the first part of each scene
    hierarchy         keyframes, then a quarter of the doubtful scenes, then all of them
    memory[=tokens]   parts that a memory of so many tokens holds at the end, the like ones merged;
                      `memory=1280@16` keeps the first 16 tokens of a block
    summary[=tokens]  the last part, beside the captions of those before it
    window[=frames]   parts that overlap by half
    aggregate=frames  so many consecutive frames as one, then every part

Each but `hierarchy` and `summary` may be followed by `/vote` or `/maximum`, see `conclude`.
Knows names and models. How parts are chosen is strategies' affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.long.answer import Combine, LongAnswer, joined
from lm.long.memory import BUDGET
from lm.long.parts import Footage, Part, Parts, window_step
from lm.long.query import Query
from lm.long.reader import ModelReader, Reader
from lm.long.strategies import every_part, hierarchy, keyframes, remembered, summary
from lm.watching import Seen

if TYPE_CHECKING:
    from lm.tasks import Model

NAMES = ("chunks", "keyframes", "hierarchy", "memory", "summary", "window", "aggregate")
COUNTED = ("chunks", "memory", "summary", "window", "aggregate")
TEXT_ALONE = ("hierarchy", "summary")  # answer questions, give no captions
SUMMARY = 256  # tokens


@dataclass(frozen=True)
class Long:
    """How a long video is read."""

    name: str
    amount: int | None = None  # frames or tokens, by the strategy
    how: Combine | None = None  # None: as the question wants it
    block_tokens: int | None = None  # that a memory keeps of a block; None: all

    @classmethod
    def parse(cls, text: str) -> Long:
        """`NAME[=N][/vote|/maximum]`, for a memory also `=N@K`.

        Raises:
            ValueError: no such strategy, or a number where there is none.
        """
        ways: dict[str, Combine] = {"vote": "vote", "maximum": "maximum"}
        words, _, how = text.strip().partition("/")
        name, _, numbers = words.partition("=")
        number, _, rate = numbers.partition("@")
        if name not in NAMES:
            raise ValueError(f"long={text!r}: choose one of {', '.join(NAMES)}")
        if how and how not in ways:
            raise ValueError(f"long={text!r}: after / stands vote or maximum")
        given = [each for each in (number, rate) if each]
        wrong = any(not each.isdecimal() or int(each) < 1 for each in given)
        if wrong or (numbers and name not in COUNTED) or (rate and name != "memory"):
            raise ValueError(
                f"long={text!r}: a whole number of at least 1 may follow {', '.join(COUNTED)}"
            )
        if name == "aggregate" and not number:
            raise ValueError("long='aggregate': say how many frames count as one, aggregate=4")
        amount, kept = (int(each) if each else None for each in (number, rate))
        return cls(name, amount, ways.get(how), kept)

    def footage(self, video: Seen, model: Model) -> Footage:
        """The video in the parts that this strategy reads."""
        framing, block = model.framing, model.codec.block_frames
        frames = framing.max_frames
        if self.name in ("chunks", "window") and self.amount is not None:
            frames = self.amount
        step = None
        if self.name == "window":
            step = window_step(frames, block)
        unit = self.amount or 1 if self.name == "aggregate" else 1
        return Footage(video, model.codec, framing, frames, step, unit)


def ask_long(
    model: Model, video: Seen, question: str, choices: Sequence[str] = (), long: str = "chunks"
) -> LongAnswer:
    """The answer to a question about a video of any length.

    Args:
        model: What reads.
        video: Read frame by frame, and again where the strategy wants more of it.
        question: What to ask.
        choices: Possible answers; else the model's own words.
        long: The strategy, see above.

    Raises:
        ValueError: an empty question, or no such strategy.
    """
    way = Long.parse(long)
    return answer_long(ModelReader(model), way.footage(video, model), question, choices, way)


def answer_long(
    reader: Reader, video: Parts, question: str, choices: Sequence[str], way: Long
) -> LongAnswer:
    """`ask_long` with any reader."""
    query = Query.of(reader, question, choices, way.how)
    if way.name == "hierarchy":
        return hierarchy(query, video)
    if way.name == "summary":
        return summary(query, video, way.amount or SUMMARY)
    return query.conclude(query.evidence(_chosen(reader, video, way)))


def caption_long(model: Model, video: Seen, long: str = "chunks") -> LongAnswer:
    """What happens in a video of any length, part by part, each with its seconds.

    Raises:
        ValueError: no such strategy, or one that answers questions alone.
    """
    way = Long.parse(long)
    if way.name in TEXT_ALONE:
        raise ValueError(f"long={long!r} answers questions: caption with chunks or keyframes")
    reader = ModelReader(model)
    query = Query(reader)
    parts = (part for part, _ in _chosen(reader, way.footage(video, model), way))
    told = joined(list(query.captions(parts)))
    text = "\n".join(map(str, told))
    return LongAnswer(text, None, query.tokens, query.readings, parts=told)


def _chosen(reader: Reader, video: Parts, way: Long) -> Iterable[tuple[Part, float]]:
    if way.name == "keyframes":
        return keyframes(video, reader)
    if way.name == "memory":
        return remembered(video, reader, way.amount or BUDGET, way.block_tokens)
    return every_part(video)
