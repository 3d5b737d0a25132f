"""Reading token files: whole, by block and by time, strictly if closed, as far as whole if not.

Any stretch is read without the rest, but for the blocks of its group before it where the coding
learns from them. It does not know how files are written, nor pixels.
"""

from __future__ import annotations

import os
import struct
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

from tokenizer.block_coder import BlockCoder, prior_of
from tokenizer.entropy import Prior
from tokenizer.records import (
    END_MAGIC,
    INDEX,
    LEAD,
    MAGIC,
    TRAILER,
    VERSION,
    WORD,
    Block,
    Header,
    Index,
    check_bytes,
    index_blocks,
    read_varint,
    record_check,
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
        path: File that a `TokenWriter` wrote.
        prior: What its codes are coded under, if the file does not hold that itself; it may be
            set later, when the header has said which.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a token file, of another version, truncated or damaged. Reading
            raises it too, for damage further on and for a prior other than the file names.
    """

    header: Header
    version: int
    seed: int  # of the checksums of its records
    start: int  # its first byte after the header
    closed: bool  # whether it has the index that its writer ends with

    def __init__(self, path: Path | str, prior: Prior | None = None) -> None:
        self.path, self.prior = Path(path), prior
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

    @property
    def num_frames(self) -> int:
        return self._index.frames

    def blocks(self) -> Iterator[Block]:
        """All blocks as they stand in the file, none of them decoded."""
        for block, _ in self.records():
            yield block

    def records(self) -> Iterator[tuple[Block, bytes]]:
        """All blocks, each with its record."""
        blocks = frames = tokens = 0
        check = self.seed
        for block, record in self._from_group(0):
            blocks, frames = blocks + 1, frames + len(block.times)
            tokens, check = tokens + block.num_tokens, crc32(record, check)
            yield block, record
        with self._naming_damage():
            told = self._index
            if (blocks, frames, tokens) != (told.blocks, told.frames, told.tokens):
                raise ValueError(f"{blocks} blocks and {tokens} tokens are not what its index says")
            if check != told.check:
                raise ValueError("its blocks are not those of its index")

    def read(self) -> VideoTokens:
        """All tokens."""
        return self._decode(list(self.blocks()), 0)

    def read_each(self) -> Iterator[Tensor]:
        """The codes of each block in turn, int64 (K,), one block in memory at a time."""
        coder = self.coder()
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
        for block, _ in self._from_group(first // self.header.group_blocks):
            chosen.append(block)
            if block.number == stop - 1:
                break
        assert chosen[-1].number == stop - 1, "the index is checked"
        return self._decode(chosen, first)

    def read_between(self, start: float, end: float) -> VideoTokens:
        """The tokens of all blocks with a frame from `start` to before `end`, in seconds."""
        groups = range(len(self._index.groups))
        group = bisect_right(groups, start, key=self._group_start) - 1
        first, chosen = None, []
        for block, _ in self._from_group(max(0, group)):
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
        coder = self.coder()
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

    def coder(self) -> BlockCoder:
        """What decodes its blocks in order."""
        try:
            return BlockCoder(self.header, prior_of(self.header, self.prior))
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
        if self.version != VERSION:
            what = f"{self.path}: token file of version {self.version}"
            if self.version > VERSION:
                raise ValueError(f"{what}, newer than {VERSION}: upgrade kinolex")
            raise ValueError(f"{what}, which is no longer read: encode the clip again")
        with self._naming_damage():
            self.start = len(MAGIC) + LEAD.size + length + WORD.size
            lead = self._take(0, self.start)
            self.seed = crc32(lead[: -WORD.size])
            if lead[-WORD.size :] != WORD.pack(self.seed):
                raise ValueError("wrong checksum of the header")
            self.header = unpack_header(lead[len(MAGIC) + LEAD.size : -WORD.size])
            self.closed = self._has_trailer()
            if self.closed:
                self._index = self._read_index()
                return
            self._index = self._scan()
        self._warn_unclosed()

    def _has_trailer(self) -> bool:
        end = self.file_bytes - len(END_MAGIC)
        return end >= self.start and self._take(end, len(END_MAGIC)) == END_MAGIC

    def _read_index(self) -> Index:
        """The index of a closed file; sets where its blocks end."""
        stop = self.file_bytes - TRAILER
        self._end = stop - WORD.unpack(self._take(stop, WORD.size))[0]
        if self._end < self.start:
            raise ValueError("its index begins before its blocks")
        record, body = self._record(self._end, stop)
        if record[0] != INDEX or self._end + len(record) != stop:
            raise ValueError("its index is not where it should be")
        self._compare(record, body, index_blocks(body), self._end)
        return unpack_index(body, self.header, self.start)

    def _scan(self) -> Index:
        """What an index would say of the whole blocks there are; sets where they end."""
        groups, before, size = [], None, self.header.group_blocks
        blocks = frames = tokens = 0
        check, self._end = self.seed, self.start
        while self._end < self.file_bytes:
            try:
                record, body = self._record(self._end, self.file_bytes)
                if record[0] == INDEX:
                    self._compare(record, body, blocks, self._end)
                    before = None
                elif frames == blocks * self.header.block_frames:
                    before = before if blocks % size else None
                    before = self._block(record, body, blocks, before, self._end)
                else:
                    raise ValueError(f"block {blocks - 1} is not full and not the last")
            except (ValueError, struct.error):
                break
            if before is None:
                self._check_tail(self._end + len(record))
                break
            if blocks % size == 0:
                groups.append(self._end)
            blocks, frames = blocks + 1, frames + len(before.times)
            tokens, check = tokens + before.num_tokens, crc32(record, check)
            self._end += len(record)
        return Index(blocks, frames, tokens, check, tuple(groups))

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

    def _from_group(self, group: int) -> Iterator[tuple[Block, bytes]]:
        """The blocks from the start of a group on, each with its record."""
        size, before = self.header.group_blocks, None
        number, place = group * size, self._index.groups[group]
        while place < self._end:
            with self._naming_damage():
                begins = number % size == 0
                if begins and self._index.groups[number // size : number // size + 1] != (place,):
                    raise ValueError(f"block {number} is not where its index says")
                record, body = self._record(place, self._end)
                before = self._block(record, body, number, None if begins else before, place)
                after = place + len(record)
                if after < self._end and len(before.times) < self.header.block_frames:
                    raise ValueError(f"block {number} is not full and not the last")
            yield before, record
            place, number = after, number + 1

    def _group_start(self, group: int) -> float:
        """Seconds of the first frame of a group."""
        return next(self._from_group(group))[0].times[0]

    def _block(
        self, record: bytes, body: bytes, number: int, before: Block | None, place: int
    ) -> Block:
        """The block in a record at a place, which must be block `number`."""
        self._compare(record, body, number, place)
        return unpack_block(record[0], body, self.header, number, before)

    def _record(self, place: int, stop: int) -> tuple[bytes, bytes]:
        """The record at a place, which ends at most at `stop`, and its body; not yet compared."""
        lead = self._take(place, min(_LONGEST_LEAD, stop - place))
        length, begin = read_varint(lead, 1)
        size = begin + length + check_bytes(lead[0], length)
        if place + size > stop:
            raise ValueError(f"it ends within the record at byte {place}")
        record = self._take(place, size)
        return record, record[begin : begin + length]

    def _compare(self, record: bytes, body: bytes, number: int, place: int) -> None:
        size = check_bytes(record[0], len(body))
        check = record_check(record[:-size], number, self.seed)
        if record[-size:] != WORD.pack(check)[:size]:
            raise ValueError(f"wrong checksum of the record at byte {place}")

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
