"""Positions in seconds, rows and columns: where each token of a stream stands on three axes.

A token that is no code has its running number on all three, so text alone has the positions of any
decoder. A code stands where its video began, plus its seconds and its place in the picture; what
follows a video goes on beyond it. All follows from ids, as they are read. The rotary bands take
turns (time, row, column, time, ...), so that each axis has quick and slow ones; in one stretch to
an axis, as Qwen2-VL has them (arXiv 2409.12191), time would have quick ones alone.
Knows the stream's ids and headers. Knows no network.

Shapes: B rows, L tokens, E head size.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lm.cache import Cache
from lm.formats import VideoFormat
from lm.header import Header
from lm.model import Decoder, DecoderConfig
from lm.rope import Rope, frequencies
from lm.segments import BRANCHES
from lm.vocabulary import Vocabulary
from tokenizer.ordering import BlockLayout


class Places:
    """Gives a decoder the rotary turns of the ids it reads.

    Args:
        vocabulary: Whose ids these are.
        config: Of the decoder; its positions are in seconds.
    """

    def __init__(self, vocabulary: Vocabulary, config: DecoderConfig) -> None:
        self.vocabulary = vocabulary
        self.scale = config.positions_per_second
        self._frequencies = frequencies(config)  # (E / 2,)
        self._axes = torch.arange(config.head_dim // 2) % 3

    def of(self, ids: Tensor, segments: Tensor | None = None) -> Tensor:
        """Time, row and column of whole rows, float32 (B, L, 3).

        Args:
            ids: int64 (B, L), each row or segment from the beginning of its document.
            segments: int64 (B, L), as in `lm.segments`; None: one document a row.
        """
        rows = ids.cpu().numpy()
        if segments is None:
            found = np.stack([Walk(self).read(row) for row in rows])
        else:
            pairs = zip(rows, segments.cpu().numpy(), strict=True)
            found = np.stack([self._packed(row, segment) for row, segment in pairs])
        return torch.from_numpy(found).float()

    def _packed(self, ids: np.ndarray, segments: np.ndarray) -> np.ndarray:
        """A row of several documents; branches go on from where their trunk ends."""
        walks: dict[int, Walk] = {}
        found = np.empty((len(ids), 3))
        edges = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), len(ids)]
        for start, stop in pairwise(edges):
            segment = int(segments[start])
            if segment not in walks:
                trunk = walks.get(segment - segment % BRANCHES)
                walks[segment] = Walk(self) if trunk is None else trunk.copy()
            found[start:stop] = walks[segment].read(ids[start:stop])
        return found

    def next(self, ids: Tensor, cache: Cache) -> Tensor:
        """Time, row and column of ids (B, L) that follow those in a cache, float32 (B, L, 3).

        Raises:
            ValueError: tokens were dropped from the cache, or put into it, behind our back.
        """
        cache.walks = cache.walks or [Walk(self) for _ in ids]
        if [walk.length for walk in cache.walks] != cache.lengths.tolist():
            raise ValueError(
                "positions in seconds want every token read once and in order, which this way of "
                "reading does not do: train a model with --model.sizes.positions stream for it"
            )
        pairs = zip(cache.walks, ids.cpu().numpy(), strict=True)
        return torch.from_numpy(np.stack([walk.read(row) for walk, row in pairs])).float()

    def rope(self, ids: Tensor, segments: Tensor | None, cache: Cache | None, like: Tensor) -> Rope:
        """Cosines and signed sines (B, L, 1, E) for `Decoder.forward`; `like` has their type."""
        places = self.of(ids, segments) if cache is None else self.next(ids, cache)
        angles = places[..., self._axes] * self._frequencies  # (B, L, E / 2)
        cos, sin = angles.cos().to(like), angles.sin().to(like)
        cos, sin = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
        return cos[:, :, None], sin[:, :, None]


class Walk:
    """Where a stream stands while its ids come, in pieces of any length.

    length: ids read; padding after them is none.
    """

    def __init__(self, places: Places) -> None:
        self.length = 0
        self._places = places
        self._next = 0  # the running number of the next token that is no code
        self._header: Header | None = None  # while one is read
        self._body: np.ndarray | None = None  # of the video at hand, from its first block's mark on
        self._read = 0  # tokens of it that have come

    def copy(self) -> Walk:
        """An independent walk at the same point."""
        twin = copy.copy(self)
        twin._header = None if self._header is None else self._header.copy()
        return twin

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Time, row and column of the next ids, float64 (n, 3)."""
        pads = np.flatnonzero(ids == self._places.vocabulary.special("<pad>"))
        count = int(pads[0]) if len(pads) else len(ids)
        found = np.zeros((len(ids), 3))
        at = 0
        while at < count:
            if self._body is not None:
                at += self._read_body(found[at:count], self._body)
            elif self._header is not None:
                at += self._read_header(found[at:count], int(ids[at]), self._header)
            else:
                at += self._read_plain(found[at:count], ids[at:count])
        self.length += count
        return found

    def _read_plain(self, found: np.ndarray, ids: np.ndarray) -> int:
        """Ids up to the next `<video>`, that one included."""
        vocabulary = self._places.vocabulary
        marks = np.flatnonzero(ids == vocabulary.special("<video>"))
        count = int(marks[0]) + 1 if len(marks) else len(ids)
        found[:count] = self._next + np.arange(count)[:, None]
        self._next += count
        if len(marks):
            self._header = Header(vocabulary)
        return count

    def _read_header(self, found: np.ndarray, token: int, header: Header) -> int:
        """One id of the header; the first block's mark is left to the body."""
        vocabulary = self._places.vocabulary
        header.take(token)
        if token != vocabulary.special("<block>"):
            found[0] = self._next
            self._next += 1
            return 1
        assert header.format is not None, "a header ends with its format known"
        self._body = body(
            header.format, vocabulary.layout, vocabulary.block_frames, self._places.scale
        )
        self._header, self._read = None, 0
        return 0

    def _read_body(self, found: np.ndarray, whole: np.ndarray) -> int:
        part = whole[self._read : self._read + len(found)]
        found[: len(part)] = self._next + part
        self._read += len(part)
        if self._read == len(whole):
            self._next += int(whole[-1, 0]) + 1
            self._body = None
        return len(part)


