"""Token files, `.kvt`: one clip's tokens as a file, and what such a file costs in bits.

The parts: records.py (bytes), entropy.py and priors.py (coding), block_coder.py, file_writing.py
(streams), file_reading.py (random access). It does not know pixels or networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from data.atomic import atomic_path
from tokenizer.entropy import Prior
from tokenizer.file_reading import TokenReader
from tokenizer.file_writing import TokenWriter
from tokenizer.rate import Bits, mean_duration, packed_bytes
from tokenizer.records import UNDER_PRIOR
from tokenizer.tokens import VideoTokens


@dataclass(frozen=True)
class TokenFile:
    """What a token file holds, in numbers."""

    path: str
    version: int
    closed: bool  # whether its writer came to its end; if not, the figures are of what is there
    codec_id: str
    coding: str  # packed, static, adaptive, model
    prior: str | None  # the prior's name with its version or hash
    height: int  # pixels
    width: int  # pixels
    num_frames: int
    duration: float | None  # seconds, the last frame's share included; None for a single frame
    block_frames: int  # frames per block
    codebook_size: int
    num_tokens: int
    tokens_per_frame: float
    file_bytes: int
    nominal: Bits  # log2 of the codebook for each token
    packed: Bits  # whole bits for each token, whole bytes for each block
    coded: Bits | None  # payloads as written under the prior; None if there is none
    whole: Bits  # the file: payloads, frame times, checksums, header and index
    coded_blocks: int  # blocks that were shorter under the prior than packed
    tokens_per_block: tuple[int, ...]
    bits_per_block: tuple[int, ...]  # of the payloads as written

    def __str__(self) -> str:
        end = "" if self.closed else ", never closed"
        length = "a still" if self.duration is None else f"{self.duration:.3f} s"
        number = len(self.tokens_per_block)
        prior = ""
        if self.prior is not None:
            rest = "" if self.coded_blocks == number else ", the rest smaller packed"
            prior = f" under {self.prior}, {self.coded_blocks} of {number} blocks{rest}"
        codes = f"{self.codebook_size} codes, {self.block_frames} frames a block"
        rates = [count / self.block_frames for count in self.tokens_per_block]
        lines = [
            f"{self.path}: version {self.version}, {self.file_bytes} bytes{end}",
            f"clip: {self.height}x{self.width} pixels, {self.num_frames} frames, {length}",
            f"codec: {self.codec_id}, {codes}",
            f"coding: {self.coding}{prior}",
            f"tokens: {self.num_tokens} in {number} blocks, {self.tokens_per_frame:.4g} a "
            f"frame ({min(rates):.4g} to {max(rates):.4g} by block)",
            f"{'bits':<8} {'total':>12} {'a token':>9} {'a pixel':>10} {'a second':>12}",
        ]
        figures = ("nominal", self.nominal), ("packed", self.packed), ("coded", self.coded)
        for name, bits in (*figures, ("file", self.whole)):
            if bits is not None:
                second = "" if bits.per_second is None else f"{bits.per_second:.1f}"
                row = f"{bits.total:>12.0f} {bits.per_token:>9.4g} {bits.per_pixel:>10.4g}"
                lines.append(f"{name:<8} {row} {second:>12}".rstrip())
        shown = " ".join(map(str, self.tokens_per_block[:32]))
        more = len(rates) - 32
        lines.append(f"tokens by block: {shown}" + (f" ... ({more} more)" if more > 0 else ""))
        return "\n".join(lines)


def save_tokens(
    tokens: VideoTokens, path: Path | str, prior: Prior | None = None, group_blocks: int = 256
) -> TokenFile:
    """Write a token file, whole or not at all; `prior` and `group_blocks` as for `TokenWriter`."""
    with atomic_path(path) as partial:
        with TokenWriter(
            partial,
            tokens.codec_id,
            tokens.height,
            tokens.width,
            tokens.block_frames,
            tokens.codebook_size,
            prior,
            group_blocks,
        ) as writer:
            times = tokens.timestamps.split(tokens.block_frames)
            for codes, covered in zip(tokens.codes, times, strict=True):
                writer.append(codes, covered)
    return describe(path)


def load_tokens(path: Path | str, prior: Prior | None = None) -> VideoTokens:
    """Read all tokens of a file; arguments and errors are those of `TokenReader`."""
    with TokenReader(path, prior) as reader:
        return reader.read()


def describe(path: Path | str) -> TokenFile:
    """What a token file holds, its checksums compared, no code decoded, so no prior needed.

    Raises:
        FileNotFoundError, ValueError: As `TokenReader` does.
    """
    counts, bits, times, coded_blocks = [], [], [], 0
    with TokenReader(path) as reader:
        for block in reader.blocks():
            counts.append(block.num_tokens)
            bits.append(8 * len(block.payload))
            times += block.times
            coded_blocks += block.coding == UNDER_PRIOR
        header = reader.header
    size, total = header.codebook_size, sum(counts)
    duration = mean_duration(times)
    pixels = len(times) * header.height * header.width

    def cost(bits: float) -> Bits:
        return Bits.of(bits, total, pixels, duration)

    return TokenFile(
        path=str(path),
        version=reader.version,
        closed=reader.closed,
        codec_id=header.codec_id,
        coding=header.coding,
        prior=header.prior,
        height=header.height,
        width=header.width,
        num_frames=len(times),
        duration=duration,
        block_frames=header.block_frames,
        codebook_size=size,
        num_tokens=total,
        tokens_per_frame=total / len(times),
        file_bytes=reader.file_bytes,
        nominal=cost(total * math.log2(size)),
        packed=cost(8 * sum(packed_bytes(count, size) for count in counts)),
        coded=None if header.prior is None else cost(sum(bits)),
        whole=cost(8 * reader.file_bytes),
        coded_blocks=coded_blocks,
        tokens_per_block=tuple(counts),
        bits_per_block=tuple(bits),
    )
