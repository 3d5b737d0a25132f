"""A video header as a machine: what may come next in it, what it still costs, what it says.

The other half of `write_header` in sequence.py; grammar.py drives it between `<video>` and the
first `<block>`. Knows header tokens only.
"""

from __future__ import annotations

import math
from fractions import Fraction

from lm.formats import VideoFormat, counts_at
from lm.sequence import LIMITS
from lm.vocabulary import Vocabulary

SHORTEST = 11  # tokens of the shortest video in digits, after <video>: one frame, one code
_OPENS = {
    "<size>": "height",
    "<frames>": "frames",
    "<fps>": "fps",
    "<times>": "interval",
    "<tokens>": "tokens",
    "<rate>": "rate",
    "<start>": "start",
}
_AFTER_COMMA = {"height": "width", "fps": "den", "rate": "per"}  # other fields repeat


def body_cost(tokens_per_block: tuple[int, ...]) -> int:
    """Tokens of a video after its header, `</video>` included."""
    return sum(tokens_per_block) + len(tokens_per_block) + 1


def shortest_video(vocabulary: Vocabulary, own: bool = False) -> int:
    """Fewest tokens from after `<video>` to `</video>`; `own`: with a preset if there are any."""
    presets = [1 + body_cost(fmt.tokens_per_block) for fmt in vocabulary.presets]
    return min(presets) if own and presets else min([*presets, SHORTEST])


