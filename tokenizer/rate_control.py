"""Rate control: how many tokens each block of a clip gets, where its pictures decide.

The encoder's codes do not depend on the rate, so one pass of it is enough. One pass of the decoder
then tries several counts of each block, as rows side by side; a row sends all its blocks at its own
count, so its error is exactly that of this even rate, and for a mixture of rows an estimate (it
takes each block's past as sent at the block's own count). Streams use the same steps. It knows
neither networks nor files.

Legend: K tokens of a block, C counts tried, T, H, W frames of a block and pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tokenizer.allocation import error_at, share_out, tried_counts, whole_step
from tokenizer.blocks import Probe, pad_frames
from tokenizer.metrics import psnr, squared_error
from tokenizer.rate import Rate, RateError
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from tokenizer.codec import Codec

WINDOW = 8  # blocks among which `auto` shares tokens out: the last one and those before it
PER_OCTAVE = 1  # counts tried for each doubling
PER_OCTAVE_PSNR = 4  # `psnr` picks one of those tried
ROW_PIXELS = 2**20  # decoded at a time, so that memory does not grow with the counts tried


@dataclass(frozen=True)
class RateChoice:
    """A clip at the rate that was chosen for it."""

    rate: Rate  # what was asked for
    tokens: VideoTokens  # the outcome
    psnr: float | None  # dB of the decoded clip; None where the rate does not look at pictures
    exact: bool  # whether `psnr` is what decoding gives; else an estimate
    encoder_passes: int
    decoder_passes: int  # one tries all counts of each block

    @property
    def tokens_per_block(self) -> tuple[int, ...]:
        """Tokens chosen for each block."""
        return tuple(len(codes) for codes in self.tokens.codes)


class RateControl:
    """Chooses the rate of one clip, which is handed over block by block.

    Args:
        codec: The codec, in eval mode.
        rate: What is asked for.
        height: Pixels.
        width: Pixels.

    Raises:
        RateError: A rate that the codec does not serve at this size.
    """

    def __init__(self, codec: Codec, rate: Rate, height: int, width: int) -> None:
        self.codec, self.rate = codec, rate
        self.served = codec.served(height, width)
        self.served.check(rate)
        self._probe = start_probe(codec, rate, height, width) if rate.by_content else None
        self._codes: list[Tensor] = []
        self._curves: list[list[float]] = []  # squared error summed over the block's own frames
        self._auto: list[int] = []  # tokens of each block

    def add(self, frames: Tensor, codes: Tensor) -> None:
        """The next block.

        Args:
            frames: uint8 (n, 3, H, W); only the last block may have fewer than T.
            codes: int64 (K,), all that the encoder gives.
        """
        self._codes.append(codes)
        if self._probe is None:
            return
        errors, self._probe = try_counts(self.codec, self._probe, frames, codes)
        self._curves.append(errors[:, : len(frames)].sum(1).tolist())
        if self.rate.auto is not None:
            count, self._probe = auto_count(self._probe, self.rate.auto * self.served.slots)
            self._auto.append(count)

    def choose(self, timestamps: Tensor) -> RateChoice:
        """The clip at its rate, after the last block; `timestamps` float64 (frames,), seconds.

        Raises:
            RateError: A rate that this clip cannot have.
        """
        blocks = len(self._codes)
        self.served.check(self.rate, blocks)
        if self._probe is None:
            spent = [self.served.count(self.rate, block) for block in range(blocks)]
        elif self.rate.psnr is not None:
            spent = [self._lowest(self.rate.psnr, len(timestamps))] * blocks
        elif self.rate.budget is not None:
            spent = share_out(self._probe.counts, self._curves, self.rate.budget)
        else:
            spent = self._auto
        tokens = VideoTokens(
            codes=tuple(c[:count].clone() for c, count in zip(self._codes, spent, strict=True)),
            timestamps=timestamps.double(),
            height=self.served.height,
            width=self.served.width,
            block_frames=self.codec.block_frames,
            codebook_size=self.codec.codebook_size,
            codec_id=self.codec.tokens_id,
        )
        reached, exact = None, False
        if self._probe is not None:
            counts, pairs = self._probe.counts, zip(self._curves, spent, strict=True)
            total = sum(error_at(counts, curve, count) for curve, count in pairs)
            reached = psnr(total / len(timestamps))
            exact = len(set(spent)) == 1 and spent[0] in counts
        return RateChoice(self.rate, tokens, reached, exact, 1, int(reached is not None))

    def _lowest(self, target: float, num_frames: int) -> int:
        """The lowest count tried at which the clip's PSNR in dB is at least `target`."""
        assert self._probe is not None
        sums = torch.tensor(self._curves, dtype=torch.float64).sum(0)  # (C,)
        reached = [psnr(total / num_frames) for total in sums]
        for count, value in zip(self._probe.counts, reached, strict=True):
            if value >= target:
                return count
        raise RateError(
            f"psnr={target:g}: this codec reaches {reached[0]:.2f} dB with one token a block to "
            f"{max(reached):.2f} dB at most on this clip"
        )


def start_probe(codec: Codec, rate: Rate, height: int, width: int) -> Probe:
    """The state before the first block of a stream whose blocks are tried at several counts."""
    per_octave = PER_OCTAVE if rate.psnr is None else PER_OCTAVE_PSNR
    counts = tried_counts(codec.slots_per_block(height, width), codec.summary, per_octave)
    rows = max(1, ROW_PIXELS // (codec.block_frames * height * width))
    groups = -(-len(counts) // rows)
    return Probe(counts, (codec.start_decoding(height, width),) * groups)


def try_counts(codec: Codec, probe: Probe, frames: Tensor, codes: Tensor) -> tuple[Tensor, Probe]:
    """Decode a block at each count, every count continuing its own past.

    Args:
        codec: The codec.
        probe: What `start_probe` or the last call returned; it is not changed.
        frames: uint8 (n, 3, H, W), up to T; the last one stands for those that are missing.
        codes: int64 (K,), all of the block's.

    Returns:
        Mean squared error of each frame, missing ones included, float64 (C, T), and the next state.
    """
    whole = pad_frames(frames[None], codec.block_frames, 1)[0]
    errors, decoders = [], []
    runs = torch.tensor(probe.counts).tensor_split(len(probe.decoders))
    for run, decoder in zip(runs, probe.decoders, strict=True):
        pixels, decoder = codec.decode_step([codes[:count] for count in run.tolist()], decoder)
        errors += [squared_error(row, whole) for row in pixels]
        decoders.append(decoder)
    error = torch.stack(errors)
    curve = tuple(error.mean(1).tolist())
    curves = (*probe.curves, curve)[-WINDOW:]
    return error, replace(probe, decoders=tuple(decoders), curves=curves)


def auto_count(probe: Probe, mean: float) -> tuple[int, Probe]:
    """Tokens of the block tried last, and the next state.

    The block gets what it would get of `mean` tokens for each block of the window, shared out among
    them. What blocks left of their mean, or overspent, is carried on, up to a window's worth.
    """
    blocks, bound = len(probe.curves), WINDOW * mean
    total = min(max(round(mean * blocks + probe.credit), blocks), blocks * probe.counts[-1])
    share = share_out(probe.counts, probe.curves, total)[-1]
    count = whole_step(probe.counts, probe.curves[-1], share)
    credit = min(max(probe.credit + mean - count, -bound), bound)
    return count, replace(probe, credit=credit)
