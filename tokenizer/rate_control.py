"""Rate control: how many tokens each block of a clip gets, where its pictures decide.

The encoder's codes do not depend on the rate, so one pass of it is enough. One pass of the decoder
then tries several counts of each block, as rows side by side; a row sends all its blocks at its own
count, so its error is exactly that of this even rate, and for a mixture of rows an estimate (it
takes each block's past as sent at the block's own count). Streams use the same steps. It knows
neither networks nor files.

Legend: K tokens of a block, C counts tried, T, H, W frames of a block and pixels.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tokenizer.allocation import error_at, share_out, tried_counts, whole_step
from tokenizer.blocks import EncoderState, Probe, pad_frames
from tokenizer.memory import give_back_memory
from tokenizer.metrics import psnr, squared_error
from tokenizer.rate import Rate, RateError
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from tokenizer.codec import Codec

WINDOW = 8  # blocks among which `auto` shares tokens out: the last one and those before it
PER_OCTAVE = 1  # counts tried for each doubling
PER_OCTAVE_PSNR = 4  # `psnr` picks one of those tried
ROW_PIXELS = 2**19  # decoded at a time, so that memory does not grow with the counts tried


@dataclass(frozen=True)
class Reached:
    """How close a clip comes at the rate that was chosen for it."""

    psnr: float | None  # dB of the decoded clip; None where the rate does not look at pictures
    exact: bool  # whether `psnr` is what decoding gives; else an estimate


@dataclass(frozen=True)
class RateChoice:
    """A clip at the rate that was chosen for it."""

    rate: Rate  # what was asked for
    tokens: VideoTokens  # the outcome
    psnr: float | None  # as in `Reached`, like the next one
    exact: bool
    encoder_passes: int
    decoder_passes: int  # one tries all counts of each block

    @property
    def tokens_per_block(self) -> tuple[int, ...]:
        """Tokens chosen for each block."""
        return tuple(len(codes) for codes in self.tokens.codes)


class RateStream:
    """Says how many tokens blocks keep, one after the other, and holds nothing of those it told.

    Where the rate depends on the whole clip it tells at the end. Until then it holds all codes, in
    1, 2 or 4 bytes each as the codebook asks, and a number for each count tried of each block.

    Args:
        codec: The codec, in eval mode.
        rate: What is asked for.
        height: Pixels.
        width: Pixels.
        state: Of the stream that is gone on with; None before the first block.

    Raises:
        RateError: A rate that the codec does not serve at this size.
    """

    def __init__(
        self,
        codec: Codec,
        rate: Rate,
        height: int,
        width: int,
        state: EncoderState | None = None,
    ) -> None:
        self.codec, self.rate = codec, rate
        self.served = codec.served(height, width)
        self.served.check(rate)
        self.probe = None if state is None else state.probe
        if rate.by_content and self.probe is None:
            self.probe = start_probe(codec, rate, height, width)
        self._number = 0 if state is None else state.num_blocks
        self._codes: list[np.ndarray] = []  # of each block, while the rate waits for the last
        self._curves = array("d")  # likewise: squared error summed over frames, at each count
        self._frames = 0
        self._error = 0.0  # squared error, summed over frames
        self._spent: set[int] = set()  # numbers of tokens that blocks were given

    def add(self, frames: Tensor, codes: Tensor) -> Tensor | None:
        """The next block.

        Args:
            frames: uint8 (n, 3, H, W); only the last block may have fewer than T.
            codes: int64 (K,), all that the encoder gives.

        Returns:
            The codes to keep; None where the rate depends on the whole clip, see `settle`.

        Raises:
            RateError: Counts for each block were given, but none for this one.
        """
        number, self._number = self._number, self._number + 1
        self._frames += len(frames)
        if self.probe is None:
            return codes[: self.served.count(self.rate, number)]
        errors, self.probe = try_counts(self.codec, self.probe, frames, codes)
        curve = errors[:, : len(frames)].sum(1).tolist()
        if self.rate.auto is None:
            small = np.min_scalar_type(self.codec.codebook_size - 1)
            self._codes.append(codes.numpy().astype(small))
            self._curves.extend(curve)
            return None
        count, self.probe = auto_count(self.probe, self.rate.auto * self.served.slots)
        self._spend(curve, count)
        return codes[:count]

    def settle(self) -> Iterator[Tensor]:
        """The codes to keep of each block, int64, after the last, where `add` told none.

        Raises:
            RateError: A rate that this clip cannot have.
        """
        assert self.probe is not None and self.rate.whole_clip
        self.served.check(self.rate, len(self._codes))
        counts = self.probe.counts
        curves = torch.frombuffer(self._curves, dtype=torch.float64).reshape(-1, len(counts))
        if self.rate.psnr is not None:
            spent = [self._lowest(self.rate.psnr, curves.sum(0))] * len(curves)
        else:
            assert self.rate.budget is not None
            spent = share_out(counts, curves.tolist(), self.rate.budget)
        for curve, count in zip(curves, spent, strict=True):
            self._spend(curve.tolist(), count)
        pairs = zip(self._codes, spent, strict=True)
        return (torch.from_numpy(codes[:count].astype(np.int64)) for codes, count in pairs)

    def reached(self) -> Reached:
        """How close the blocks come whose tokens were told."""
        if self.probe is None:
            return Reached(None, False)
        exact = len(self._spent) == 1 and self._spent <= {*self.probe.counts}
        return Reached(psnr(self._error / self._frames), exact)

    def _spend(self, curve: Sequence[float], count: int) -> None:
        assert self.probe is not None
        self._error += error_at(self.probe.counts, curve, count)
        self._spent.add(count)

    def _lowest(self, target: float, sums: Tensor) -> int:
        """The lowest count tried at which the clip's PSNR in dB is at least `target`."""
        assert self.probe is not None
        reached = [psnr(total / self._frames) for total in sums]
        for count, value in zip(self.probe.counts, reached, strict=True):
            if value >= target:
                return count
        raise RateError(
            f"psnr={target:g}: this codec reaches {reached[0]:.2f} dB with one token a block to "
            f"{max(reached):.2f} dB at most on this clip"
        )


class RateControl:
    """Chooses the rate of one clip, which is handed over block by block, and holds its tokens.

    Arguments and errors are those of `RateStream`.
    """

    def __init__(self, codec: Codec, rate: Rate, height: int, width: int) -> None:
        self._stream = RateStream(codec, rate, height, width)
        self._kept: list[Tensor] = []

    def add(self, frames: Tensor, codes: Tensor) -> None:
        """The next block, as for `RateStream.add`."""
        kept = self._stream.add(frames, codes)
        if kept is not None:
            self._kept.append(kept.clone())

    def choose(self, timestamps: Tensor) -> RateChoice:
        """The clip at its rate, after the last block; `timestamps` float64 (frames,), seconds.

        Raises:
            RateError: A rate that this clip cannot have.
        """
        stream = self._stream
        kept = stream.settle() if stream.rate.whole_clip else self._kept
        tokens = VideoTokens(
            codes=tuple(kept),
            timestamps=timestamps.double(),
            height=stream.served.height,
            width=stream.served.width,
            block_frames=stream.codec.block_frames,
            codebook_size=stream.codec.codebook_size,
            codec_id=stream.codec.tokens_id,
        )
        found = stream.reached()
        passes = int(found.psnr is not None)
        return RateChoice(stream.rate, tokens, found.psnr, found.exact, 1, passes)


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
    give_back_memory()
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
