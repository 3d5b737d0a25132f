"""Token files of version 1, read only: the header holds all lengths and times, codes are packed.

After the header, for each block: u32 length in bytes, packed codes, u32 CRC-32 of number, length
and codes.
"""

from __future__ import annotations

import struct
from typing import Any
from zlib import crc32

from tokenizer.records import PACKED, WORD, Block, Header

_BLOCK = struct.Struct("<II")  # number (of the checksum only), length in bytes


def read_v1(fields: dict[str, Any], content: bytes) -> tuple[Header, list[Block]]:
    """The parts of a file, from the JSON of its header and the bytes that follow that.

    Raises:
        ValueError, KeyError, TypeError: It is damaged.
    """
    if fields["coding"] != "packed":
        raise ValueError(f"unknown coding {fields['coding']!r}")
    names = ("codec_id", "height", "width", "block_frames", "codebook_size")
    header = Header(**{name: fields[name] for name in names})
    counts, num_frames = fields["tokens_per_block"], fields["num_frames"]
    if -(-num_frames // header.block_frames) != len(counts):
        raise ValueError(f"{num_frames} frames in {len(counts)} blocks")
    times = fields["timestamps"]
    if isinstance(times, dict):
        times = [times["first"] + i * times["step"] for i in range(num_frames)]
    if len(times) != num_frames:
        raise ValueError(f"{len(times)} times of {num_frames} frames")
    blocks, place = [], 0
    for number, count in enumerate(counts):
        if place + WORD.size > len(content):
            raise ValueError(f"it ends before block {number} of {len(counts)}")
        (length,) = WORD.unpack_from(content, place)
        start = place + WORD.size
        place = start + length + WORD.size
        if place > len(content):
            raise ValueError(f"it ends within block {number}")
        payload = content[start : start + length]
        check = crc32(payload, crc32(_BLOCK.pack(number, length)))
        if WORD.unpack_from(content, place - WORD.size)[0] != check:
            raise ValueError(f"wrong checksum of block {number}")
        first = number * header.block_frames
        covered = tuple(map(float, times[first : first + header.block_frames]))
        blocks.append(Block(number, PACKED, count, covered, payload))
    if place != len(content):
        raise ValueError(f"{len(content) - place} bytes follow its end")
    return header, blocks
