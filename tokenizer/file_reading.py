"""Reading token files: whole, by block and by time.

Any stretch is read without the rest, but for the blocks of its group before it where the coding
learns from them. It does not know how files are laid out or written, nor pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tokenizer.block_coder import BlockCoder, prior_of
from tokenizer.entropy import Prior
from tokenizer.record_file import RecordFile
from tokenizer.records import Block
from tokenizer.tokens import VideoTokens


class TokenReader(RecordFile):
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

    def __init__(self, path: Path | str, prior: Prior | None = None) -> None:
        super().__init__(path)
        self.prior = prior

    def read(self) -> VideoTokens:
        """All tokens."""
        return self._decode(list(self.blocks()), 0)

    def read_each(self) -> Iterator[Tensor]:
        """The codes of each block in turn, int64 (K,), one block in memory at a time."""
        coder = self.coder()
        for block in self.blocks():
            with self.naming_damage():
                codes = torch.from_numpy(coder.decode(block))
            yield codes

    def read_blocks(self, first: int, stop: int) -> VideoTokens:
        """The tokens of blocks number `first` to `stop` - 1, as `VideoTokens.blocks` cuts them."""
        if not 0 <= first < stop <= self.num_blocks:
            raise ValueError(
                f"{self.path}: blocks {first} to {stop}: it has blocks 0 to {self.num_blocks}"
            )
        chosen = []
        for block, _ in self.from_group(first // self.header.group_blocks):
            chosen.append(block)
            if block.number == stop - 1:
                break
        assert chosen[-1].number == stop - 1, "the index is checked"
        return self._decode(chosen, first)

    def read_between(self, start: float, end: float) -> VideoTokens:
        """The tokens of all blocks with a frame from `start` to before `end`, in seconds."""
        first, chosen = None, []
        for block, _ in self.from_group(self.group_at(start)):
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
        with self.naming_damage():
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
