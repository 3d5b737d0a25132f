"""The bytes of a token file's parts: header, block records, closing index.

    header    8 bytes magic, u16 version, u16 length, body, u32 CRC-32 of all before
    record    u8 tag, varint length, body, CRC-32 of tag, length and body: its low u16 after a
              block's body of up to 64 bytes, else u32. It is begun with the header's CRC and the
              block's number, so that no record passes in another file or at another place
    H body    varint height, width, frames a block, codebook, blocks a group; text codec, prior;
              under a prior text coding, u8 order, varint time, space stride, summary
    B body    what its tag does not say: varint tokens (the tag: as the block before in its
              group), varint frames (the tag: a full block), times (the tag: the clock goes on),
              and under a prior u8 check of the codes; then the payload
    I body    varint blocks, frames that the last lacks, tokens; u32 CRC-32 of all block records;
              of each group but the first varint bytes since the group before
    trailer   u32 length of the index record, 4 bytes magic

Little-endian; varints are LEB128; a text is a varint of its bytes, then UTF-8. Reads bytes that may
be anything: every length is checked against what is there before it is believed. It does not know
files, nor priors.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from zlib import crc32

from tokenizer.block_times import check_times, going_on, pack_times, unpack_times
from tokenizer.ordering import ORDERS, BlockLayout
from tokenizer.varints import read_byte, read_varint, read_varints, varint

MAGIC = b"\x89KVT\r\n\x1a\n"
END_MAGIC = b"\x89KVe"
VERSION = 3
LEAD = struct.Struct("<HH")  # version, length of the header's body
WORD = struct.Struct("<I")
TRAILER = WORD.size + len(END_MAGIC)  # bytes
BLOCK, INDEX = 0x80, ord("I")  # tags; a block's has flags beside it
PACKED, UNDER_PRIOR = 0, 1  # codings of one block, a flag of its tag
_SAME_TOKENS, _FULL, _CLOCK_GOES_ON = 2, 4, 8  # further flags
_FLAGS = UNDER_PRIOR | _SAME_TOKENS | _FULL | _CLOCK_GOES_ON
_SHORT_BODY = 64  # bytes of a block that two bytes of checksum guard; all blocks have one more


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
    check: int  # CRC-32 of all block records, begun with the header's
    groups: tuple[int, ...]  # first byte in the file of each group


def pack_header(header: Header) -> bytes:
    """A header with its checksum, which seeds those of the records."""
    sizes = header.height, header.width, header.block_frames, header.codebook_size
    body = b"".join(map(varint, (*sizes, header.group_blocks)))
    body += _text(header.codec_id) + _text(header.prior or "")
    if header.layout is not None:
        layout = header.layout
        numbers = [layout.time, layout.space_stride, layout.summary]
        numbers += [layout.depth] if layout.depth > 1 else []
        body += _text(header.coding) + bytes([ORDERS.index(layout.order)])
        body += b"".join(map(varint, numbers))
    if len(body) >= 1 << 16:
        raise ValueError(f"a header of {len(body)} bytes: names must be shorter")
    lead = MAGIC + LEAD.pack(VERSION, len(body)) + body
    return lead + WORD.pack(crc32(lead))


def unpack_header(body: bytes) -> Header:
    sizes, place = read_varints(body, 0, 5)
    codec_id, place = _read_text(body, place)
    prior, place = _read_text(body, place)
    coding, layout = "packed", None
    if prior:
        coding, place = _read_text(body, place)
        order, place = read_byte(body, place)
        numbers, place = read_varints(body, place, 3)
        if place < len(body):  # more than one token a place
            (depth,), place = read_varints(body, place, 1)
            numbers = [*numbers, depth]
        if order >= len(ORDERS) or not all(
            low <= n <= 1 << 16 for n, low in zip(numbers, (1, 1, 0, 2), strict=False)
        ):
            raise ValueError("the layout of blocks is none")
        layout = BlockLayout(ORDERS[order], *numbers)
    if place != len(body):
        raise ValueError("the header goes on after its last value")
    height, width, frames, codes, group = sizes
    return Header(codec_id, height, width, frames, codes, coding, prior or None, layout, group)


def _text(text: str) -> bytes:
    content = text.encode()
    return varint(len(content)) + content


def _read_text(content: bytes, place: int) -> tuple[str, int]:
    length, place = read_varint(content, place)
    if place + length > len(content):
        raise ValueError("the header ends within a name")
    return content[place : place + length].decode(), place + length


def check_bytes(tag: int, length: int) -> int:
    """Bytes of the checksum after a record's body of so many bytes."""
    return 2 if tag & BLOCK and length <= _SHORT_BODY else WORD.size


