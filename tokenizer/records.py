"""The bytes of a token file's parts: header, block records, closing index.

    header    8 bytes magic, u16 version, u32 length, JSON, u32 CRC-32 of all before
    record    u8 kind (B or I), varint length, body, u32 CRC-32 of kind, length and body, begun
              with the header's CRC, so that no record passes in another file
    B body    varint number, u8 coding, varint tokens, varint frames, times, and under a prior
              u8 check of the codes, payload
    I body    varint blocks, frames, tokens, groups; of each group varint bytes since the group
              before (or the header) and f64 seconds of its first frame
    trailer   u32 length of the index record, 8 bytes magic

Little-endian; varints are LEB128. Reads bytes that may be anything: every length is checked
against what is there before it is believed. It does not know files, nor priors.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any
from zlib import crc32

from tokenizer.ordering import ORDERS, BlockLayout

MAGIC = b"\x89KVT\r\n\x1a\n"
END_MAGIC = b"\x89KVTend\n"
VERSION = 2
LEAD = struct.Struct("<HI")  # version, length of the header's JSON
WORD = struct.Struct("<I")
TRAILER = WORD.size + len(END_MAGIC)  # bytes
MAX_HEADER = 1 << 16  # bytes of JSON
BLOCK, INDEX = ord("B"), ord("I")
PACKED, UNDER_PRIOR = 0, 1  # codings of one block
_TIME = struct.Struct("<d")
_RAW, _EVEN, _TICKS = 0, 1, 2  # how a block's times are written
_MAX_CLOCK = 10**6  # ticks a second that times are looked for in


@dataclass(frozen=True)
class Header:
    """What holds for a whole token file; its values are checked, whoever made them."""

    codec_id: str  # ends in a hash of the codec's design and weights
    height: int  # pixels
    width: int  # pixels
    block_frames: int  # frames per block; the last block may cover fewer
    codebook_size: int
    coding: str = "packed"  # or the kind of the prior
    prior: str | None = None  # the prior's name, its hash included
    layout: BlockLayout | None = None  # where tokens stand, for the prior
    group_blocks: int = 256  # blocks that a prior which carries over learns from

    def __post_init__(self) -> None:
        limits = {"height": 1 << 20, "width": 1 << 20, "block_frames": 1 << 12}
        limits |= {"codebook_size": 1 << 31, "group_blocks": 1 << 16}
        for name, most in limits.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{name}={value!r}: it lies from 1 to {most}")
        if not all(
            isinstance(text, str) for text in (self.codec_id, self.coding, self.prior or "")
        ):
            raise ValueError("names in the header are not text")
        if (self.coding == "packed") != (self.prior is None) or (
            self.prior is not None and self.layout is None
        ):
            raise ValueError(f"coding {self.coding!r} with prior {self.prior!r}")


@dataclass(frozen=True)
class Block:
    """One block as it stands in a file."""

    number: int  # from 0
    coding: int  # PACKED or UNDER_PRIOR
    num_tokens: int
    times: tuple[float, ...]  # seconds of each frame it covers
    payload: bytes
    check: int = 0  # of the codes, 0 to 255, where they were coded under a prior


@dataclass(frozen=True)
class Index:
    """What a closed file says of all its blocks."""

    blocks: int
    frames: int
    tokens: int
    groups: tuple[tuple[int, float], ...]  # first byte in the file, first second, of each group

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.blocks, self.frames, self.tokens


def pack_header(header: Header) -> bytes:
    fields = asdict(header)
    if header.layout is not None:
        fields["layout"] = header.layout.to_json()
    return seal_header(VERSION, fields)


def seal_header(version: int, fields: dict[str, Any]) -> bytes:
    """A header of any version, with its checksum."""
    text = json.dumps(fields, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER:
        raise ValueError(f"a header of {len(text)} bytes: names must be shorter")
    lead = MAGIC + LEAD.pack(version, len(text)) + text
    return lead + WORD.pack(crc32(lead))


def unpack_header(fields: dict[str, Any]) -> Header:
    layout = fields.get("layout")
    if layout is not None:
        fields = {**fields, "layout": _layout(**layout)}
    return Header(**fields)


def _layout(order: str, time: int, space_stride: int, summary: int) -> BlockLayout:
    numbers = time, space_stride, summary
    if order not in ORDERS or not all(
        type(n) is int and low <= n <= 1 << 16 for n, low in zip(numbers, (1, 1, 0), strict=True)
    ):
        raise ValueError("the layout of blocks is none")
    return BlockLayout(order, time, space_stride, summary)


def pack_record(kind: int, body: bytes, seed: int) -> bytes:
    """A record; `seed` is the CRC-32 that ends the header."""
    content = bytes([kind]) + varint(len(body)) + body
    return content + WORD.pack(crc32(content, seed))


def pack_block(block: Block, seed: int) -> bytes:
    numbers = varint(block.num_tokens) + varint(len(block.times))
    lead = varint(block.number) + bytes([block.coding]) + numbers + _pack_times(block.times)
    check = bytes([block.check]) if block.coding == UNDER_PRIOR else b""
    return pack_record(BLOCK, lead + check + block.payload, seed)


def unpack_block(body: bytes, header: Header) -> Block:
    number, place = read_varint(body, 0)
    coding, place = _byte(body, place)
    tokens, place = read_varint(body, place)
    frames, place = read_varint(body, place)
    if not 1 <= frames <= header.block_frames:
        raise ValueError(f"block {number} covers {frames} frames of {header.block_frames}")
    if coding not in (PACKED, UNDER_PRIOR) or coding > (header.prior is not None):
        raise ValueError(f"block {number} has unknown coding {coding}")
    times, place = _unpack_times(body, place, frames)
    check_times(times)
    check = 0
    if coding == UNDER_PRIOR:
        check, place = _byte(body, place)
    return Block(number, coding, tokens, times, body[place:], check)


def pack_index(index: Index, start: int, seed: int) -> bytes:
    """The index record and the trailer; `start` is the header's length in bytes."""
    body = b"".join(map(varint, (index.blocks, index.frames, index.tokens, len(index.groups))))
    for place, seconds in index.groups:
        body += varint(place - start) + _TIME.pack(seconds)
        start = place
    record = pack_record(INDEX, body, seed)
    return record + WORD.pack(len(record)) + END_MAGIC


