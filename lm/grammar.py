"""The stream grammar as a machine: reads ids, says which may come next, and builds the document.

One machine for parsing and for masks, so the two cannot drift. It also knows how many tokens
each choice still costs, so a stream sampled under a budget always ends complete. Knows no model.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from fractions import Fraction

import torch

from lm.document import Document, Item, Nothing, Text, Video
from lm.formats import VideoFormat
from lm.sequence import LIMITS, STRUCTURE, TEXT, VIDEO
from lm.vocabulary import ROLES, Vocabulary
from tokenizer.tokens import VideoTokens

Ranges = tuple[tuple[int, int], ...]  # half-open id ranges


class Grammar:
    """Facts of one vocabulary that every state of the machine needs."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.ids = {name: vocabulary.special(name) for name in _NAMES}
        self.zero = vocabulary.special("<0>")
        self.roles = {vocabulary.special(f"<{role}>"): role for role in ROLES}
        self.preset_costs = [_body_cost(fmt.tokens_per_block) for fmt in vocabulary.presets]
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


_NAMES = (
    "<begin> <end> <stop> <nothing> <video> </video> <block> <size> <frames> <fps> <times> "
    "<tokens> <start> <,>"
).split()


class State:
    """Where a stream stands. `mode` is one of begin, item, text, header, field, block, codes, done.

    items: the items completed so far. slot: index in its block of the code that comes next.
    """

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.mode = "begin"
        self.items: list[Item] = []
        self.slot = 0
        self._role = ""
        self._text: list[int] = []
        self._utf8: tuple[int, int, int] = (0, 0x80, 0xBF)  # bytes due, range of the next
        self._header: dict[str, list[int]] = {}
        self._field, self._value = "", 0
        self._format: VideoFormat | None = None
        self._start = 0
        self._codes: list[list[int]] = []

    def copy(self) -> State:
        """An independent state at the same point."""
        twin = copy.copy(self)
        twin.items = list(self.items)
        twin._text = list(self._text)
        twin._header = {name: list(values) for name, values in self._header.items()}
        twin._codes = [list(block) for block in self._codes]
        return twin

    @property
    def modality(self) -> int:
        """What kind of token comes next: STRUCTURE, TEXT or VIDEO."""
        return {"text": TEXT, "codes": VIDEO}.get(self.mode, STRUCTURE)

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
        if self.mode == "codes" or self.mode == "block":
            assert self._format is not None
            blocks = self._format.tokens_per_block
            done = len(self._codes) - (self.mode == "codes")
            left = sum(blocks[done:]) + len(blocks) - done + 1
            return left - (self.slot + 1 if self.mode == "codes" else 0)
        if self.mode == "header":
            if self._format is not None:
                return _body_cost(self._format.tokens_per_block)
            return min([1 + cost for cost in self.grammar.preset_costs] + [11])
        if self.mode == "field":
            return self._field_cost()
        return 0

    def _choices(self) -> list[tuple[int, int, int]]:
        """(low, high, fewest tokens that then complete the item) of each choice."""
        ids = self.grammar.ids
        if self.mode == "text":
            return self._text_choices()
        if self.mode == "codes":
            return [
                (self.grammar.vocabulary.video_start, len(self.grammar.vocabulary), self.cost() - 1)
            ]
        if self.mode == "block":
            assert self._format is not None
            ended = len(self._codes) == len(self._format.tokens_per_block)
            token = ids["</video>"] if ended else ids["<block>"]
            return [(token, token + 1, self.cost() - 1)]
        if self.mode == "begin":
            return [(ids["<begin>"], ids["<begin>"] + 1, 0)]
        if self.mode == "item":
            fresh = min([1 + cost for cost in self.grammar.preset_costs] + [11])
            roles = [(role, role + 1, 1) for role in self.grammar.roles]
            video = (ids["<video>"], ids["<video>"] + 1, fresh)
            nothing = (ids["<nothing>"], ids["<nothing>"] + 1, 0)
            return [*roles, video, nothing, (ids["<end>"], ids["<end>"] + 1, -1)]
        if self.mode == "done":
            return []
        return [(i, i + 1, self._after(i)) for i in self._header_ids()]

    def _after(self, token: int) -> int:
        twin = self.copy()
        twin.take(token)
        return twin.cost()

    def _text_choices(self) -> list[tuple[int, int, int]]:
        base = self.grammar.vocabulary.text_start
        due, low, high = self._utf8
        if due:
            return [(base + low, base + high + 1, due)]
        stop = self.grammar.ids["<stop>"]
        leads = [(base + a, base + b, 1 + due) for a, b, due in _LEADS]
        pieces = (base + 256, self.grammar.vocabulary.video_start, 1)
        return [(stop, stop + 1, 0), *leads, *([pieces] if pieces[0] < pieces[1] else [])]

    def _header_ids(self) -> list[int]:
        """Single ids that may come next inside a header."""
        ids, vocabulary = self.grammar.ids, self.grammar.vocabulary
        if self.mode == "header" and self._format is None:
            return [*range(vocabulary.preset_start, vocabulary.text_start), ids["<size>"]]
        if self.mode == "header":
            return [ids["<start>"], ids["<block>"]]
        lowest = 1 if self._value == 0 else 0
        digits = [
            self.grammar.zero + d
            for d in range(lowest, 10)
            if self._value * 10 + d <= LIMITS[self._field]
        ]
        return digits + ([ids[name] for name in self._ends()] if self._value else [])

    def _ends(self) -> list[str]:
        """Marks that may follow the number at hand."""
        name, header = self._field, self._header
        if name == "height":
            return ["<,>"]
        if name == "width":
            return ["<frames>"]
        if name == "frames":
            return ["<tokens>"] if self._value == 1 else ["<fps>", "<times>"]
        if name in ("fps", "den"):
            return ["<,>", "<tokens>"] if name == "fps" else ["<tokens>"]
        if name == "interval":
            full = len(header["interval"]) + 1 == header["frames"][0] - 1
            return ["<tokens>"] if full else ["<,>"]
        if name == "tokens":
            count, blocks = len(header["tokens"]) + 1, self._num_blocks()
            done = ["<start>", "<block>"] if count in (1, blocks) else []
            return [*done, *(["<,>"] if count < blocks else [])]
        return ["<block>"]  # start

    # Costs inside a header written in digits

    def _num_blocks(self) -> int:
        frames = self._header["frames"][0]
        return math.ceil(frames / self.grammar.vocabulary.block_frames)

    def _field_cost(self) -> int:
        name, digit = self._field, int(self._value == 0)
        if name in ("height", "width"):
            return digit + (4 if name == "height" else 2) + 5
        if name == "frames":
            frames = max(self._value, 1)
            blocks = math.ceil(frames / self.grammar.vocabulary.block_frames)
            return digit + (2 if frames > 1 else 0) + 2 + 2 * blocks + 1
        if name == "start":
            assert self._format is not None
            return digit + _body_cost(self._format.tokens_per_block)
        blocks = self._num_blocks()
        if name in ("fps", "den"):
            return digit + 2 + 2 * blocks + 1
        if name == "interval":
            left = self._header["frames"][0] - 2 - len(self._header["interval"])
            return digit + 2 * left + 2 + 2 * blocks + 1
        known = self._header["tokens"]
        value, left = max(self._value, 1), blocks - len(known) - 1
        varied = digit + 2 * left + sum(known) + value + left + blocks + 1
        return varied if known else min(varied, digit + blocks * (1 + value) + 1)

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
            self._push_code(token)
        elif self.mode == "text":
            self._push_text(token)
        elif self.mode == "block":
            self._push_mark(token)
        elif self.mode in ("header", "field"):
            self._push_header(token)
        elif self.mode == "begin":
            self.mode = "item"
        elif token == ids["<end>"]:
            self.mode = "done"
        elif token == ids["<nothing>"]:
            self.items.append(Nothing())
        elif token == ids["<video>"]:
            self.mode, self._format, self._start = "header", None, 0
            self._header, self._codes = {}, []
        else:
            self.mode, self._role, self._text = "text", self.grammar.roles[token], []

    def _push_text(self, token: int) -> None:
        if token == self.grammar.ids["<stop>"]:
            text = self.grammar.vocabulary.decode_text(self._text)
            self.items.append(Text(self._role, text))
            self.mode = "item"
            return
        self._text.append(token)
        due, value = self._utf8[0], token - self.grammar.vocabulary.text_start
        if due:
            self._utf8 = (due - 1, 0x80, 0xBF)
        elif 0xC2 <= value <= 0xF4:
            count = 1 + (value >= 0xE0) + (value >= 0xF0)
            self._utf8 = (count, *_SECOND.get(value, (0x80, 0xBF)))

    def _push_code(self, token: int) -> None:
        assert self._format is not None
        self._codes[-1].append(token - self.grammar.vocabulary.video_start)
        self.slot += 1
        if self.slot == self._format.tokens_per_block[len(self._codes) - 1]:
            self.mode, self.slot = "block", 0

    def _push_mark(self, token: int) -> None:
        if token == self.grammar.ids["<block>"]:
            self._codes.append([])
            self.mode, self.slot = "codes", 0
            return
        assert self._format is not None
        vocabulary = self.grammar.vocabulary
        tokens = VideoTokens(
            codes=tuple(torch.tensor(block) for block in self._codes),
            timestamps=self._format.timestamps(self._start),
            height=self._format.height,
            width=self._format.width,
            block_frames=vocabulary.block_frames,
            codebook_size=vocabulary.codebook_size,
            codec_id=vocabulary.codec_id,
        )
        self.items.append(Video(tokens))
        self.mode = "item"

    def _push_header(self, token: int) -> None:
        grammar = self.grammar
        vocabulary, ids = grammar.vocabulary, grammar.ids
        if grammar.zero <= token < grammar.zero + 10:
            self._value = self._value * 10 + token - grammar.zero
            return
        if self.mode == "field":
            self._finish_field(token)
        elif vocabulary.preset_start <= token < vocabulary.text_start:
            self._format = vocabulary.presets[token - vocabulary.preset_start]
            return
        if token == ids["<block>"]:
            self._push_mark(token)
        elif token == ids["<,>"]:
            self._open({"height": "width", "fps": "den"}.get(self._field, self._field))
        else:
            self._open(_OPENS[vocabulary.name(token)])

    def _open(self, field: str) -> None:
        self.mode, self._field, self._value = "field", field, 0
        self._header.setdefault(field, [])

    def _finish_field(self, token: int) -> None:
        self._header[self._field].append(self._value)
        if self._field == "start":
            self._start = self._value
        ends = token in (self.grammar.ids["<start>"], self.grammar.ids["<block>"])
        if self._field == "tokens" and ends:
            self._format = _format_of(self._header, self._num_blocks())


def _format_of(header: dict[str, list[int]], num_blocks: int) -> VideoFormat:
    fps = header.get("fps")
    counts = header["tokens"]
    return VideoFormat(
        height=header["height"][0],
        width=header["width"][0],
        num_frames=header["frames"][0],
        fps=Fraction(fps[0], header.get("den", [1])[0]) if fps else None,
        intervals=tuple(header.get("interval", [])),
        tokens_per_block=tuple(counts if len(counts) == num_blocks else counts * num_blocks),
    )


def _body_cost(tokens_per_block: tuple[int, ...]) -> int:
    return sum(tokens_per_block) + len(tokens_per_block) + 1


_OPENS = {
    "<size>": "height",
    "<frames>": "frames",
    "<fps>": "fps",
    "<times>": "interval",
    "<tokens>": "tokens",
    "<start>": "start",
}
# Lead bytes of UTF-8 by how many bytes follow, and where the second byte is narrower than usual
_LEADS = ((0x00, 0x80, 0), (0xC2, 0xE0, 1), (0xE0, 0xF0, 2), (0xF0, 0xF5, 3))
_SECOND = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}
