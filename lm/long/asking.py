"""`long=`: a strategy by its name, and a model asked about a video of any length with it.

    chunks[=frames]   every part for itself, none longer than trained
    keyframes         the first part of each scene
    hierarchy         keyframes, then a quarter of the doubtful scenes, then all of them
    window[=frames]   every block once, with the last ones still in mind; asked after each
    memory[=tokens]   every block once, beside so many tokens that all before it were merged into
    recall[=tokens]   parts that so many tokens hold at the end, of neighbours alike only one;
                      `recall=1280@16` keeps the first 16 tokens of a block
    summary[=tokens]  the last part, beside the captions of those before it
    overlap[=frames]  parts that overlap by half
    aggregate=frames  so many consecutive frames as one, then every part

Each but `hierarchy` and `summary` may be followed by `/vote` or `/maximum`, see `conclude`.
Knows names and models. How parts are chosen is strategies' affair.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.long.answer import Combine, LongAnswer, joined
from lm.long.memory import BUDGET
from lm.long.parts import Footage, Part, Parts, window_step
from lm.long.query import Query
from lm.long.reader import ModelReader, Reader
from lm.long.rolling import Room, rolling_captions, rolling_evidence
from lm.long.strategies import every_part, hierarchy, keyframes, remembered, summary
from lm.watching import Seen

if TYPE_CHECKING:
    from lm.video_reader import VideoReader

NAMES = (
    "chunks",
    "keyframes",
    "hierarchy",
    "window",
    "memory",
    "recall",
    "summary",
    "overlap",
    "aggregate",
)
COUNTED = ("chunks", "window", "memory", "recall", "summary", "overlap", "aggregate")
ROLLING = ("window", "memory")  # read block by block
TEXT_ALONE = ("hierarchy", "summary")  # answer questions, give no captions
SUMMARY = 256  # tokens


@dataclass(frozen=True)
class Long:
    """How a long video is read."""

    name: str
    amount: int | None = None  # frames or tokens, by the strategy
    how: Combine | None = None  # None: as the question wants it
    block_tokens: int | None = None  # that a recall keeps of a block; None: all

    @classmethod
    def parse(cls, text: str) -> Long:
        """`NAME[=N][/vote|/maximum]`, for a recall also `=N@K`.

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
        if wrong or (numbers and name not in COUNTED) or (rate and name != "recall"):
            raise ValueError(
                f"long={text!r}: a whole number of at least 1 may follow {', '.join(COUNTED)}"
            )
        if name == "aggregate" and not number:
            raise ValueError("long='aggregate': say how many frames count as one, aggregate=4")
        amount, kept = (int(each) if each else None for each in (number, rate))
        return cls(name, amount, ways.get(how), kept)

    def footage(self, video: Seen, model: VideoReader) -> Footage:
        """The video in the parts that this strategy reads."""
        framing, block = model.framing, model.codec.block_frames
        if self.name in ROLLING:
            return Footage(video, model.codec, framing, block, chained=True)
        frames = framing.max_frames
        if self.name in ("chunks", "overlap") and self.amount is not None:
            codes = -(-self.amount // block) * framing.max_block_tokens
            if codes >= model.decoder.config.context:
                raise ValueError(
                    f"{self.name}={self.amount}: so many frames take {codes:,} codes, the model's "
                    f"context is {model.decoder.config.context:,} tokens: give {frames}, as long "
                    "as its clips, or leave the number out"
                )
            if self.amount > frames:
                warnings.warn(
                    f"{self.name}={self.amount}: the model's clips have {frames} frames, of more "
                    "it may misread the later ones",
                    stacklevel=2,
                )
            frames = self.amount
        step = None
        if self.name == "overlap":
            step = window_step(frames, block)
        unit = self.amount or 1 if self.name == "aggregate" else 1
        return Footage(video, model.codec, framing, frames, step, unit)

    def room(self, block_frames: int, block_tokens: int, trained_frames: int) -> Room | None:
        """What is held of a video that is read block by block; None for the other strategies.

        Args:
            block_frames: Of the codec.
            block_tokens: Most codes of a block.
            trained_frames: Of the longest clip that the model knows.

        Raises:
            ValueError: more than the model knows, or no whole blocks.
        """
        blocks = max(1, trained_frames // block_frames)
        if self.name == "memory":
            return Room.of_memory(blocks, block_tokens, self.amount)
        if self.name != "window":
            return None
        frames = self.amount or blocks * block_frames
        if frames % block_frames or frames > blocks * block_frames:
            raise ValueError(
                f"window={frames}: give a multiple of {block_frames} frames up to "
                f"{blocks * block_frames}, as long as the model's clips"
            )
        return Room.of_window(frames // block_frames, block_tokens)


def ask_long(
    model: VideoReader,
    video: Seen,
    question: str,
    choices: Sequence[str] = (),
    long: str = "chunks",
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
    footage, room = way.footage(video, model), room_of(way, model)
    return answer_long(ModelReader(model), footage, question, choices, way, room)


def answer_long(
    reader: Reader,
    video: Parts,
    question: str,
    choices: Sequence[str],
    way: Long,
    room: Room | None = None,
) -> LongAnswer:
    """`ask_long` with any reader; `room` is what `Long.room` gives."""
    query = Query.of(reader, question, choices, way.how)
    if room is not None:
        return query.conclude(rolling_evidence(query, video, room))
    if way.name == "hierarchy":
        return hierarchy(query, video)
    if way.name == "summary":
        return summary(query, video, way.amount or SUMMARY)
    return query.conclude(query.evidence(chosen_parts(reader, video, way)))


def caption_long(model: VideoReader, video: Seen, long: str = "chunks") -> LongAnswer:
    """What happens in a video of any length, part by part, each with its seconds.

    Raises:
        ValueError: no such strategy, or one that answers questions alone.
    """
    way = Long.parse(long)
    if way.name in TEXT_ALONE:
        raise ValueError(f"long={long!r} answers questions: caption with chunks or keyframes")
    reader = ModelReader(model)
    query = Query(reader)
    footage, room = way.footage(video, model), room_of(way, model)
    if room is not None:
        texts = rolling_captions(query, footage, room)
    else:
        texts = query.captions(part for part, _ in chosen_parts(reader, footage, way))
    told = joined(list(texts))
    text = "\n".join(map(str, told))
    return LongAnswer(text, None, query.tokens, query.readings, parts=told)


def room_of(way: Long, model: VideoReader) -> Room | None:
    """`Long.room` as a model has it."""
    framing = model.framing
    return way.room(model.codec.block_frames, framing.max_block_tokens, framing.max_frames)


def chosen_parts(reader: Reader, video: Parts, way: Long) -> Iterable[tuple[Part, float]]:
    """The parts that a strategy reads, whatever is asked, each with how many it speaks for."""
    if way.name == "keyframes":
        return keyframes(video, reader)
    if way.name == "recall":
        return remembered(video, reader, way.amount or BUDGET, way.block_tokens)
    return every_part(video)


def check_rate(long: str | None, tokens_per_frame: float | None) -> None:
    """Raise ValueError where a long video is asked for at a rate of its own."""
    if long is not None and tokens_per_frame is not None:
        raise ValueError(
            f"tokens_per_frame={tokens_per_frame:g} with long={long}: a long video is read at the "
            "rate the model was trained at; leave one of them out"
        )
