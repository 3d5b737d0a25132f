"""`Sequence`: a document spelled as ids, with what training and attention need per token.

    stream   = <begin> [<watch> | <film> | <fill> | <talk>] item* <end>
    item     = (<caption> | <question> | <answer> | <label> | <event> | <text>) pieces* <stop>
             | <at> seconds [<for> seconds] <stop>
             | <nothing>
             | <video> header (<block> code+)+ </video>
    header   = (<preset n> | size frames [times] tokens) [start]
    size     = <size> height <,> width          frames = <frames> n
    times    = <fps> frames [<,> seconds] | <times> ms (<,> ms)*
    tokens   = <tokens> n (<,> n)* | <rate> tokens <,> blocks
    start    = <start> ms                       seconds = digits [<.> digits]
    (numbers are digit tokens, no leading zero; a block's codes stand as `BlockLayout.as_read`
    has them: the summary, then the places that were kept, in raster order; a still is a video of
    one frame, its time the header's start; at a <rate> block b has the growth of the running total
    tokens * b / blocks, rounded down)

`GRAMMAR_VERSION` in vocabulary.py names this grammar; grammar.py is the machine that reads it
and says what may come next. This module writes. It knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as List
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lm.document import Document, Item, Nothing, Task, Text, Time
from lm.formats import VideoFormat
from lm.times import spell_time
from lm.vocabulary import ROLES, TASKS, Vocabulary
from tokenizer.tokens import VideoTokens

STRUCTURE, TEXT, VIDEO = 0, 1, 2  # modality of a token; `<stop>` and times count as text
LIMITS = {
    "height": 99_999,
    "width": 99_999,
    "frames": 999_999,
    "fps": 999_999,
    "den": 9_999,
    "interval": 9_999_999,
    "tokens": 99_999,
    "rate": 999_999,
    "per": 99_999,
    "start": 99_999_999_999,
}  # largest number each header field may hold


@dataclass(frozen=True)
class Sequence:
    """Token ids and their companions, all of one length L."""

    ids: Tensor  # (L,) int64
    weights: Tensor  # (L,) float32: of the loss on predicting this token; 0 = read only
    segments: Tensor  # (L,) int64: which tokens see each other, as in segments.py
    positions: Tensor  # (L,) int64, from 0 in each document; branches go on from the trunk
    modality: Tensor  # (L,) uint8: STRUCTURE, TEXT or VIDEO
    slots: Tensor  # (L,) int64: the place of a code in its block; 0 elsewhere
    inputs: Tensor | None = None  # (L,) int64: read in place of `ids`, which are still predicted

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Span:
    """One item's ids, ready to be joined with others."""

    ids: np.ndarray  # (n,) int64
    modality: np.ndarray  # (n,) uint8
    slots: np.ndarray  # (n,) int64


def write(
    document: Document, vocabulary: Vocabulary, weights: List[float] | None = None
) -> Sequence:
    """Spell a document.

    Args:
        document: What to write.
        vocabulary: Its id space.
        weights: Loss weight of each item (default 1 each).

    Raises:
        ValueError: a video of another codec, numbers beyond what a header holds, or a task that
            does not stand first.
    """
    if any(isinstance(item, Task) for item in document.items[1:]):
        raise ValueError("a task stands first in a document or not at all")
    return join(
        [write_item(item, vocabulary) for item in document.items], vocabulary, weights, end=True
    )


def write_item(item: Item, vocabulary: Vocabulary) -> Span:
    """Spell one item."""
    if isinstance(item, Text):
        return text_span(item.role, vocabulary.encode_text(item.text), vocabulary)
    if isinstance(item, Nothing):
        return _structure([vocabulary.special("<nothing>")])
    if isinstance(item, Task):
        return _structure([vocabulary.special(f"<{item.name}>")])
    if isinstance(item, Time):
        mark, *digits = (vocabulary.special(name) for name in spell_time(*item.milliseconds))
        return _said(mark, digits)
    return video_span(item.tokens, vocabulary)


