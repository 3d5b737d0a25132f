"""Codec evaluation: reconstruction at several rates beside trivial baselines, with its protocol.

Clips are decoded and scored block by block, so that memory holds little besides the clip itself.
It knows pixels and codes, not what the clips show.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from data.clip import Clip
from data.source import Source
from tokenizer.blocks import SizeWarning, is_far
from tokenizer.codec import Codec
from tokenizer.metrics import CodeUsage, moving, psnr
from tokenizer.rate import FULL, Rate, RateError, packed_bytes
from tokenizer.rate_control import RateControl
from tokenizer.reporting import ClipRate, ClipScore, CodecReport, RateScore
from tokenizer.tally import MeanColour, Tally

Progress = Callable[[float, int], None]  # clips done, parts of one included; in all
METRICS = "psnr|rgb|0..255|pooled-mse;ssim|gauss11|rgb;moving|grey>8;kinolex-codec-v1"


class _Meter:
    """One rate being measured."""

    def __init__(self, rate: Rate, codec: Codec) -> None:
        self.rate = rate
        self.codebook_size = codec.codebook_size
        self.bits_per_token = math.log2(codec.codebook_size)
        self.tally, self.usage = Tally(), CodeUsage(codec.codebook_size)
        self.tokens = self.frames = self.packed_bits = 0
        self.area = 0  # pixels of all clips
        self.left_out = 0
        self._before = (0, 0, 0)  # tokens, frames and area before this clip

    def add(self, frames: Tensor, pixels: Tensor, mask: Tensor, codes: Tensor) -> None:
        self.tally.add(frames, pixels, mask)
        self.usage.update(codes)
        self.tokens += len(codes)
        self.frames += len(frames)
        self.area += len(frames) * frames.shape[-2] * frames.shape[-1]
        self.packed_bits += 8 * packed_bytes(len(codes), self.codebook_size)

    def end_clip(self) -> ClipRate:
        self.tally.end_clip()
        now = (self.tokens, self.frames, self.area)
        tokens, frames, area = (a - b for a, b in zip(now, self._before, strict=True))
        self._before = now
        return ClipRate(
            self.rate,
            tokens_per_frame=tokens / max(1, frames),
            bits_per_pixel=tokens * self.bits_per_token / max(1, area),
            psnr=psnr(self.tally.clip_errors[-1]),
        )

    def result(self) -> RateScore:
        return RateScore(
            self.rate,
            tokens_per_frame=self.tokens / max(1, self.frames),
            bits_per_pixel=self.tokens * self.bits_per_token / max(1, self.area),
            packed_bits_per_pixel=self.packed_bits / max(1, self.area),
            score=self.tally.score(),
            used_codes=self.usage.used,
            perplexity=self.usage.perplexity,
            entropy_bits=self.usage.entropy,
        )


def evaluate(
    codec: Codec,
    source: Source,
    rates: Sequence[float | Rate] = (),
    num_clips: int | None = None,
    progress: Progress | None = None,
    *,
    by_clip: bool = False,
) -> CodecReport:
    """Score a codec on clips of any length and size.

    Args:
        codec: The codec, in eval mode.
        source: The clips; their pixels are the truth.
        rates: Rates to try besides the full one; numbers are tokens per frame. A rate that a clip
            cannot have leaves that clip out of that rate, counted in `left_out`.
        num_clips: At most so many clips, the first ones; None for all.
        progress: Told the clips done, parts of one included, and the clips in all.
        by_clip: Whether to report each clip's scores as well.
    """
    began = time.perf_counter()
    total = len(source) if num_clips is None else min(num_clips, len(source))
    if total < 1:
        raise ValueError(f"num_clips={num_clips} of {len(source)}: evaluation wants at least one")
    asked = [FULL, *(rate if isinstance(rate, Rate) else Rate(rate) for rate in rates)]
    meters = [_Meter(rate, codec) for rate in asked]
    mean, first = MeanColour(), Tally()
    frames, sizes, clips = 0, dict[tuple[int, int], None](), list[ClipScore]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SizeWarning)  # one for all clips follows
        for number in range(total):
            clip = source[number]
            sizes[clip.height, clip.width] = None
            frames += len(clip)
            told = _telling(number, total, progress)
            scores = _score_clip(codec, clip, meters, mean, first, told)
            if by_clip:
                still, name = psnr(first.clip_errors[-1]), clip.source or f"{source.name} {number}"
                clips.append(ClipScore(name, clip.height, clip.width, len(clip), still, scores))
    warn_of_sizes(codec, sizes)
    return CodecReport(
        codec_id=codec.codec_id,
        protocol=METRICS,
        source=source.name,
        num_clips=total,
        num_frames=frames,
        sizes=[f"{height}x{width}" for height, width in sizes][:8],
        rates=[meter.result() for meter in meters if meter.frames],
        baselines={"mean colour": mean.score(), "first frame": first.score()},
        seconds=time.perf_counter() - began,
        skipped=len(source.skipped),
        left_out={str(meter.rate): meter.left_out for meter in meters if meter.left_out},
        clips=clips,
    )


def _telling(number: int, total: int, progress: Progress | None) -> Callable[[float], None]:
    """What takes the share of clip `number` of `total` that is done, 0 to 1, to `progress`."""
    return lambda part: None if progress is None else progress(number + part, total)


def warn_of_sizes(codec: Codec, sizes: Iterable[tuple[int, int]]) -> None:
    """One warning for all the sizes far from the trained one."""
    far = [
        f"{height}x{width}" for height, width in sizes if is_far(codec.trained_size, height, width)
    ]
    if far and codec.trained_size is not None:
        named = ", ".join(far[:4]) + (f" and {len(far) - 4} more" if len(far) > 4 else "")
        height, width = codec.trained_size
        warnings.warn(
            f"clips of {named} pixels: this codec was trained at {height}x{width}, expect poorer "
            "pictures this far from it",
            SizeWarning,
            stacklevel=3,
        )


@torch.no_grad()
def _score_clip(
    codec: Codec,
    clip: Clip,
    meters: Sequence[_Meter],
    mean: MeanColour,
    first: Tally,
    told: Callable[[float], None],
) -> list[ClipRate]:
    """Code one clip at each rate; its own score at each that it can have."""
    blocks = clip.frames.split(codec.block_frames)
    codes, state = [], codec.start()
    for block in blocks:
        coded, state = codec.encode_step(block[None], state)
        codes += coded
    codes += codec.finish(state)
    chosen, decoders = {}, {}
    for meter in meters:
        try:
            control = RateControl(codec, meter.rate, clip.height, clip.width)
            for block, coded in zip(blocks, codes, strict=True):
                control.add(block, coded[0])
            chosen[meter] = control.choose(clip.timestamps).tokens.codes
            decoders[meter] = codec.start_decoding(clip.height, clip.width)
        except RateError:
            meter.left_out += 1
    previous: Tensor | None = None
    start = clip.frames[:1]
    for number, frames in enumerate(blocks):
        mask = moving(frames, previous)
        for meter, kept in chosen.items():
            pixels, decoders[meter] = codec.decode_step([kept[number]], decoders[meter])
            meter.add(frames, pixels[0, : len(frames)], mask, kept[number])
        mean.see(frames)
        first.add(frames, start.expand_as(frames), mask)
        previous = frames[-1]
        told((number + 1) / len(blocks))
    for tally in (mean, first):
        tally.end_clip()
    return [meter.end_clip() for meter in chosen]
