"""Readers: what answers about one part of a video, and what each reading took.

Strategies see a `Reader` alone, so that anything that can score texts will do. `ModelReader` is
the one that asks a language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from lm.completing import ROWS, chunks, complete
from lm.document import Item, Task, Text, Video
from lm.prompting import ask_of, opened
from lm.scoring import score_texts
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from lm.long.rolling import Room
    from lm.video_reader import VideoReader


@dataclass(frozen=True)
class Scored:
    """What one reading makes of texts that were given."""

    scores: dict[str, float]  # natural-log likelihood of each
    tokens: int  # read: the prompt once, and every text


@dataclass(frozen=True)
class Told:
    """What one reading says of its own accord."""

    text: str
    tokens: int  # read and written
    score: float | None = None  # natural-log likelihood of the text, where it is known


class Rolling(Protocol):
    """A reading of a long video that goes on; answers about what it has in mind."""

    tokens: int  # of video, read until now

    def read(self, block: VideoTokens) -> int:
        """Read the next block; gives the tokens it took."""
        ...

    def score(self, question: str, choices: Sequence[str]) -> Scored:
        """How likely each choice is as the answer."""
        ...

    def answer(self, question: str) -> Told:
        """The likeliest answer, with its likelihood."""
        ...

    def caption(self) -> Told:
        """What happens."""
        ...


class Reader(Protocol):
    """Answers about short clips of tokens."""

    def roll(self, first: VideoTokens, room: Room) -> Rolling:
        """Begin to read a long video with its first blocks."""
        ...

    def score(
        self, question: str, videos: Sequence[VideoTokens], choices: Sequence[str], past: str = ""
    ) -> list[Scored]:
        """How likely each choice is as the answer, clip by clip; `past`: what was before it."""
        ...

    def answer(self, question: str, videos: Sequence[VideoTokens], past: str = "") -> list[Told]:
        """The likeliest answer, clip by clip."""
        ...

    def caption(self, videos: Sequence[VideoTokens]) -> list[Told]:
        """What happens, clip by clip."""
        ...

    def features(self, tokens: VideoTokens) -> Tensor:
        """What a clip looks like, float32 (D,); D is one for all clips of one shape."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a text."""
        ...


class ModelReader:
    """A language model as a reader."""

    def __init__(self, model: VideoReader) -> None:
        self.model = model
        self._vectors = model.codec.code_vectors().float().cpu()

    def roll(self, first: VideoTokens, room: Room) -> Rolling:
        """See `Reader.roll`."""
        from lm.long.rolling_reader import ModelRolling

        return ModelRolling(self.model, first, room)

    def score(
        self, question: str, videos: Sequence[VideoTokens], choices: Sequence[str], past: str = ""
    ) -> list[Scored]:
        """See `Reader.score`."""
        prompts = [self._prompt(video, question, past) for video in videos]
        spelled = sum(self.count(text) + 1 for text in choices)
        found: list[Scored] = []
        for part in chunks(prompts, max(1, 4 * ROWS // len(choices))):
            scores, _ = score_texts(self.model.decoder, self.model.grammar, part, choices)
            for ids, row in zip(part, scores.tolist(), strict=True):
                found.append(Scored(dict(zip(choices, row, strict=True)), len(ids) + spelled))
        return found

    def answer(self, question: str, videos: Sequence[VideoTokens], past: str = "") -> list[Told]:
        """See `Reader.answer`."""
        return self._say([self._prompt(video, question, past) for video in videos])

    def caption(self, videos: Sequence[VideoTokens]) -> list[Told]:
        """See `Reader.caption`."""
        vocabulary = self.model.vocabulary
        return self._say(
            [opened(vocabulary, [Task("watch"), Video(v)], "<caption>") for v in videos]
        )

    def features(self, tokens: VideoTokens) -> Tensor:
        """Vectors of the tokens that speak for whole blocks; of all, where none do."""
        first = self.model.codec.summary or None
        return torch.cat([self._vectors[block[:first]].flatten() for block in tokens.codes])

    def count(self, text: str) -> int:
        """See `Reader.count`."""
        return len(self.model.vocabulary.encode_text(text))

    def _prompt(self, video: VideoTokens, question: str, past: str) -> list[int]:
        items: list[Item] = [Task("watch"), Video(video), ask_of(question)]
        if past:
            items.insert(1, Text("text", past))
        return opened(self.model.vocabulary, items, "<answer>")

    def _say(self, prompts: list[list[int]]) -> list[Told]:
        found: list[Told] = []
        for ids, item in zip(prompts, complete(self.model, prompts), strict=True):
            assert isinstance(item, Text)
            found.append(Told(item.text.strip(), len(ids) + self.count(item.text) + 1))
        return found