def text_span(role: str, pieces: List[int], vocabulary: Vocabulary) -> Span:
    """A text whose pieces are already vocabulary ids."""
    return _said(vocabulary.special(f"<{role}>"), [*pieces, vocabulary.special("<stop>")])


def _said(mark: int, ids: List[int]) -> Span:
    modality = np.full(len(ids) + 1, TEXT, np.uint8)
    modality[0] = STRUCTURE
    return Span(np.array([mark, *ids]), modality, np.zeros(len(modality), np.int64))


def video_span(tokens: VideoTokens, vocabulary: Vocabulary) -> Span:
    """A video with its header."""
    check_codec(tokens, vocabulary)
    fmt, start = VideoFormat.of(tokens)
    head = [vocabulary.special("<video>"), *write_header(fmt, start, vocabulary)]
    block, close = vocabulary.special("<block>"), vocabulary.special("</video>")
    ids, slots = [np.array(head)], [np.zeros(len(head), np.int64)]
    modality = [np.full(len(head), STRUCTURE, np.uint8)]
    for codes in tokens.codes:
        order, places = vocabulary.as_read(tokens.height, tokens.width, len(codes))
        ids.append(np.concatenate([[block], codes[order].numpy() + vocabulary.video_start]))
        slots.append(np.concatenate([[0], places.numpy()]))
        modality.append(np.full(len(codes) + 1, VIDEO, np.uint8))
        modality[-1][0] = STRUCTURE
    ids.append(np.array([close]))
    return Span(
        np.concatenate(ids),
        np.concatenate([*modality, np.zeros(1, np.uint8)]),
        np.concatenate([*slots, np.zeros(1, np.int64)]),
    )


def check_codec(tokens: VideoTokens, vocabulary: Vocabulary) -> None:
    """Raise ValueError unless the codes belong to the vocabulary's codec."""
    ours = (vocabulary.codec_id, vocabulary.codebook_size, vocabulary.block_frames)
    theirs = (tokens.codec_id, tokens.codebook_size, tokens.block_frames)
    if theirs != ours:
        raise ValueError(
            f"tokens of codec {theirs[0]!r} ({theirs[1]} codes, {theirs[2]} frames a block), the "
            f"model reads {ours[0]!r} ({ours[1]}, {ours[2]}): encode with the model's codec"
        )


def write_header(fmt: VideoFormat, start_ms: int, vocabulary: Vocabulary) -> list[int]:
    """Ids of a video header: a preset token where the format has one, digits otherwise."""
    preset = vocabulary.preset(fmt)
    names = spell_header(fmt, start_ms, preset is not None)
    return ([] if preset is None else [preset]) + [vocabulary.special(name) for name in names]


def spell_header(fmt: VideoFormat, start_ms: int, preset: bool) -> list[str]:
    """Names of a video header's special tokens, all but the preset where the format has one.

    Raises:
        ValueError: a number beyond what a header holds.
    """
    names = [] if preset else list(_spell_format(fmt))
    return names + (_spell_number("<start>", "start", start_ms) if start_ms else [])


def _spell_format(fmt: VideoFormat) -> Iterable[str]:
    yield from _spell_number("<size>", "height", fmt.height)
    yield from _spell_number("<,>", "width", fmt.width)
    yield from _spell_number("<frames>", "frames", fmt.num_frames)
    if fmt.fps is not None:
        yield from _spell_number("<fps>", "fps", fmt.fps.numerator)
        if fmt.fps.denominator != 1:
            yield from _spell_number("<,>", "den", fmt.fps.denominator)
    for i, interval in enumerate(fmt.intervals):
        yield from _spell_number("<,>" if i else "<times>", "interval", interval)
    yield from _spell_counts(fmt)


