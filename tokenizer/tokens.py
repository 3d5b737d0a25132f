"""`VideoTokens`: a clip as codes, the value between the codec, token files and the language model.

It knows its codes, block by block and coarse to fine within a block, and enough of the clip to
put it back in time and space. It does not know how codes become pixels, nor their bytes on disk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokenizer.rate import mean_duration, packed_bytes


@dataclass(frozen=True)
class VideoTokens:
    """Codes of one clip.

    codes: one int64 (K_b,) per temporal block, coarse to fine; K_b may differ from block to block.
    timestamps: float64 (num_frames,), seconds. The last block may cover fewer than `block_frames`
    frames of the clip: the codec padded it and crops on decoding.
    """

    codes: tuple[Tensor, ...]
    timestamps: Tensor
    height: int  # pixels, of the clip, before the codec's padding
    width: int  # pixels
    block_frames: int  # frames per temporal block
    codebook_size: int  # codes lie in [0, codebook_size)
    codec_id: str

    def __post_init__(self) -> None:
        blocks = math.ceil(self.num_frames / self.block_frames)
        if len(self.codes) != blocks:
            raise ValueError(
                f"{len(self.codes)} blocks of codes for {self.num_frames} frames: "
                f"blocks of {self.block_frames} frames make {blocks}"
            )

    @property
    def num_frames(self) -> int:
        return len(self.timestamps)

    @property
    def num_tokens(self) -> int:
        return sum(len(block) for block in self.codes)

    @property
    def tokens_per_frame(self) -> float:
        """Tokens spent per frame of the clip, over the whole clip."""
        return self.num_tokens / self.num_frames

    @property
    def bits_per_token(self) -> float:
        """Nominal bits of one token: log2 of the codebook."""
        return math.log2(self.codebook_size)

    @property
    def bits_per_pixel(self) -> float:
        """Nominal bits per pixel of the clip (not of the padded area)."""
        pixels = self.num_frames * self.height * self.width
        return self.num_tokens * self.bits_per_token / pixels

    @property
    def bits_per_second(self) -> float | None:
        """Nominal bits per second of video; None for a single frame, which has no duration."""
        duration = self.duration
        return None if duration is None else self.num_tokens * self.bits_per_token / duration

    @property
    def duration(self) -> float | None:
        """Seconds of video, the last frame's share included; None for a single frame."""
        return mean_duration(self.timestamps.tolist())

    @property
    def packed_bits(self) -> int:
        """Bits of all codes at their whole bit width, each block filled up to a whole byte."""
        return 8 * sum(packed_bytes(len(block), self.codebook_size) for block in self.codes)

    def blocks(self, first: int, stop: int) -> VideoTokens:
        """The tokens of blocks number `first` to `stop` - 1, with their frames' own times.

        A codec decodes them as a clip of their own, so that frames right after the cut may differ
        from those of the whole, which knew what came before.
        """
        if not 0 <= first < stop <= len(self.codes):
            raise ValueError(f"blocks {first} to {stop} of a clip with {len(self.codes)}")
        frames = slice(first * self.block_frames, stop * self.block_frames)
        return replace(self, codes=self.codes[first:stop], timestamps=self.timestamps[frames])

    def keep(self, tokens_per_block: int) -> VideoTokens:
        """The coarse part: at most `tokens_per_block` (>= 1) tokens of each block."""
        if tokens_per_block < 1:
            raise ValueError(f"tokens_per_block={tokens_per_block}: at least one token a block")
        return replace(self, codes=tuple(block[:tokens_per_block] for block in self.codes))

    def to_record(self) -> tuple[np.ndarray, dict[str, Any]]:
        """All codes in one array and the rest as JSON values, for token shards."""
        info = {
            "tokens_per_block": [len(block) for block in self.codes],
            "timestamps": self.timestamps.tolist(),
            "height": self.height,
            "width": self.width,
            "block_frames": self.block_frames,
            "codebook_size": self.codebook_size,
            "codec_id": self.codec_id,
        }
        return torch.cat(self.codes).numpy(), info

    @classmethod
    def from_record(cls, codes: np.ndarray, info: dict[str, Any]) -> VideoTokens:
        """The inverse of `to_record`."""
        flat = torch.from_numpy(np.asarray(codes, dtype=np.int64))
        return cls(
            codes=tuple(flat.split(info["tokens_per_block"])),
            timestamps=torch.tensor(info["timestamps"], dtype=torch.float64),
            height=info["height"],
            width=info["width"],
            block_frames=info["block_frames"],
            codebook_size=info["codebook_size"],
            codec_id=info["codec_id"],
        )
