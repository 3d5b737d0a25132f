"""Writing token files, block by block, without knowing how many there will be.

It does not know pixels.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from zlib import crc32

from torch import Tensor

from tokenizer.block_coder import BlockCoder
from tokenizer.block_times import check_times
from tokenizer.entropy import Prior
from tokenizer.file_reading import TokenReader
from tokenizer.record_file import UnclosedWarning
from tokenizer.records import (
    WORD,
    Block,
    Header,
    Index,
    pack_block,
    pack_header,
    pack_index,
)


class TokenWriter:
    """Writes a token file; each block is with the system when `append` returns.

    As a context manager it closes the file on leaving, unless by an exception: then the file ends
    after its last whole block and reading it warns. Write to a temporary name (data/atomic.py)
    where half a file must not be found.

    Args:
        path: File to write, replaced if it is there.
        codec_id: As in `VideoTokens`, like the next four.
        height: Pixels.
        width: Pixels.
        block_frames: Frames per block.
        codebook_size: Codes lie in [0, codebook_size).
        prior: Codes under it; None packs them. A block that packs smaller is packed.
        group_blocks: After so many blocks a prior that carries over starts anew, so that reading
            can start there, and the index has an entry for each such group.

    Raises:
        ValueError: A prior of another codec, or a value out of range.
    """

    def __init__(
        self,
        path: Path | str,
        codec_id: str,
        height: int,
        width: int,
        block_frames: int,
        codebook_size: int,
        prior: Prior | None = None,
        group_blocks: int = 256,
    ) -> None:
        self.header = Header(
            codec_id=codec_id,
            height=height,
            width=width,
            block_frames=block_frames,
            codebook_size=codebook_size,
            coding="packed" if prior is None else prior.kind,
            prior=None if prior is None else prior.name,
            layout=None if prior is None else prior.layout,
            group_blocks=group_blocks,
        )
        self._coder = BlockCoder(self.header, prior)
        lead = pack_header(self.header)
        (self._seed,) = WORD.unpack(lead[-WORD.size :])
        self._check, self._place = self._seed, len(lead)
        self._groups: list[int] = []
        self._blocks = self._frames = self._tokens = 0
        self._before: Block | None = None
        self._file = open(path, "wb")
        self._write(lead)

    @classmethod
    def reopen(
        cls, path: Path | str, prior: Prior | None = None
    ) -> tuple[TokenWriter, Block | None]:
        """Go on with a file, closed or not, as if it had never been ended.

        Args:
            path: File that a `TokenWriter` wrote.
            prior: The one it was written with.

        Returns:
            The writer after the last full block, and the last block if it was not full: it is
            taken off, to be written again once it is.

        Raises:
            FileNotFoundError, ValueError: As `TokenReader` does; nothing was changed then.
        """
        writer = cls.__new__(cls)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnclosedWarning)
            reader = TokenReader(path, prior)
        with reader:
            header = writer.header = reader.header
            writer._coder, taken = reader.coder(), None
            writer._seed = writer._check = reader.seed
            writer._place, writer._before = reader.start, None
            writer._groups, writer._blocks, writer._frames, writer._tokens = [], 0, 0, 0
            last = (reader.num_blocks - 1) // header.group_blocks
            for block, record in reader.records():
                if len(block.times) < header.block_frames:
                    taken = block
                    break
                if writer._coder.carries_over and block.number // header.group_blocks == last:
                    writer._coder.decode(block)
                writer._count(block, record)
        writer._file = open(path, "r+b")
        writer._file.seek(writer._place)
        writer._file.truncate()
        return writer, taken

    def append(self, codes: Tensor, times: Sequence[float] | Tensor) -> None:
        """Add the next block.

        Args:
            codes: int64 (K,), K >= 1, coarse to fine.
            times: Seconds of each frame the block covers: `block_frames` of them, but for the
                last block, which may cover fewer.

        Raises:
            ValueError: Codes outside the codebook, times that do not increase, a wrong number of
                frames or tokens. Nothing was written then.
        """
        header, number = self.header, self._blocks
        seconds, values = tuple(map(float, times)), codes.numpy()
        if not 1 <= len(seconds) <= header.block_frames:
            most = header.block_frames
            raise ValueError(f"block {number} covers {len(seconds)} frames: give 1 to {most}")
        if self._frames % header.block_frames:
            raise ValueError(f"block {number} follows one that was not full: only the last may be")
        if not len(values):
            raise ValueError(f"block {number} has no tokens: give at least one")
        if values.min() < 0 or values.max() >= header.codebook_size:
            raise ValueError(f"codes of block {number} lie outside [0, {header.codebook_size})")
        check_times(seconds, -math.inf if self._before is None else self._before.times[-1])
        block = self._coder.encode(number, values, seconds)
        before = self._before if number % header.group_blocks else None
        record = pack_block(block, header, before, self._seed)
        self._write(record)
        self._count(block, record)

    def close(self) -> None:
        """Write the index, which makes the file whole. Closing again does nothing."""
        if self._file.closed:
            return
        if not self._blocks:
            raise ValueError(f"{self._file.name}: no blocks: a token file has at least one frame")
        groups = tuple(self._groups)
        index = Index(self._blocks, self._frames, self._tokens, self._check, groups)
        self._write(pack_index(index, self.header, self._seed))
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self._file.close()

    def _count(self, block: Block, record: bytes) -> None:
        """Take a block that stands in the file into what the index will say."""
        if block.number % self.header.group_blocks == 0:
            self._groups.append(self._place)
        self._check, self._before = crc32(record, self._check), block
        self._blocks, self._tokens = block.number + 1, self._tokens + block.num_tokens
        self._frames += len(block.times)
        self._place += len(record)

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._file.flush()