def unpack_index(body: bytes, start: int) -> Index:
    numbers, place = [], 0
    for _ in range(4):
        number, place = read_varint(body, place)
        numbers.append(number)
    groups = []
    for _ in range(numbers[3]):  # ends with the body at the latest
        step, place = read_varint(body, place)
        start += step
        groups.append((start, _TIME.unpack_from(body, place)[0]))
        place += _TIME.size
    if place != len(body):
        raise ValueError("the index goes on after its last group")
    return Index(numbers[0], numbers[1], numbers[2], tuple(groups))


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def read_varint(content: bytes, place: int) -> tuple[int, int]:
    """A number below 2**63 and the place after it."""
    number = 0
    for shift in range(0, 63, 7):
        byte, place = _byte(content, place)
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError("a number is too long")


def _byte(content: bytes, place: int) -> tuple[int, int]:
    if place >= len(content):
        raise ValueError("a record ends within a number")
    return content[place], place + 1


def check_times(times: Sequence[float], after: float = -math.inf) -> None:
    """ValueError unless times are finite and increase, from later than `after` on."""
    for time in times:
        if not after < time < math.inf:
            raise ValueError(f"a frame at {time:g} s after one at {after:g} s: times must increase")
        after = time


def _pack_times(times: Sequence[float]) -> bytes:
    """Seconds as ticks of a clock where that gives back the very same numbers."""
    found = _ticks(times)
    if found is None:
        return bytes([_RAW]) + struct.pack(f"<{len(times)}d", *times)
    clock, ticks = found
    steps = [after - before for before, after in zip(ticks, ticks[1:], strict=False)]
    lead = varint(clock) + varint(ticks[0])
    if len(set(steps)) <= 1:
        return bytes([_EVEN]) + lead + b"".join(map(varint, steps[:1]))
    return bytes([_TICKS]) + lead + b"".join(map(varint, steps))


def _unpack_times(body: bytes, place: int, count: int) -> tuple[tuple[float, ...], int]:
    how, place = _byte(body, place)
    if how == _RAW:
        stop = place + _TIME.size * count
        if stop > len(body):
            raise ValueError("a block ends within its times")
        return struct.unpack_from(f"<{count}d", body, place), stop
    clock, place = read_varint(body, place)
    tick, place = read_varint(body, place)
    if how not in (_EVEN, _TICKS) or clock < 1:
        raise ValueError("times on no clock")
    steps = []
    for _ in range(min(1, count - 1) if how == _EVEN else count - 1):
        step, place = read_varint(body, place)
        steps.append(step)
    ticks = [tick]
    for step in steps * (count - 1) if how == _EVEN else steps:
        ticks.append(ticks[-1] + step)
    return tuple(tick / clock for tick in ticks), place


def _ticks(times: Sequence[float]) -> tuple[int, list[int]] | None:
    """A clock in ticks a second, and each time in its ticks; None where none gives them exactly."""
    clock = 1
    for time in times:
        if not 0 <= time < 1e9:
            return None
        clock = math.lcm(clock, Fraction(time).limit_denominator(_MAX_CLOCK).denominator)
        if clock > _MAX_CLOCK:
            return None
    ticks = [round(time * clock) for time in times]
    exact = all(tick / clock == time for tick, time in zip(ticks, times, strict=True))
    return (clock, ticks) if exact else None
