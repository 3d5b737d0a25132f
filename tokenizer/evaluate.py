"""Codec evaluation: reconstruction at several rates beside trivial baselines, with its protocol.

Clips stream through block by block; nothing is held of them but sums, and where a rate depends on
the whole clip, its codes. It knows pixels and codes, not what the clips show.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from data.clip import Clip
from data.source import Parts, Source, parts_of
from tokenizer.blocks import SizeWarning, is_far
from tokenizer.codec import Codec
from tokenizer.metrics import CodeUsage, moving, psnr
from tokenizer.rate import FULL, Rate, RateError, packed_bytes
from tokenizer.rate_control import RateStream
from tokenizer.reporting import ClipRate, ClipScore, CodecReport, RateScore
from tokenizer.streaming import code_parts
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
            parts = parts_of(source, number, codec.block_frames)
            start = next(iter(parts))
            sizes[start.height, start.width] = None
            frames += parts.num_frames
            told = _telling(number, total, progress)
            scores = _score_clip(codec, parts, start, meters, mean, first, told)
            if by_clip:
                still, name = psnr(first.clip_errors[-1]), start.source or f"{source.name} {number}"
                size = start.height, start.width
                clips.append(ClipScore(name, *size, parts.num_frames, still, scores))
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
    parts: Parts,
    start: Clip,
    meters: Sequence[_Meter],
    mean: MeanColour,
    first: Tally,
    told: Callable[[float], None],
) -> list[ClipRate]:
    """Code one clip at each rate; its own score at each that it can have.

    It is gone through once more where rates depend on all of it.
    """
    size, chosen = (start.height, start.width), dict[_Meter, RateStream]()
    served, num_blocks = codec.served(*size), -(-parts.num_frames // codec.block_frames)
    for meter in meters:
        try:
            served.check(meter.rate, num_blocks)
            chosen[meter] = RateStream(codec, meter.rate, *size)
        except RateError:
            meter.left_out += 1
    passes = 1 + any(meter.rate.whole_clip for meter in chosen)
    decoders = dict.fromkeys(chosen, codec.start_decoding(*size))

    def show(meter: _Meter, part: Clip, mask: Tensor, kept: Tensor) -> None:
        pixels, decoders[meter] = codec.decode_step([kept], decoders[meter])
        meter.add(part.frames, pixels[0, : len(part)], mask, kept)

    previous, done = None, 0
    for part, codes in code_parts(codec, parts):
        mask = moving(part.frames, previous)
        for meter, stream in chosen.items():
            kept = stream.add(part.frames, codes)
            if kept is not None:
                show(meter, part, mask, kept)
        mean.see(part.frames)
        first.add(part.frames, start.frames[:1].expand_as(part.frames), mask)
        previous, done = part.frames[-1], done + len(part)
        told(done / (passes * parts.num_frames))
    for tally in (mean, first):
        tally.end_clip()
    settled: dict[_Meter, Iterator[Tensor]] = {}
    for meter in [meter for meter in chosen if meter.rate.whole_clip]:
        try:
            settled[meter] = chosen[meter].settle()
        except RateError:
            meter.left_out += 1
            del chosen[meter]
    previous = None
    for part in parts if settled else ():
        mask = moving(part.frames, previous)
        for meter, blocks in settled.items():
            show(meter, part, mask, next(blocks))
        previous, done = part.frames[-1], done + len(part)
        told(done / (passes * parts.num_frames))
    return [meter.end_clip() for meter in chosen]
