"""`ModelRolling`: a language model's reading of a video that goes on, block by block.

Stream and positions are those of a clip as long as in training, however long the video is: the
header stays in front, the last blocks or a memory of those before stand behind it. Questions are
read on a copy, so that the video goes on as if none had been asked. Knows prompts and caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lm.cache import Cache
from lm.completing import MAX_TEXT
from lm.document import Item, Task, Text, Video
from lm.grammar import State
from lm.long.reader import Scored, Told
from lm.long.rolling import Room
from lm.long.rolling_cache import RollingCache
from lm.prompting import ask_of
from lm.scoring import score_next
from lm.sequence import Span, join, video_span, write_item
from lm.step import Step
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from lm.video_reader import VideoReader

SHORTER = "give long=window=FRAMES with fewer frames, or long=chunks"


class ModelRolling:
    """See `Rolling`; the network computes in torch whatever the model's engine.

    Args:
        model: What reads.
        first: Blocks to begin with.
        room: What to hold.

    Raises:
        ValueError: room that the model's context has not, or positions in seconds.
    """

    def __init__(self, model: VideoReader, first: VideoTokens, room: Room) -> None:
        self.model, self.room = model, room
        vocabulary, context = model.vocabulary, model.decoder.config.context
        if model.decoder.places is not None:
            raise ValueError("positions in seconds do not roll: give long=chunks or keyframes")
        items = Task("watch"), Video(self._kept(first))
        opening = join([write_item(item, vocabulary) for item in items], vocabulary, end=False)
        ids, slots = opening.ids[:-1], opening.slots[:-1]  # `</video>` is read with each question
        self._close = int(opening.ids[-1])
        self._sink = int((ids == vocabulary.special("<block>")).nonzero()[0])
        capacity = self._sink + room.tokens
        if capacity + 2 > context:
            raise ValueError(
                f"{capacity} tokens of video, with the shortest text {capacity + 2 - context} more "
                f"than the context of {context}: {SHORTER}"
            )
        self._cache = RollingCache(model.decoder, max(capacity, len(ids)))
        self._whole: list[int] = []  # lengths of the blocks that are held whole
        self._step: Step | None = None
        text = range(vocabulary.text_start, vocabulary.video_start)
        self._texts = torch.tensor([vocabulary.special("<stop>"), *text])  # what a text is made of
        self._take(ids, slots)
        self._whole = [len(codes) + 1 for codes in self._kept(first).codes]
        self.tokens = len(ids)

    def read(self, block: VideoTokens) -> int:
        """See `Rolling.read`."""
        span = self._spelled(self._kept(block))
        length, room = len(span.ids), self.room
        held = self._cache.length - self._sink
        if len(self._whole) == room.first or held + length > room.tokens:
            stay = self._whole[len(self._whole) - (room.blocks - 1) :]
            before = held - sum(stay)
            self._cache.shorten(self._sink, before, min(before, room.memory))
            self._whole = stay
        self._take(torch.from_numpy(span.ids), torch.from_numpy(span.slots))
        self._whole.append(length)
        self.tokens += length
        return length

    def score(self, question: str, choices: Sequence[str]) -> Scored:
        """See `Rolling.score`."""
        spelled = [len(self.model.vocabulary.encode_text(text)) + 1 for text in choices]
        begun = self._begun("<answer>", ask_of(question))
        read, cache, hidden = self._asked(begun, max(spelled))
        decoder, vocabulary = self.model.decoder, self.model.vocabulary
        scores, _ = score_next(decoder, vocabulary, cache, hidden, choices)
        return Scored(dict(zip(choices, scores[0].tolist(), strict=True)), read + sum(spelled))

    def answer(self, question: str) -> Told:
        """See `Rolling.answer`."""
        return self._say("<answer>", ask_of(question))

    def caption(self) -> Told:
        """See `Rolling.caption`."""
        return self._say("<caption>")

    def _kept(self, tokens: VideoTokens) -> VideoTokens:
        return tokens.keep(self.room.block_tokens)

    def _spelled(self, block: VideoTokens) -> Span:
        """A block's mark and codes."""
        span = video_span(block, self.model.vocabulary)
        part = slice(-2 - len(block.codes[0]), -1)  # its header stands before, `</video>` after
        return Span(span.ids[part], span.modality[part], span.slots[part])

    @torch.inference_mode()
    def _take(self, ids: Tensor, slots: Tensor) -> None:
        device = self._cache.keys.device
        self.model.decoder(ids[None].to(device), slots=slots[None].to(device), cache=self._cache)

    @torch.inference_mode()
    def _asked(self, begun: list[int], room: int) -> tuple[int, Cache, Tensor]:
        """Tokens read, a cache with room for more, and the last state (1, D) after a mark."""
        ids = [self._close, *begun[2:]]
        context, needed = self.model.decoder.config.context, self._cache.length + len(ids) + room
        if needed > context:
            raise ValueError(
                f"video, question and answer take {needed} tokens, {needed - context} more than "
                f"the context of {context}: shorten the text, or {SHORTER}"
            )
        cache = self._cache.copies(1, len(ids) + room)
        read = torch.tensor([ids], device=self._cache.keys.device)
        hidden = self.model.decoder(read, slots=torch.zeros_like(read), cache=cache)
        return len(ids), cache, hidden[:, -1]

    def _begun(self, mark: str, *asked: Item) -> list[int]:
        """The stream without its video: <begin>, <watch>, what is asked and the mark."""
        vocabulary = self.model.vocabulary
        spans = [write_item(item, vocabulary) for item in (Task("watch"), *asked)]
        ids = join(spans, vocabulary, end=False).ids.tolist()
        return [*ids, vocabulary.special(mark)]

    @torch.inference_mode()
    def _say(self, mark: str, *asked: Item) -> Told:
        """The likeliest words, as `lm.completing.complete` finds them."""
        begun = self._begun(mark, *asked)
        state: State = self.model.grammar.start()
        for token in begun:
            state.take(token)
        left = self.model.decoder.config.context - self._cache.length - len(begun) + 1
        limit = max(1, min(MAX_TEXT, left))
        read, cache, hidden = self._asked(begun, limit)
        grammar, step = self.model.grammar, self._step or Step(self.model.decoder)
        self._step, score = step, 0.0
        for left in range(limit, 0, -1):
            ranges = state.allowed(left, close=0)
            scores = step.scores(hidden, 0, grammar.vocabulary.video_start)[0].float()
            may = grammar.mask(ranges)[: len(scores)].to(scores.device)
            token = int(scores.masked_fill(~may, -torch.inf).argmax())
            score += float(scores[token] - scores[self._texts.to(scores.device)].logsumexp(0))
            state.take(token)
            if state.mode != "text":
                break
            place = torch.tensor([0], device=hidden.device)
            hidden = step.read(torch.full_like(place, token), place, cache)
        said = state.items[-1]
        assert isinstance(said, Text), "an answer is a text"
        spelled = len(grammar.vocabulary.encode_text(said.text))
        return Told(said.text.strip(), read + spelled + 1, score)
