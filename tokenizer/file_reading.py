"""Reading token files: whole, by block and by time, strictly if closed, as far as whole if not.

Any stretch is read without the rest, but for the blocks of its group before it where the coding
learns from them. It does not know how files are written, nor pixels.
"""

from __future__ import annotations

import json
import os
import struct
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from tokenizer.block_coder import BlockCoder, prior_of
from tokenizer.entropy import Prior
from tokenizer.files_v1 import read_v1
from tokenizer.records import (
    BLOCK,
    END_MAGIC,
    INDEX,
    LEAD,
    MAGIC,
    MAX_HEADER,
    TRAILER,
    VERSION,
    WORD,
    Block,
    Header,
    Index,
    read_varint,
    unpack_block,
    unpack_header,
    unpack_index,
)
from tokenizer.tokens import VideoTokens

_LONGEST_LEAD = 10  # bytes of a record before its body: kind and length


class UnclosedWarning(UserWarning):
    """A token file ends where its writer stopped, not where its clip ends."""


class TokenReader:
    """A token file, read where it is asked for; a context manager.

    Args:
        path: File that a `TokenWriter` or an earlier version of Kinolex wrote.
        prior: What its codes are coded under, if the file does not hold that itself.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a token file, of a newer version, truncated or damaged. Reading
            raises it too, for damage further on and for a prior other than the file names.
    """

    header: Header
    version: int
    closed: bool  # whether it has the index that its writer ends with

    def __init__(self, path: Path | str, prior: Prior | None = None) -> None:
        self.path, self._prior = Path(path), prior
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such token file: check the path")
        self._file = open(self.path, "rb")
        try:
            self.file_bytes = os.fstat(self._file.fileno()).st_size
            self._open()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> TokenReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def num_blocks(self) -> int:
        return self._index.blocks

    def blocks(self) -> Iterator[Block]:
        """All blocks as they stand in the file, none of them decoded."""
        blocks = frames = tokens = 0
        for block in self._from_group(0):
            blocks, frames = blocks + 1, frames + len(block.times)
            tokens += block.num_tokens
            yield block
        with self._naming_damage():
            if (blocks, frames, tokens) != self._index.counts:
                raise ValueError(f"{blocks} blocks and {tokens} tokens are not what its index says")

    def read(self) -> VideoTokens:
        """All tokens."""
        return self._decode(list(self.blocks()), 0)

    def read_each(self) -> Iterator[Tensor]:
        """The codes of each block in turn, int64 (K,), one block in memory at a time."""
        coder = self._coder()
        for block in self.blocks():
            with self._naming_damage():
                codes = torch.from_numpy(coder.decode(block))
            yield codes

    def read_blocks(self, first: int, stop: int) -> VideoTokens:
        """The tokens of blocks number `first` to `stop` - 1, as `VideoTokens.blocks` cuts them."""
        if not 0 <= first < stop <= self.num_blocks:
            raise ValueError(
                f"{self.path}: blocks {first} to {stop}: it has blocks 0 to {self.num_blocks}"
            )
        chosen = []
        for block in self._from_group(first // self.header.group_blocks):
            chosen.append(block)
            if block.number == stop - 1:
                break
        assert chosen[-1].number == stop - 1, "the index is checked"
        return self._decode(chosen, first)

    def read_between(self, start: float, end: float) -> VideoTokens:
        """The tokens of all blocks with a frame from `start` to before `end`, in seconds."""
        seconds = [second for _, second in self._index.groups]
        first, chosen = None, []
        for block in self._from_group(max(0, bisect_right(seconds, start) - 1)):
            if block.times[0] >= end:
                break
            chosen.append(block)
            if first is None and any(start <= time < end for time in block.times):
                first = block.number
        if first is None:
            raise ValueError(f"{self.path}: no frame from {start:g} s to before {end:g} s")
        return self._decode(chosen, first)

    def _decode(self, blocks: Sequence[Block], first: int) -> VideoTokens:
        """The tokens from block `first` on, of blocks that begin where its group does."""
        coder = self._coder()
        codes, times = [], []
        with self._naming_damage():
            for block in blocks:
                if block.number < first:
                    if coder.carries_over:
                        coder.decode(block)
                    continue
                codes.append(torch.from_numpy(coder.decode(block)))
                times += block.times
            return VideoTokens(
                codes=tuple(codes),
                timestamps=torch.tensor(times, dtype=torch.float64),
                height=self.header.height,
                width=self.header.width,
                block_frames=self.header.block_frames,
                codebook_size=self.header.codebook_size,
                codec_id=self.header.codec_id,
            )

    def _coder(self) -> BlockCoder:
        try:
            return BlockCoder(self.header, prior_of(self.header, self._prior))
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    # --- opening

    def _open(self) -> None:
        if self._take(0, min(len(MAGIC), self.file_bytes)) != MAGIC:
            raise ValueError(
                f"{self.path}: not a token file: give a .kvt that `kinolex encode` wrote"
            )
        with self._naming_damage():
            self.version, length = LEAD.unpack(self._take(len(MAGIC), LEAD.size))
        if self.version > VERSION:
            raise ValueError(
                f"{self.path}: token file of version {self.version}, newer than {VERSION}: "
                "upgrade kinolex"
            )
        with self._naming_damage():
            fields = self._header_fields(length)
            if self.version == 1:
                self._open_v1(fields)
                return
            self.header = unpack_header(fields)
            self.closed = self._has_trailer()
            if self.closed:
                self._index = self._read_index()
                return
            self._index = self._scan()
        self._warn_unclosed()

    def _header_fields(self, length: int) -> dict[str, Any]:
        """The header's JSON; sets where it ends and what checksums begin with."""
        if self.version > 1 and length > MAX_HEADER:
            raise ValueError(f"a header of {length} bytes")
        self._start = len(MAGIC) + LEAD.size + length + WORD.size
        lead = self._take(0, self._start)
        self._seed = crc32(lead[: -WORD.size])
        if lead[-WORD.size :] != WORD.pack(self._seed):
            raise ValueError("wrong checksum of the header")
        fields = json.loads(lead[len(MAGIC) + LEAD.size : -WORD.size])
        if not isinstance(fields, dict):
            raise ValueError("its header names nothing")
        return fields

    def _open_v1(self, fields: dict[str, Any]) -> None:
        rest = self._take(self._start, self.file_bytes - self._start)
        self.header, self._v1 = read_v1(fields, rest)
        self.closed = True
        tokens = sum(block.num_tokens for block in self._v1)
        frames = sum(len(block.times) for block in self._v1)
        groups = tuple((0, b.times[0]) for b in self._v1[:: self.header.group_blocks])
        self._index = Index(len(self._v1), frames, tokens, groups)

    def _has_trailer(self) -> bool:
        end = self.file_bytes - len(END_MAGIC)
        return end >= self._start and self._take(end, len(END_MAGIC)) == END_MAGIC

    def _read_index(self) -> Index:
        """The index of a closed file; sets where its blocks end."""
        stop = self.file_bytes - TRAILER
        self._end = stop - WORD.unpack(self._take(stop, WORD.size))[0]
        if self._end < self._start:
            raise ValueError("its index begins before its blocks")
        kind, body, place = self._record(self._end, stop)
        if kind != INDEX or place != stop:
            raise ValueError("its index is not where it should be")
        index, size = unpack_index(body, self._start), self.header.group_blocks
        places = [place for place, _ in index.groups]
        if places[:1] != [self._start] or len(places) != -(-index.blocks // size):
            raise ValueError("its index does not fit its blocks")
        return index

    def _scan(self) -> Index:
        """What an index would say of the whole blocks there are; sets where they end."""
        place, groups = self._start, []
        blocks = frames = tokens = 0
        self._end = place
        while place < self.file_bytes:
            try:
                kind, body, place = self._record(place, self.file_bytes)
                block = None if kind == INDEX else self._block(kind, body, blocks, frames)
            except (ValueError, struct.error):
                break
            if block is None:
                self._check_tail(place)
                break
            if blocks % self.header.group_blocks == 0:
                groups.append((self._end, block.times[0]))
            blocks, frames = blocks + 1, frames + len(block.times)
            tokens, self._end = tokens + block.num_tokens, place
        return Index(blocks, frames, tokens, tuple(groups))

    def _check_tail(self, place: int) -> None:
        """ValueError unless what follows an index is the beginning of a trailer."""
        tail = self._take(place, self.file_bytes - place)
        if not (WORD.pack(place - self._end) + END_MAGIC).startswith(tail):
            raise ValueError(f"{len(tail)} bytes that are none of its follow its index")

    def _warn_unclosed(self) -> None:
        lost, blocks = self.file_bytes - self._end, self._index.blocks
        found = f"{blocks} whole blocks ({self._index.frames} frames) are there"
        if not blocks:
            raise ValueError(
                f"{self.path}: was never closed and has no whole block: encode the clip again"
            )
        warnings.warn(
            f"{self.path}: was never closed, its writer stopped early: {found}, "
            f"{lost} bytes after them are lost",
            UnclosedWarning,
            stacklevel=4,
        )

    # --- records

    def _from_group(self, group: int) -> Iterator[Block]:
        """The blocks from the start of a group on."""
        size = self.header.group_blocks
        if self.version == 1:
            yield from self._v1[group * size :]
            return
        number = group * size
        frames = number * self.header.block_frames
        place = self._index.groups[group][0] if self._index.groups else self._start
        while place < self._end:
            with self._naming_damage():
                kind, body, after = self._record(place, self._end)
                block = self._block(kind, body, number, frames)
                told = self._index.groups[number // size : number // size + 1]
                if number % size == 0 and told != ((place, block.times[0]),):
                    raise ValueError(f"block {number} is not where its index says")
            yield block
            place, number, frames = after, number + 1, frames + len(block.times)

    def _block(self, kind: int, body: bytes, number: int, frames: int) -> Block:
        """The block in a record that must be block `number`, after so many frames."""
        if kind != BLOCK:
            raise ValueError(f"a record of unknown kind {kind} before block {number}")
        block = unpack_block(body, self.header)
        if block.number != number or frames != number * self.header.block_frames:
            raise ValueError(f"block {block.number} stands where block {number} should")
        return block

    def _record(self, place: int, stop: int) -> tuple[int, bytes, int]:
        """Kind and body of the record at a place, and the place after it, at most `stop`."""
        lead = self._take(place, min(_LONGEST_LEAD, stop - place))
        length, begin = read_varint(lead, 1)
        after = place + begin + length + WORD.size
        if after > stop:
            raise ValueError(f"it ends within the record at byte {place}")
        content = self._take(place, after - place)
        check = crc32(content[: -WORD.size], self._seed)
        if content[-WORD.size :] != WORD.pack(check):
            raise ValueError(f"wrong checksum of the record at byte {place}")
        return lead[0], content[begin : -WORD.size], after

    def _take(self, place: int, count: int) -> bytes:
        """Bytes of the file, all of them there."""
        if not 0 <= place <= place + count <= self.file_bytes:
            raise ValueError("it ends too early")
        self._file.seek(place)
        return self._file.read(count)

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, struct.error) as e:
            raise ValueError(
                f"{self.path}: damaged token file ({e}): encode or copy it again"
            ) from None
