"""The stream grammar as a machine: reads ids, says which may come next, and builds the document.

One machine for parsing and for masks, so the two cannot drift. It also knows how many tokens
each choice still costs, so a stream sampled under a budget always ends complete. Knows no model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch

from lm.document import Document, Item, Nothing, Task, Text, Time, Video
from lm.header import Header, shortest_video
from lm.pieces import NUM_BYTES
from lm.sequence import STRUCTURE, TEXT, VIDEO
from lm.times import TimeReader
from lm.vocabulary import ROLES, TASKS, Vocabulary
from tokenizer.tokens import VideoTokens

Ranges = tuple[tuple[int, int], ...]  # half-open id ranges


class Grammar:
    """Facts of one vocabulary that every state of the machine needs."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.ids = {name: vocabulary.special(name) for name in _NAMES}
        self.roles = {vocabulary.special(f"<{role}>"): role for role in ROLES}
        self.tasks = {vocabulary.special(f"<{task}>"): task for task in TASKS}
        self.shortest_video = {own: shortest_video(vocabulary, own) for own in (False, True)}
        self._masks: dict[Ranges, torch.Tensor] = {}

    def start(self) -> State:
        """A state before `<begin>`."""
        return State(self)

    def read(self, ids: Iterable[int]) -> Document:
        """The document a complete stream spells; padding after `<end>` is ignored.

        Raises:
            ValueError: the stream breaks the grammar or stops early.
        """
        state = self.start()
        pad = self.vocabulary.special("<pad>")
        for i in ids:
            if state.mode == "done" and i == pad:
                continue
            state.push(int(i))
        if state.mode != "done":
            raise ValueError("the stream stops before <end>: it was cut short")
        return Document(tuple(state.items))

    def mask(self, ranges: Ranges) -> torch.Tensor:
        """Bool (len(vocabulary),): true on the ids of the ranges. Shared: do not write to it."""
        mask = self._masks.get(ranges)
        if mask is None:
            mask = torch.zeros(len(self.vocabulary), dtype=torch.bool)
            for low, high in ranges:
                mask[low:high] = True
            self._masks[ranges] = mask
        return mask


_NAMES = "<begin> <end> <stop> <nothing> <at> <video> </video> <block>".split()
# Lead bytes of UTF-8 by how many bytes follow, and where the second byte is narrower than usual
_LEADS = ((0x00, 0x80, 0), (0xC2, 0xE0, 1), (0xE0, 0xF0, 2), (0xF0, 0xF5, 3))
_SECOND = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}


