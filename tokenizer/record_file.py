"""The records of a token file as they stand there, found and compared with their checksums.

Strictly if the file was closed; as far as they are whole if it was not. Any stretch is read without
the rest. It does not know what the records' codes mean, nor how files are written.
"""

from __future__ import annotations

import os
import struct
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from zlib import crc32

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
    record_check,
    unpack_block,
    unpack_header,
    unpack_index,
)
from tokenizer.varints import read_varint

_LONGEST_LEAD = 10  # bytes of a record before its body: kind and length


class UnclosedWarning(UserWarning):
    """A token file ends where its writer stopped, not where its clip ends."""


class RecordFile:
    """A token file of which nothing is decoded; a context manager.

    Args:
        path: File that a `TokenWriter` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a token file, of another version, truncated or damaged. Reading
            raises it too, for damage further on.
    """

    header: Header
    version: int
    seed: int  # of the checksums of its records
    start: int  # its first byte after the header
    closed: bool  # whether it has the index that its writer ends with

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such token file: check the path")
        self._file = open(self.path, "rb")
        try:
            self.file_bytes = os.fstat(self._file.fileno()).st_size
            self._open()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
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
        for block, record in self.from_group(0):
            blocks, frames = blocks + 1, frames + len(block.times)
            tokens, check = tokens + block.num_tokens, crc32(record, check)
            yield block, record
        with self.naming_damage():
            told = self._index
            if (blocks, frames, tokens) != (told.blocks, told.frames, told.tokens):
                raise ValueError(f"{blocks} blocks and {tokens} tokens are not what its index says")
            if check != told.check:
                raise ValueError("its blocks are not those of its index")

    # --- opening

    def _open(self) -> None:
        if self._take(0, min(len(MAGIC), self.file_bytes)) != MAGIC:
            raise ValueError(
                f"{self.path}: not a token file: give a .kvt that `kinolex encode` wrote"
            )
        with self.naming_damage():
            self.version, length = LEAD.unpack(self._take(len(MAGIC), LEAD.size))
        if self.version != VERSION:
            what = f"{self.path}: token file of version {self.version}"
            if self.version > VERSION:
                raise ValueError(f"{what}, newer than {VERSION}: upgrade kinolex")
            raise ValueError(f"{what}, which is no longer read: encode the clip again")
        with self.naming_damage():
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
            stacklevel=5,
        )

    # --- records

    def from_group(self, group: int) -> Iterator[tuple[Block, bytes]]:
        """The blocks from the start of a group on, each with its record."""
        size, before = self.header.group_blocks, None
        number, place = group * size, self._index.groups[group]
        while place < self._end:
            with self.naming_damage():
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

    def group_at(self, seconds: float) -> int:
        """The last group that begins at or before a time; the first if none does."""
        groups = range(len(self._index.groups))
        return max(0, bisect_right(groups, seconds, key=self._group_start) - 1)

    def _group_start(self, group: int) -> float:
        """Seconds of the first frame of a group."""
        return next(self.from_group(group))[0].times[0]

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
    def naming_damage(self) -> Iterator[None]:
        """Errors of damage become one that names the file."""
        try:
            yield
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, struct.error) as e:
            raise ValueError(
                f"{self.path}: damaged token file ({e}): encode or copy it again"
            ) from None
