"""Token files, `.kvt`: one clip's codes at their true bit width, checked byte by byte.

    8 bytes   magic
    u16 u32   version, length of the header
    header    JSON: coding, codec, size, codebook, frames, timestamps, tokens per block
    u32       CRC-32 of all before
    blocks    u32 length in bytes, packed codes (first code first, most significant bit first,
              zero bits up to a whole byte), u32 CRC-32 of number, length and codes

Little-endian. It does not know pixels or networks; decoding checks the codec's name.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch

from data.atomic import write_atomically
from tokenizer.rate import bits_per_code
from tokenizer.tokens import VideoTokens

MAGIC = b"\x89KVT\r\n\x1a\n"
VERSION = 1
_LEAD = struct.Struct("<HI")  # version, header length
_WORD = struct.Struct("<I")
_BLOCK = struct.Struct("<II")  # number (of the checksum only), length in bytes


@dataclass(frozen=True)
class TokenFile:
    """What a token file holds, in numbers."""

    tokens: VideoTokens
    coding: str  # how codes became bytes: packed
    version: int
    file_bytes: int
    code_bytes: int  # of the packed codes alone, without header and checksums

    @property
    def packed_bits_per_pixel(self) -> float:
        """Bits per pixel of the clip that the packed codes take."""
        clip = self.tokens
        return 8 * self.code_bytes / (clip.num_frames * clip.height * clip.width)


def pack(codes: np.ndarray, bits: int) -> bytes:
    """Codes at `bits` bits each, most significant first, filled with zero bits to a whole byte."""
    places = np.arange(bits - 1, -1, -1, dtype=np.uint64)
    spread = codes.astype(np.uint64)[:, None] >> places & np.uint64(1)
    return np.packbits(spread.astype(np.uint8).ravel()).tobytes()


def unpack(payload: bytes, bits: int, count: int) -> np.ndarray:
    """The inverse of `pack`: int64 (count,)."""
    if len(payload) != -(-bits * count // 8):
        raise ValueError(f"{len(payload)} bytes cannot hold {count} codes of {bits} bits")
    spread = np.unpackbits(np.frombuffer(payload, dtype=np.uint8))
    if spread[bits * count :].any():
        raise ValueError("bits are set after the last code")
    places = np.arange(bits - 1, -1, -1, dtype=np.int64)
    matrix = spread[: bits * count].reshape(count, bits).astype(np.int64)
    return (matrix << places).sum(1)


def save_tokens(tokens: VideoTokens, path: Path | str) -> TokenFile:
    """Write a token file, whole or not at all."""
    bits = bits_per_code(tokens.codebook_size)
    header = json.dumps(_header(tokens), separators=(",", ":")).encode()
    lead = MAGIC + _LEAD.pack(VERSION, len(header)) + header
    parts, code_bytes = [lead, _WORD.pack(crc32(lead))], 0
    for number, codes in enumerate(tokens.codes):
        values = codes.numpy()
        if values.min(initial=0) < 0 or values.max(initial=0) >= tokens.codebook_size:
            raise ValueError(f"codes of block {number} lie outside [0, {tokens.codebook_size})")
        payload = pack(values, bits)
        check = crc32(payload, crc32(_BLOCK.pack(number, len(payload))))
        parts += [_WORD.pack(len(payload)), payload, _WORD.pack(check)]
        code_bytes += len(payload)
    content = b"".join(parts)
    write_atomically(path, content)
    return TokenFile(tokens, "packed", VERSION, len(content), code_bytes)


def load_tokens(path: Path | str) -> VideoTokens:
    """Read the tokens of a file that `save_tokens` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a token file, of a newer version, truncated or damaged.
    """
    return read_token_file(path).tokens


def read_token_file(path: Path | str) -> TokenFile:
    """Read a token file with what is known of its bytes; raises as `load_tokens` does."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such token file: check the path")
    content = path.read_bytes()
    if content[: len(MAGIC)] != MAGIC:
        raise ValueError(f"{path}: not a token file: give a .kvt that `kinolex encode` wrote")
    try:
        return _parse(content)
    except NewerVersion as error:
        raise ValueError(
            f"{path}: token file of version {error}, newer than {VERSION}: upgrade kinolex"
        ) from None
    except (ValueError, KeyError, TypeError, struct.error, OverflowError) as error:
        raise ValueError(f"{path}: damaged token file ({error}): encode or copy it again") from None


class NewerVersion(Exception):
    """A version this code cannot read."""


def _header(tokens: VideoTokens) -> dict[str, Any]:
    times = tokens.timestamps.tolist()
    step = times[1] - times[0] if len(times) > 1 else 1.0
    even = len(times) > 2 and all(times[0] + i * step == t for i, t in enumerate(times))
    return {
        "coding": "packed",
        "codec_id": tokens.codec_id,
        "height": tokens.height,
        "width": tokens.width,
        "block_frames": tokens.block_frames,
        "codebook_size": tokens.codebook_size,
        "num_frames": tokens.num_frames,
        "timestamps": {"first": times[0], "step": step} if even else times,
        "tokens_per_block": [len(codes) for codes in tokens.codes],
    }


def _parse(content: bytes) -> TokenFile:
    if len(content) < len(MAGIC) + _LEAD.size:
        raise ValueError("it ends within its header")
    version, length = _LEAD.unpack_from(content, len(MAGIC))
    if version > VERSION:
        raise NewerVersion(version)
    place = len(MAGIC) + _LEAD.size + length
    if place + _WORD.size > len(content):
        raise ValueError("it ends within its header")
    if _WORD.unpack_from(content, place)[0] != crc32(content[:place]):
        raise ValueError("wrong checksum of the header")
    header = json.loads(content[place - length : place])
    if header["coding"] != "packed":
        raise ValueError(f"unknown coding {header['coding']!r}")
    place += _WORD.size
    bits, size = bits_per_code(header["codebook_size"]), header["codebook_size"]
    blocks, code_bytes = [], 0
    for number, count in enumerate(header["tokens_per_block"]):
        if place + _WORD.size > len(content):
            raise ValueError(f"it ends before block {number} of {len(header['tokens_per_block'])}")
        (length,) = _WORD.unpack_from(content, place)
        start = place + _WORD.size
        place = start + length + _WORD.size
        if place > len(content):
            raise ValueError(f"it ends within block {number}")
        payload = content[start : start + length]
        check = crc32(payload, crc32(_BLOCK.pack(number, length)))
        if _WORD.unpack_from(content, place - _WORD.size)[0] != check:
            raise ValueError(f"wrong checksum of block {number}")
        codes = unpack(payload, bits, count)
        if codes.max(initial=0) >= size:
            raise ValueError(f"block {number} has codes outside [0, {size})")
        blocks.append(torch.from_numpy(codes))
        code_bytes += length
    if place != len(content):
        raise ValueError(f"{len(content) - place} bytes follow its end")
    times = header["timestamps"]
    if isinstance(times, dict):
        times = [times["first"] + i * times["step"] for i in range(header["num_frames"])]
    tokens = VideoTokens(
        codes=tuple(blocks),
        timestamps=torch.tensor(times, dtype=torch.float64),
        height=header["height"],
        width=header["width"],
        block_frames=header["block_frames"],
        codebook_size=size,
        codec_id=header["codec_id"],
    )
    return TokenFile(tokens, header["coding"], version, len(content), code_bytes)