def record_check(content: bytes, number: int, seed: int) -> int:
    """The CRC-32 of a record, to be cut to the bytes it has; `number` is that of its block."""
    return crc32(content, crc32(varint(number), seed))


def pack_record(tag: int, body: bytes, number: int, seed: int) -> bytes:
    """A record.

    Args:
        tag: BLOCK with flags, or INDEX.
        body: What it holds.
        number: Of the block; of the index, how many blocks are before it.
        seed: The CRC-32 that ends the header.
    """
    content = bytes([tag]) + varint(len(body)) + body
    check = record_check(content, number, seed)
    return content + WORD.pack(check)[: check_bytes(tag, len(body))]


def pack_block(block: Block, header: Header, before: Block | None, seed: int) -> bytes:
    """A block's record; `before` is the block before it in its group."""
    tag, body, count = BLOCK | block.coding, b"", len(block.times)
    if before is not None and before.num_tokens == block.num_tokens:
        tag |= _SAME_TOKENS
    else:
        body += varint(block.num_tokens)
    if count == header.block_frames:
        tag |= _FULL
    else:
        body += varint(count)
    if before is not None and going_on(before.times, count) == block.times:
        tag |= _CLOCK_GOES_ON
    else:
        body += pack_times(block.times)
    if block.coding == UNDER_PRIOR:
        body += bytes([block.check])
    return pack_record(tag, body + block.payload, block.number, seed)


def unpack_block(tag: int, body: bytes, header: Header, number: int, before: Block | None) -> Block:
    """Block `number` from its record; `before` is the block before it in its group."""
    if not tag & BLOCK or tag & ~(BLOCK | _FLAGS):
        raise ValueError(f"a record of unknown kind {tag} before block {number}")
    coding, place = tag & UNDER_PRIOR, 0
    if coding == UNDER_PRIOR and header.prior is None:
        raise ValueError(f"block {number} is coded under a prior that the header does not name")
    if before is None and tag & (_SAME_TOKENS | _CLOCK_GOES_ON):
        raise ValueError(f"block {number} goes on from a block before its group")
    if before is not None and tag & _SAME_TOKENS:
        tokens = before.num_tokens
    else:
        tokens, place = read_varint(body, place)
    frames = header.block_frames
    if not tag & _FULL:
        frames, place = read_varint(body, place)
    if not 1 <= frames <= header.block_frames:
        raise ValueError(f"block {number} covers {frames} frames of {header.block_frames}")
    if before is not None and tag & _CLOCK_GOES_ON:
        times = going_on(before.times, frames)
        if times is None:
            raise ValueError(f"block {number} goes on with a clock that the one before has not")
    else:
        times, place = unpack_times(body, place, frames)
    check_times(times, -math.inf if before is None else before.times[-1])
    check = 0
    if coding == UNDER_PRIOR:
        check, place = read_byte(body, place)
    return Block(number, coding, tokens, times, body[place:], check)


def pack_index(index: Index, header: Header, seed: int) -> bytes:
    """The index record and the trailer."""
    lacking = index.blocks * header.block_frames - index.frames
    body = b"".join(map(varint, (index.blocks, lacking, index.tokens))) + WORD.pack(index.check)
    for before, place in zip(index.groups, index.groups[1:], strict=False):
        body += varint(place - before)
    record = pack_record(INDEX, body, index.blocks, seed)
    return record + WORD.pack(len(record)) + END_MAGIC


def unpack_index(body: bytes, header: Header, start: int) -> Index:
    """An index; `start` is the first byte after the header."""
    (blocks, lacking, tokens), place = read_varints(body, 0, 3)
    (check,) = WORD.unpack_from(body, place)
    place += WORD.size
    groups = [start]
    while place < len(body):
        step, place = read_varint(body, place)
        groups.append(groups[-1] + step)
    if len(groups) != -(-blocks // header.group_blocks):
        raise ValueError("its index does not fit its blocks")
    return Index(blocks, blocks * header.block_frames - lacking, tokens, check, tuple(groups))


def index_blocks(body: bytes) -> int:
    """How many blocks an index tells of, which its checksum begins with."""
    return read_varint(body, 0)[0]
