"""Codec evaluation: reconstruction at several rates beside trivial baselines, with its protocol.

Clips are scored block by block as they stream, so that length and size do not matter to memory.
It knows pixels and codes, not what the clips show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from data.source import Source
from tokenizer.codec import Codec
from tokenizer.metrics import CodeUsage, moving, psnr, ssim
from tokenizer.rate import bits_per_code, block_tokens

METRICS = "psnr|rgb|0..255|pooled-mse;ssim|gauss11|rgb;moving|grey>8;kinolex-codec-v1"


@dataclass(frozen=True)
class Score:
    """How close pictures come to the originals, over all clips."""

    psnr: float  # dB, of the squared error pooled over all pixels
    psnr_mean: float  # dB, mean over clips of each clip's own
    ssim: float | None  # -1 to 1, mean over frames; None where it was not computed
    psnr_moving: float | None  # dB, pooled over pixels that changed; None where none did


@dataclass(frozen=True)
class RateScore:
    """One rate's picture and price."""

    asked: float | None  # tokens a frame asked for; None is the full rate
    tokens_per_frame: float  # spent, over all frames
    bits_per_pixel: float  # nominal: tokens * log2(codebook), of the clip's own pixels
    packed_bits_per_pixel: float  # as .kvt files pack codes, without headers
    score: Score
    used_codes: float  # share of the codebook that occurred, 0 to 1
    perplexity: float  # of the codes over all clips
    entropy_bits: float  # bits a code under its own frequencies


@dataclass(frozen=True)
class CodecReport:
    """A codec's evaluation with all that is needed to repeat it."""

    codec_id: str
    protocol: str  # metrics and their version
    source: str
    num_clips: int
    num_frames: int  # over all clips
    sizes: list[str]  # heights x widths seen, at most 8
    rates: list[RateScore]  # full rate first
    baselines: dict[str, Score]
    seconds: float  # encoding, decoding and scoring
    skipped: int  # clips the source could not read
    left_out: dict[str, int] = field(default_factory=dict)  # rate: clips too small or large for it


class _Tally:
    """Sums of errors over frames, by clip."""

    def __init__(self) -> None:
        self.clip_errors: list[float] = []
        self.error = self.frames = self.pixels = 0.0
        self.ssim = self.moving_error = self.moving_values = 0.0
        self._clip = (0.0, 0.0)

    def add(self, frames: Tensor, other: Tensor, mask: Tensor, similarity: bool = True) -> None:
        error = (frames.float() - other.float()).square()  # (n, 3, H, W)
        total = float(error.double().sum())
        self._clip = self._clip[0] + total, self._clip[1] + error.numel()
        self.moving_error += float((error.sum(1) * mask).double().sum())
        self.moving_values += 3 * int(mask.sum())
        self.frames += len(frames)
        if similarity:
            self.ssim += float(ssim(frames, other).sum())

    def end_clip(self) -> None:
        error, values = self._clip
        self.error, self.pixels = self.error + error, self.pixels + values
        self.clip_errors.append(error / max(1.0, values))
        self._clip = (0.0, 0.0)

    def score(self, similarity: bool = True) -> Score:
        values = self.moving_values
        return Score(
            psnr=psnr(self.error / max(1.0, self.pixels)),
            psnr_mean=sum(map(psnr, self.clip_errors)) / max(1, len(self.clip_errors)),
            ssim=self.ssim / max(1.0, self.frames) if similarity else None,
            psnr_moving=psnr(self.moving_error / values) if values else None,
        )


class _Rate:
    """One rate being measured."""

    def __init__(self, asked: float | None, codebook_size: int) -> None:
        self.asked = asked
        self.tally, self.usage = _Tally(), CodeUsage(codebook_size)
        self.tokens = self.frames = self.packed_bits = 0
        self.area = 0.0  # pixels of all clips
        self.left_out = 0

    def result(self, bits_per_token: float) -> RateScore:
        return RateScore(
            asked=self.asked,
            tokens_per_frame=self.tokens / max(1, self.frames),
            bits_per_pixel=self.tokens * bits_per_token / max(1.0, self.area),
            packed_bits_per_pixel=self.packed_bits / max(1.0, self.area),
            score=self.tally.score(),
            used_codes=self.usage.used,
            perplexity=self.usage.perplexity,
            entropy_bits=self.usage.entropy,
        )