class Header:
    """A header being read.

    format: known once its fields are complete. start: milliseconds.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.format: VideoFormat | None = None
        self.start = 0
        self._zero = vocabulary.special("<0>")
        self._fields: dict[str, list[int]] = {}
        self._field, self._value = "", 0

    def copy(self) -> Header:
        """An independent header at the same point."""
        twin = Header(self.vocabulary)
        twin.format, twin.start = self.format, self.start
        twin._fields = {name: list(values) for name, values in self._fields.items()}
        twin._field, twin._value = self._field, self._value
        return twin

    @property
    def untouched(self) -> bool:
        """Whether nothing was read yet: presets may follow, or `<size>`, which comes last."""
        return not self._field and self.format is None

    def ids(self) -> list[int]:
        """Ids that may come next; `<block>` ends the header."""
        vocabulary = self.vocabulary
        if self.untouched:
            presets = range(vocabulary.preset_start, vocabulary.text_start)
            return [*presets, vocabulary.special("<size>")]
        if not self._field:
            return [vocabulary.special("<start>"), vocabulary.special("<block>")]
        lowest, limit = int(self._value == 0), self._limit
        digits = [self._zero + d for d in range(lowest, 10) if self._value * 10 + d <= limit]
        return digits + [vocabulary.special(name) for name in self._ends()]

    @property
    def _limit(self) -> int:
        """Largest value of the field at hand: at least one token a block."""
        most = LIMITS[self._field]
        return min(most, self._fields["rate"][0]) if self._field == "per" else most

    def _ends(self) -> list[str]:
        """Marks that may follow the number at hand."""
        name, fields = self._field, self._fields
        if not self._value:
            return []
        if name == "frames":
            return ["<tokens>"] if self._value == 1 else ["<fps>", "<times>"]
        if name == "interval":
            full = len(fields["interval"]) + 1 == fields["frames"][0] - 1
            return self._rates() if full else ["<,>"]
        if name == "tokens":
            count, blocks = len(fields["tokens"]) + 1, self._num_blocks()
            done = ["<start>", "<block>"] if count in (1, blocks) else []
            return [*done, *(["<,>"] if count < blocks else [])]
        if name in ("fps", "den"):
            return [*(["<,>"] if name == "fps" else []), *self._rates()]
        plain = {"height": ["<,>"], "width": ["<frames>"], "rate": ["<,>"], "start": ["<block>"]}
        return plain.get(name, ["<start>", "<block>"])

    def _rates(self) -> list[str]:
        """Marks that open the tokens of the blocks."""
        return ["<tokens>", "<rate>"] if self._num_blocks() > 1 else ["<tokens>"]

    def cost(self) -> int:
        """Fewest tokens from here to `</video>`."""
        name, digit = self._field, int(self._value == 0)
        if self.format is not None:
            return (digit if name == "start" else 0) + body_cost(self.format.tokens_per_block)
        if not name:
            return shortest_video(self.vocabulary)
        if name in ("height", "width"):  # then <,> width <frames> 1 <tokens> 1 and one code
            return digit + (9 if name == "height" else 7)
        if name == "frames":
            frames = max(self._value, 1)
            return digit + (4 if frames > 1 else 2) + 2 * self._blocks_of(frames) + 1
        blocks = self._num_blocks()
        if name in ("fps", "den"):
            return digit + 2 + 2 * blocks + 1
        if name == "interval":
            left = self._fields["frames"][0] - 2 - len(self._fields["interval"])
            return digit + 2 * left + 2 + 2 * blocks + 1
        if name in ("rate", "per"):
            return self._rate_cost(blocks)
        known = self._fields["tokens"]
        value, left = max(self._value, 1), blocks - len(known) - 1
        varied = digit + 2 * left + sum(known) + value + left + blocks + 1
        return varied if known else min(varied, digit + blocks * (1 + value) + 1)

    def _rate_cost(self, blocks: int) -> int:
        """`cost` within `<rate> tokens <,> blocks`: more blocks' worth may be worth a digit."""
        if self._field == "rate":
            rate, per, ahead = max(self._value, 1), 0, 1 + (self._value == 0)
        else:
            rate, per, ahead = self._fields["rate"][0], self._value, 0
        most, costs = min(rate, LIMITS["per"]), []
        for digits in range(int(per == 0), len(str(most)) + 1):
            if per * 10**digits <= most:
                largest = min(most, (per + 1) * 10**digits - 1)
                costs.append(ahead + digits + body_cost(counts_at(Fraction(rate, largest), blocks)))
        return min(costs)

    def cost_after(self, token: int) -> int:
        """`cost` once `token`, one of `ids()`, is taken; `<block>` counts as taken."""
        twin = self.copy()
        twin.take(token)
        return twin.cost() - (token == self.vocabulary.special("<block>"))

    def take(self, token: int) -> None:
        """Read the next token, one of `ids()`."""
        vocabulary = self.vocabulary
        if self._zero <= token < self._zero + 10:
            self._value = self._value * 10 + token - self._zero
            return
        if vocabulary.preset_start <= token < vocabulary.text_start:
            self.format = vocabulary.presets[token - vocabulary.preset_start]
            return
        name = vocabulary.name(token)
        if self._field:
            self._fields[self._field].append(self._value)
            if self._field == "start":
                self.start = self._value
            elif name in ("<start>", "<block>"):
                self.format = self._complete()
        if name == "<block>":
            self._field = ""
            return
        self._field = _AFTER_COMMA.get(self._field, self._field) if name == "<,>" else _OPENS[name]
        self._fields.setdefault(self._field, [])
        self._value = 0

    def _num_blocks(self) -> int:
        return self._blocks_of(self._fields["frames"][0])

    def _blocks_of(self, frames: int) -> int:
        return math.ceil(frames / self.vocabulary.block_frames)

    def _complete(self) -> VideoFormat:
        fields, blocks = self._fields, self._num_blocks()
        fps, counts = fields.get("fps"), fields.get("tokens", [])
        if "rate" in fields:
            counts = counts_at(Fraction(fields["rate"][0], fields["per"][0]), blocks)
        return VideoFormat(
            height=fields["height"][0],
            width=fields["width"][0],
            num_frames=fields["frames"][0],
            fps=Fraction(fps[0], fields.get("den", [1])[0]) if fps else None,
            intervals=tuple(fields.get("interval", [])),
            tokens_per_block=tuple(counts) if len(counts) == blocks else tuple(counts) * blocks,
        )