@lru_cache(maxsize=256)
def body(
    fmt: VideoFormat, layout: BlockLayout | None, block_frames: int, scale: float
) -> np.ndarray:
    """Where a video's tokens stand from the first block's mark (0) to `</video>`, float64 (n, 3).

    A mark stands on all axes one beyond everything before it, so the video begins at 1. A code of
    the grid stands at its row, its column and the time of its first frame; codes of further depths
    follow it by a share of the time to the next one in time. Codes of the summary stand in the
    picture's middle, and where no layout says where codes stand, all do; they are spread over the
    time of their block, to be told apart.

    Args:
        fmt: Of the video.
        layout: Where codes stand in a block; None: not known.
        block_frames: Frames of a block.
        scale: Positions a second.
    """
    parts, used = [], -1.0
    for number, count in enumerate(fmt.tokens_per_block):
        parts.append(np.full((1, 3), np.floor(used) + 1))
        frames, rows, columns = _in_block(fmt, layout, block_frames, count)
        seconds = _seconds(fmt, number * block_frames + frames, block_frames, layout, scale)
        parts.append(1 + np.stack([seconds * scale, rows, columns], axis=1))
        used = max(parts[-2].max(), parts[-1].max(), used)
    return np.concatenate([*parts, np.full((1, 3), np.floor(used) + 1)])


def _in_block(
    fmt: VideoFormat, layout: BlockLayout | None, block_frames: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames (in parts), rows and columns of a block's codes as they are read, float64 (count,)."""
    if layout is None or count > layout.slots(fmt.height, fmt.width):
        return np.arange(count) * block_frames / count, np.zeros(count), np.zeros(count)
    time, height, width = layout.grid(fmt.height, fmt.width)
    number = layout.as_read(fmt.height, fmt.width, count)[1].numpy()
    summary, place = number < layout.summary, number - layout.summary
    depth, place = np.divmod(place, time * height * width)
    at = place // (height * width) + depth / layout.depth
    frames = np.where(summary, number / max(layout.summary, 1), at / time) * block_frames
    rows = np.where(summary, (height - 1) / 2, place // width % height)
    columns = np.where(summary, (width - 1) / 2, place % width)
    return frames, rows, columns


def _seconds(
    fmt: VideoFormat,
    frames: np.ndarray,
    block_frames: int,
    layout: BlockLayout | None,
    scale: float,
) -> np.ndarray:
    """Seconds from the first frame, by the header; parts of frames lie between their neighbours.

    Frames that fill up the last block go on at the pace of the last ones. An image has no pace: its
    latents in time stand one position apart.
    """
    if fmt.num_frames == 1:
        return frames * (1 if layout is None else layout.time) / block_frames / scale
    times = fmt.timestamps(0).numpy()
    inside = np.interp(frames, np.arange(len(times)), times)
    beyond = np.maximum(frames - (len(times) - 1), 0)
    return inside + beyond * (times[-1] - times[-2])


class WholeStep:
    """Reads single tokens with the decoder itself, as `lm.step.Step` does in fewer operations."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder, self._table = decoder, decoder.output_table()

    def read(self, ids: Tensor, slots: Tensor, cache: Cache) -> Tensor:
        """As `Step.read`."""
        return self._decoder(ids[:, None], slots=slots[:, None], cache=cache)[:, 0]

    def scores(self, hidden: Tensor, low: int, high: int) -> Tensor:
        """As `Step.scores`."""
        return self._decoder.logits(hidden, low, high, self._table)


def place_tokens(decoder: Decoder, vocabulary: Vocabulary) -> None:
    """Give a decoder what its positions in seconds follow from; others need nothing."""
    if decoder.config.positions == "seconds":
        decoder.places = Places(vocabulary, decoder.config)