def evaluate(
    codec: Codec,
    source: Source,
    rates: Sequence[float] = (),
    num_clips: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CodecReport:
    """Score a codec on clips of any length and size.

    Args:
        codec: The codec, in eval mode.
        source: The clips; their pixels are the truth.
        rates: Tokens per frame to try besides the full rate. A rate that a clip's size cannot
            have leaves that clip out of that rate, counted in `left_out`.
        num_clips: At most so many clips, the first ones; None for all.
        progress: Told the clips done and the clips in all.
    """
    began = time.perf_counter()
    total = len(source) if num_clips is None else min(num_clips, len(source))
    if total < 1:
        raise ValueError(f"num_clips={num_clips} of {len(source)}: evaluation wants at least one")
    meters = [_Rate(rate, codec.codebook_size) for rate in (None, *rates)]
    mean, first = _Mean(), _Tally()
    frames, sizes = 0, dict[str, None]()
    for number in range(total):
        clip = source[number]
        sizes[f"{clip.height}x{clip.width}"] = None
        frames += len(clip)
        blocks = clip.frames.split(codec.block_frames)
        score_stream(codec, blocks, meters, mean, first)
        if progress is not None:
            progress(number + 1, total)
    bits = torch.tensor(float(codec.codebook_size)).log2().item()
    return CodecReport(
        codec_id=codec.codec_id,
        protocol=METRICS,
        source=source.name,
        num_clips=total,
        num_frames=frames,
        sizes=list(sizes)[:8],
        rates=[meter.result(bits) for meter in meters if meter.frames],
        baselines={"mean colour": mean.score(), "first frame": first.score()},
        seconds=time.perf_counter() - began,
        skipped=len(source.skipped),
        left_out={str(meter.asked): meter.left_out for meter in meters if meter.left_out},
    )


class _Mean(_Tally):
    """The error of painting each clip in its mean colour, without keeping the clip."""

    def __init__(self) -> None:
        super().__init__()
        self._sums = (torch.zeros(3, dtype=torch.float64), 0.0, 0)

    def see(self, frames: Tensor) -> None:
        x = frames.double()
        colour, square, count = self._sums
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        self._sums = colour + x.sum((0, 2, 3)), square + float(x.square().sum()), count + pixels

    def end_clip(self) -> None:
        colour, square, count = self._sums
        self._clip = (square - float(colour.square().sum()) / max(1, count), 3.0 * count)
        self._sums = (torch.zeros(3, dtype=torch.float64), 0.0, 0)
        super().end_clip()

    def score(self, similarity: bool = False) -> Score:
        return super().score(similarity)


@torch.no_grad()
def score_stream(
    codec: Codec, blocks: Iterable[Tensor], meters: Sequence[_Rate], mean: _Mean, first: _Tally
) -> None:
    """Code one clip, given as runs of frames (n, 3, H, W) of up to a block each, at each rate."""
    previous: Tensor | None = None
    start: Tensor | None = None
    decoders, active, number = {}, [], 0
    for frames, codes in _coded(codec, blocks):
        height, width = frames.shape[-2:]
        if start is None:
            start = frames[:1]
            slots = codec.slots_per_block(height, width)
            for meter in meters:
                if meter.asked is None or 1 <= meter.asked * codec.block_frames <= slots:
                    active.append(meter)
                    decoders[id(meter)] = codec.start_decoding(height, width)
                else:
                    meter.left_out += 1
        mask = moving(frames, previous)
        for meter in active:
            count = len(codes)
            if meter.asked is not None:
                count = min(count, block_tokens(meter.asked, codec.block_frames, number))
            pixels, state = codec.decode_step([codes[:count]], decoders[id(meter)])
            decoders[id(meter)] = state
            meter.tally.add(frames, pixels[0, : len(frames)], mask)
            meter.usage.update(codes[:count])
            meter.tokens += count
            meter.frames += len(frames)
            meter.area += len(frames) * height * width
            meter.packed_bits += 8 * -(-count * bits_per_code(codec.codebook_size) // 8)
        mean.see(frames)
        first.add(frames, start.expand_as(frames), mask)
        previous, number = frames[-1], number + 1
    for tally in (*(meter.tally for meter in active), mean, first):
        tally.end_clip()


def _coded(codec: Codec, blocks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Each block's frames (n, 3, H, W) with its codes (K,) at the full rate."""
    state, waiting = codec.start(), []
    for frames in blocks:
        coded, state = codec.encode_step(frames[None], state)
        waiting.append(frames)
        if coded:
            assert len(coded) == 1
            yield torch.cat(waiting), coded[0][0]
            waiting = []
    if waiting:
        yield torch.cat(waiting), codec.finish(state)[0][0]