class State:
    """Where a stream stands. `mode` is one of begin, item, text, time, header, block, codes, done.

    items: the items completed so far. slot: codes of the block at hand that have come.
    own: what comes is the model's own, so that videos begin with a one-token header, whose size
    and length are known to be sane; where there is none, any header may be spelled.
    """

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.mode = "begin"
        self.items: list[Item] = []
        self.slot = 0
        self.own = False
        self._role = ""
        self._text: list[int] = []
        self._utf8: tuple[int, int, int] = (0, 0x80, 0xBF)  # bytes due, range of the next
        self._header = Header(grammar.vocabulary)
        self._time = TimeReader(grammar.vocabulary)
        self._codes: list[list[int]] = []

    def copy(self) -> State:
        """An independent state at the same point."""
        twin = copy.copy(self)
        twin.items = list(self.items)
        twin._text = list(self._text)
        twin._header = self._header.copy()
        twin._time = self._time.copy()
        twin._codes = [list(block) for block in self._codes]
        return twin

    @property
    def modality(self) -> int:
        """What kind of token comes next: STRUCTURE, TEXT or VIDEO."""
        return {"text": TEXT, "time": TEXT, "codes": VIDEO}.get(self.mode, STRUCTURE)

    @property
    def place(self) -> int:
        """The place in its block of the code that comes next; 0 where none does."""
        if self.mode != "codes":
            return 0
        return self.places(1)[0]

    def places(self, count: int) -> list[int]:
        """The places in their block of the codes that come next, `count` of them or what is left
        of the block; none where no code comes."""
        if self.mode != "codes":
            return []
        _, places = self._reading(self._blocks[len(self._codes) - 1])
        return places[self.slot : self.slot + count].tolist()

    def _reading(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        fmt = self._header.format
        assert fmt is not None
        return self.grammar.vocabulary.as_read(fmt.height, fmt.width, count)

    # What may come next

    def allowed(self, remaining: int | None = None, *, close: int = 1) -> Ranges:
        """Id ranges that may come next, in ascending order.

        Args:
            remaining: Tokens the stream may still take, this one included: choices after which
                the item at hand could not be completed are left out. None: no limit.
            close: Tokens to keep in reserve after the item, 1 for `<end>`, 0 if it is not wanted.
        """
        choices = self._choices()
        if remaining is not None:
            choices = [c for c in choices if c[2] + close <= remaining - 1]
        return tuple(sorted((low, high) for low, high, _ in choices))

    def cost(self) -> int:
        """Fewest tokens that complete the item at hand; 0 between items."""
        if self.mode == "text":
            return self._utf8[0] + 1
        if self.mode == "time":
            return self._time.cost()
        if self.mode == "header":
            fresh = self._header.untouched
            return self.grammar.shortest_video[self.own] if fresh else self._header.cost()
        if self.mode not in ("codes", "block"):
            return 0
        blocks, inside = self._blocks, self.mode == "codes"
        done = len(self._codes) - inside
        left = sum(blocks[done:]) + len(blocks) - done + 1
        return left - (self.slot + 1 if inside else 0)

    @property
    def _blocks(self) -> tuple[int, ...]:
        assert self._header.format is not None
        return self._header.format.tokens_per_block

    def _choices(self) -> list[tuple[int, int, int]]:
        """(low, high, fewest tokens that then complete the item) of each choice."""
        grammar, ids = self.grammar, self.grammar.ids

        def one(token: int, cost: int) -> tuple[int, int, int]:
            return token, token + 1, cost

        if self.mode == "text":
            return self._text_choices()
        if self.mode == "codes":
            vocabulary = grammar.vocabulary
            return [(vocabulary.video_start, len(vocabulary), self.cost() - 1)]
        if self.mode == "block":
            ended = len(self._codes) == len(self._blocks)
            return [one(ids["</video>"] if ended else ids["<block>"], self.cost() - 1)]
        if self.mode in ("header", "time"):
            reader = self._header if self.mode == "header" else self._time
            chosen = reader.ids()
            if self.own and self._header.untouched and self.mode == "header":
                chosen = chosen[:-1] or chosen
            return [one(token, reader.cost_after(token)) for token in chosen]
        if self.mode == "begin":
            return [one(ids["<begin>"], 0)]
        if self.mode == "done":
            return []
        tasks = [] if self.items else [one(task, 0) for task in grammar.tasks]
        texts = [one(role, 1) for role in grammar.roles]
        video, time = one(ids["<video>"], grammar.shortest_video[self.own]), one(ids["<at>"], 2)
        return [*tasks, *texts, time, video, one(ids["<nothing>"], 0), one(ids["<end>"], -1)]

    def _text_choices(self) -> list[tuple[int, int, int]]:
        base = self.grammar.vocabulary.text_start
        due, low, high = self._utf8
        if due:
            return [(base + low, base + high + 1, due)]
        stop = self.grammar.ids["<stop>"]
        if not self.grammar.vocabulary.pieces.bytes_first:
            return [(stop, stop + 1, 0), (base, self.grammar.vocabulary.video_start, 1)]
        leads = [(base + a, base + b, 1 + due) for a, b, due in _LEADS]
        pieces = (base + NUM_BYTES, self.grammar.vocabulary.video_start, 1)
        return [(stop, stop + 1, 0), *leads, *([pieces] if pieces[0] < pieces[1] else [])]

    # Taking a token

    def push(self, token: int) -> None:
        """Take the next token.

        Raises:
            ValueError: the grammar does not allow it here.
        """
        if not any(low <= token < high for low, high in self.allowed()):
            name = self.grammar.vocabulary.name(token)
            raise ValueError(f"{name} cannot follow here (in {self.mode}): the stream is broken")
        self.take(token)

    def take(self, token: int) -> None:
        """`push` without the check, for tokens drawn from `allowed`."""
        ids = self.grammar.ids
        if self.mode == "codes":
            self._take_code(token)
        elif self.mode == "text":
            self._take_text(token)
        elif self.mode == "time":
            self._take_time(token)
        elif self.mode in ("header", "block"):
            self._take_mark(token)
        elif self.mode == "begin":
            self.mode = "item"
        elif token == ids["<end>"]:
            self.mode = "done"
        elif token == ids["<nothing>"]:
            self.items.append(Nothing())
        elif token in self.grammar.tasks:
            self.items.append(Task(self.grammar.tasks[token]))
        elif token == ids["<at>"]:
            self.mode, self._time = "time", TimeReader(self.grammar.vocabulary)
        elif token == ids["<video>"]:
            self.mode, self._codes = "header", []
            self._header = Header(self.grammar.vocabulary)
        else:
            self.mode, self._role, self._text = "text", self.grammar.roles[token], []

    def _take_text(self, token: int) -> None:
        if token == self.grammar.ids["<stop>"]:
            text = self.grammar.vocabulary.decode_text(self._text)
            self.items.append(Text(self._role, text))
            self.mode = "item"
            return
        self._text.append(token)
        due, value = self._utf8[0], token - self.grammar.vocabulary.text_start
        if due:
            self._utf8 = (due - 1, 0x80, 0xBF)
        elif self.grammar.vocabulary.pieces.bytes_first and 0xC2 <= value <= 0xF4:
            count = 1 + (value >= 0xE0) + (value >= 0xF0)
            self._utf8 = (count, *_SECOND.get(value, (0x80, 0xBF)))

    def _take_time(self, token: int) -> None:
        time = self._time
        time.take(token)
        if token == self.grammar.ids["<stop>"]:
            start, length = time.start, time.length
            end = None if length is None else (start + length) / 1000
            self.items.append(Time(start / 1000, end))
            self.mode = "item"

    def _take_code(self, token: int) -> None:
        self._codes[-1].append(token - self.grammar.vocabulary.video_start)
        self.slot += 1
        if self.slot == self._blocks[len(self._codes) - 1]:
            self.mode, self.slot = "block", 0

    def _take_mark(self, token: int) -> None:
        """A token of the header, or one that opens a block or ends the video."""
        if self.mode == "header":
            self._header.take(token)
        if token == self.grammar.ids["<block>"]:
            self._codes.append([])
            self.mode, self.slot = "codes", 0
        elif token == self.grammar.ids["</video>"]:
            self.items.append(Video(self._tokens()))
            self.mode = "item"

    def _tokens(self) -> VideoTokens:
        vocabulary, fmt = self.grammar.vocabulary, self._header.format
        assert fmt is not None
        codes = []
        for block in self._codes:
            order, _ = self._reading(len(block))
            codes.append(torch.empty_like(order).scatter_(0, order, torch.tensor(block)))
        return VideoTokens(
            codes=tuple(codes),
            timestamps=fmt.timestamps(self._header.start),
            height=fmt.height,
            width=fmt.width,
            block_frames=vocabulary.block_frames,
            codebook_size=vocabulary.codebook_size,
            codec_id=vocabulary.codec_id,
        )