def _spell_counts(fmt: VideoFormat) -> List[str]:
    counts = fmt.tokens_per_block
    if len(set(counts)) == 1:
        return _spell_number("<tokens>", "tokens", counts[0])
    each = [_spell_number("<,>" if i else "<tokens>", "tokens", n) for i, n in enumerate(counts)]
    listed = [name for names in each for name in names]
    rate = fmt.block_rate
    if rate is None or rate.numerator > LIMITS["rate"] or rate.denominator > LIMITS["per"]:
        return listed
    numbers = ("<rate>", "rate", rate.numerator), ("<,>", "per", rate.denominator)
    short = [name for number in numbers for name in _spell_number(*number)]
    return min(listed, short, key=len)


def _spell_number(mark: str, field: str, value: int) -> list[str]:
    if not 1 <= value <= LIMITS[field]:
        raise ValueError(f"video {field} {value}: a header holds 1 to {LIMITS[field]}")
    return [mark, *(f"<{digit}>" for digit in str(value))]


def _structure(ids: List[int]) -> Span:
    n = len(ids)
    return Span(np.array(ids), np.zeros(n, np.uint8), np.zeros(n, np.int64))


def join(
    spans: List[Span],
    vocabulary: Vocabulary,
    weights: List[float] | None = None,
    *,
    end: bool,
    branches: List[int] | None = None,
) -> Sequence:
    """One document from its spelled items.

    Args:
        spans: The items.
        vocabulary: Their id space.
        weights: Loss weight of each item (default 1 each).
        end: Close the document; otherwise it stays open, as a prompt.
        branches: Branch of each item, 0 (the trunk) first, then 1, 2, ...; default all 0.
    """
    weights = [1.0] * len(spans) if weights is None else weights
    begin = _structure([vocabulary.special("<begin>")])
    close = [_structure([vocabulary.special("<end>")])] if end else []
    parts = [begin, *spans, *close]
    ids = np.concatenate([part.ids for part in parts])
    values = np.repeat(
        np.array([0.0, *weights, *([1.0] if end else [])], np.float32),
        [len(part.ids) for part in parts],
    )
    positions, segments = np.arange(len(ids)), np.zeros(len(ids), np.int64)
    if branches is not None:
        own = [0, *branches, *([branches[-1]] if end else [])]
        segments = np.repeat(np.array(own), [len(part.ids) for part in parts])
        starts = np.flatnonzero(np.diff(segments)) + 1
        for start in starts:
            positions[segments == segments[start]] -= start - starts[0]
        values[starts[1:]] = 0.0  # what stands before in the row is not what they follow
    return Sequence(
        ids=torch.from_numpy(ids),
        weights=torch.from_numpy(values),
        segments=torch.from_numpy(segments),
        positions=torch.from_numpy(positions),
        modality=torch.from_numpy(np.concatenate([part.modality for part in parts])),
        slots=torch.from_numpy(np.concatenate([part.slots for part in parts])),
    )


def describe(sequence: Sequence, vocabulary: Vocabulary, codes_shown: int = 8) -> str:
    """The stream as people read it, an item or block to a line, long runs of codes cut short."""
    lines: list[str] = [""]
    run: list[str] = []

    def flush() -> None:
        if run:
            more = f" ... ({len(run)} codes)" if len(run) > codes_shown else ""
            lines[-1] += " " + " ".join(run[:codes_shown]) + more
            run.clear()

    opens = ("<begin>", "<end>", "<video>", "</video>", "<nothing>", "<block>")
    opens = (*opens, "<at>", *(f"<{name}>" for name in (*TASKS, *ROLES)))
    for i in sequence.ids.tolist():
        name = vocabulary.name(i)
        if i >= vocabulary.video_start:
            run.append(name)
            continue
        flush()
        if i < vocabulary.text_start and name in opens:
            lines.append(("  " if name == "<block>" else "") + name)
        elif i < vocabulary.text_start:
            lines[-1] += " " + name
        else:
            lines[-1] += f" {name!r}"
    flush()
    return "\n".join(line for line in lines if line)
