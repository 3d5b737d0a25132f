"""A query: one question, or the wish for captions, on its way through a video, with its cost.

Knows readers and parts. Knows neither strategies nor models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from lm.long.answer import (
    YES_NO,
    Combine,
    Evidence,
    LongAnswer,
    TimedText,
    conclude,
    is_polar,
    way_to_combine,
)
from lm.long.parts import Part
from lm.long.reader import Reader, Rolling, Scored, Told

SIDE_BY_SIDE = 32  # parts read together
T = TypeVar("T")


@dataclass
class Query:
    """What is asked of a reader, and the tokens and readings spent on it so far."""

    reader: Reader
    question: str = ""  # "" where captions are wanted
    choices: tuple[str, ...] = ()  # () leaves the words to the reader
    how: Combine = "vote"
    tokens: int = 0
    readings: int = 0

    @classmethod
    def of(
        cls, reader: Reader, question: str, choices: Sequence[str] = (), how: Combine | None = None
    ) -> Query:
        """A question; one that wants yes or no is asked so.

        Raises:
            ValueError: an empty question, or a choice twice.
        """
        if not question.strip():
            raise ValueError("the question is empty: say what to ask about the video")
        if len(set(choices)) < len(choices):
            raise ValueError(f"choices {list(choices)}: give different ones")
        given = tuple(choices) or (YES_NO if is_polar(question) else ())
        return cls(reader, question, given, how or way_to_combine(question))

    def evidence(self, parts: Iterable[tuple[Part, float]], past: str = "") -> list[Evidence]:
        """What each part says, with its weight; read some at a time, as they come."""
        found: list[Evidence] = []
        for some in together(parts):
            scored = self._score([part for part, _ in some], past)
            found += [
                Evidence(part.start, part.end, each.scores, weight)
                for (part, weight), each in zip(some, scored, strict=True)
            ]
        return found

    def now(self, rolling: Rolling, start: float, end: float) -> Evidence:
        """What a reading that goes on says of these seconds."""
        if self.choices:
            scored = rolling.score(self.question, self.choices)
            self._spend([scored.tokens])
            return Evidence(start, end, scored.scores)
        told = self.told(rolling.answer(self.question))
        assert told.score is not None, "a reading that goes on knows how likely its words are"
        return Evidence(start, end, {told.text: told.score})

    def told(self, told: Told) -> Told:
        """The same, its cost counted."""
        self._spend([told.tokens])
        return told

    def captions(self, parts: Iterable[Part]) -> Iterator[TimedText]:
        """What happens in each part."""
        for some in together(parts):
            told = self.reader.caption([part.tokens for part in some])
            self._spend(each.tokens for each in told)
            for part, each in zip(some, told, strict=True):
                yield TimedText(part.start, part.end, each.text)

    def conclude(self, evidence: Sequence[Evidence]) -> LongAnswer:
        """The answer, with what was spent until now."""
        return conclude(evidence, self.how, self.tokens, self.readings)

    def _score(self, parts: Sequence[Part], past: str) -> list[Scored]:
        videos = [part.tokens for part in parts]
        if self.choices:
            scored = self.reader.score(self.question, videos, self.choices, past)
            self._spend(each.tokens for each in scored)
            return scored
        told = self.reader.answer(self.question, videos, past)
        self._spend(each.tokens for each in told)
        found: dict[int, Scored] = {}
        for text in dict.fromkeys(each.text for each in told):  # how likely what was said is
            rows = [i for i, each in enumerate(told) if each.text == text]
            scored = self.reader.score(self.question, [videos[i] for i in rows], [text], past)
            self._spend(each.tokens for each in scored)
            found.update(zip(rows, scored, strict=True))
        return [found[i] for i in range(len(parts))]

    def _spend(self, tokens: Iterable[int]) -> None:
        for each in tokens:
            self.tokens, self.readings = self.tokens + each, self.readings + 1


def together(items: Iterable[T]) -> Iterator[list[T]]:
    """As many at a time as are read side by side."""
    rest = iter(items)
    while some := list(islice(rest, SIDE_BY_SIDE)):
        yield some
