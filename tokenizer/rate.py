"""Rates: what a caller may ask for, and the exact whole numbers of tokens that follow from it.

A rate per frame, pixel or share may be any real number; the tokens of each block follow from it by
one formula that needs no look-ahead, so a stream and a whole clip agree. Rates that depend on the
pictures (`psnr`, `budget`, `auto`) are chosen in `rate_control`. Nothing here knows a network.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, Literal, TypedDict

AUTO_SHARE = 0.5  # of the full rate: the mean that `rate="auto"` aims at


class RateError(ValueError):
    """A rate that a codec cannot serve for this clip; the message names those it can."""


@dataclass(frozen=True)
class Rate:
    """How many tokens to spend on a clip: at most one field is given, none is the full rate.

    Raises:
        ValueError: Two fields, or a number that no clip can have.
    """

    tokens_per_frame: float | None = None  # of every block
    share: float | None = None  # of the full rate, above 0 and at most 1, of every block
    block_tokens: int | tuple[int, ...] | None = None  # of every block, or of each block in turn
    bits_per_pixel: float | None = None  # nominal, of every block
    psnr: float | None = None  # dB of the clip: the lowest rate that reaches it
    budget: int | None = None  # tokens of the clip, at most, shared among its blocks by content
    auto: float | None = None  # mean share of the full rate, shared out by content block by block

    def __post_init__(self) -> None:
        given = self._given()
        if len(given) > 1:
            named = " and ".join(f"{name}={value}" for name, value in given.items())
            raise ValueError(f"{named}: give one of them, a clip has one rate")
        for name, value in given.items():
            most = 1 if name in ("share", "auto") else sys.float_info.max
            whole = name in ("block_tokens", "budget")
            for number in value if isinstance(value, tuple) else (value,):
                if not 0 < number <= most or (whole and number != int(number)):
                    raise ValueError(f"{name}={number:g}: give {_WANTED[name]}")

    def _given(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def whole_clip(self) -> bool:
        """Whether all of a clip must be seen before its first block's tokens can be counted."""
        return self.psnr is not None or self.budget is not None

    @property
    def by_content(self) -> bool:
        """Whether the pictures decide, for which the decoder tries several counts of each block."""
        return self.whole_clip or self.auto is not None

    def __str__(self) -> str:
        for name, value in self._given().items():
            if name in ("share", "auto"):
                return f"{'auto ' if name == 'auto' else ''}{100 * value:.4g} %"
            if name == "block_tokens":
                return f"{value} a block"
            return f"{value:g}{_SUFFIXES.get(name, '')}"
        return "full"


_WANTED = {
    "tokens_per_frame": "tokens a frame above 0",
    "share": "a share of the full rate above 0 and at most 1, like 0.5",
    "block_tokens": "whole numbers of tokens above 0",
    "bits_per_pixel": "nominal bits a pixel above 0",
    "psnr": "decibels above 0",
    "budget": "a whole number of tokens above 0",
    "auto": "a mean share of the full rate above 0 and at most 1, like 0.5",
}
_SUFFIXES = {"bits_per_pixel": " b/px", "psnr": " dB", "budget": " a clip"}
FULL = Rate()
OneRate = Rate | Literal["auto"]


class Target(TypedDict, total=False):
    """Other ways than tokens per frame to give a rate; see `Rate`. At most one is not None."""

    share: float | None
    block_tokens: int | Sequence[int] | None
    bits_per_pixel: float | None
    psnr: float | None
    budget: int | None
    rate: OneRate | Sequence[OneRate] | None  # "auto", or a Rate (of each clip)


def as_rates(
    num_clips: int, tokens_per_frame: float | Sequence[float | None] | None, target: Target
) -> list[Rate]:
    """The rate of each clip, from one for all or, as tokens per frame or `rate`, one for each.

    Raises:
        ValueError: More than one way used at once, or not as many rates as clips.
    """
    others: dict[str, Any] = {**target}
    named, tokens = others.pop("rate", None), others.get("block_tokens")
    if tokens is not None and not isinstance(tokens, int):
        others["block_tokens"] = tuple(tokens)
    if named is None:
        if tokens_per_frame is None or isinstance(tokens_per_frame, (int, float)):
            return [Rate(tokens_per_frame, **others)] * num_clips
        rates = [Rate(each, **others) for each in tokens_per_frame]
    else:
        others["tokens_per_frame"] = tokens_per_frame
        for name, value in others.items():
            if value is not None:
                raise ValueError(f"rate and {name}: give one of them, a clip has one rate")
        if isinstance(named, (str, Rate)):
            return [_named(named)] * num_clips
        rates = [_named(each) for each in named]
    if len(rates) != num_clips:
        raise ValueError(
            f"{len(rates)} rates for {num_clips} clips: give one rate, or one per clip"
        )
    return rates


def _named(rate: Rate | str) -> Rate:
    if isinstance(rate, Rate):
        return rate
    if rate != "auto":
        raise ValueError(f"rate={rate!r}: give 'auto' or a Rate")
    return Rate(auto=AUTO_SHARE)


@dataclass(frozen=True)
class Served:
    """What a codec serves at one size."""

    block_frames: int
    slots: int  # tokens of a block at the full rate
    height: int  # pixels
    width: int  # pixels
    codebook_size: int

    def check(self, rate: Rate, num_blocks: int | None = None) -> None:
        """RateError, naming what is served, for a rate that cannot be had.

        Args:
            rate: Of any kind; `psnr` is not checked, what it can be shows in the pictures.
            num_blocks: Blocks of the clip; None while they are not known.
        """
        size = f"at {self.height}x{self.width} pixels"
        low, high = 1 / self.block_frames, self.slots / self.block_frames
        if rate.tokens_per_frame is not None and not low <= rate.tokens_per_frame <= high:
            raise RateError(
                f"tokens_per_frame={rate.tokens_per_frame:g}: this codec serves {low:g} to "
                f"{high:g} tokens a frame {size}"
            )
        if rate.bits_per_pixel is not None:
            least, most = low * self._bits_per_token_pixel, high * self._bits_per_token_pixel
            if not least <= rate.bits_per_pixel <= most:
                raise RateError(
                    f"bits_per_pixel={rate.bits_per_pixel:g}: this codec serves {least:g} to "
                    f"{most:g} nominal bits a pixel {size}"
                )
        tokens = rate.block_tokens or ()
        for count in tokens if isinstance(tokens, tuple) else (tokens,):
            if count > self.slots:
                raise RateError(
                    f"block_tokens={count}: blocks of this codec have 1 to {self.slots} tokens "
                    f"{size}"
                )
        if num_blocks is None:
            return
        if isinstance(tokens, tuple) and tokens and len(tokens) != num_blocks:
            raise RateError(
                f"block_tokens has {len(tokens)} counts: this clip has {num_blocks} blocks, give "
                "each a count"
            )
        if rate.budget is not None and not num_blocks <= rate.budget <= num_blocks * self.slots:
            raise RateError(
                f"budget={rate.budget}: this codec serves {num_blocks} to "
                f"{num_blocks * self.slots} tokens for {num_blocks} blocks {size}"
            )

    def count(self, rate: Rate, block: int) -> int:
        """Tokens of block number `block` at a rate that does not depend on the pictures."""
        assert not rate.by_content
        if rate.tokens_per_frame is not None:
            return block_tokens(rate.tokens_per_frame, self.block_frames, block)
        if rate.bits_per_pixel is not None:
            frame = rate.bits_per_pixel / self._bits_per_token_pixel
            return min(self.slots, block_tokens(frame, self.block_frames, block))
        if rate.share is not None:  # in tokens a block, so that a share of 1 is exact
            return min(self.slots, block_tokens(rate.share * self.slots, 1, block))
        if isinstance(rate.block_tokens, tuple):
            if block >= len(rate.block_tokens):
                raise RateError(
                    f"block_tokens has {len(rate.block_tokens)} counts: there is none for block "
                    f"number {block}, give each a count"
                )
            return rate.block_tokens[block]
        return self.slots if rate.block_tokens is None else rate.block_tokens

    @property
    def _bits_per_token_pixel(self) -> float:
        """Nominal bits a pixel of one token a frame."""
        return math.log2(self.codebook_size) / (self.height * self.width)


def block_tokens(tokens_per_frame: float, block_frames: int, block: int) -> int:
    """Tokens that block number `block` (from 0) gets at a rate: the running total, rounded down.

    Over any stretch of blocks the total differs from the asked rate by less than one token, except
    that every block has at least one.
    """
    per_block = Fraction(tokens_per_frame) * block_frames
    return max(1, math.floor((block + 1) * per_block) - math.floor(block * per_block))


def bits_per_code(codebook_size: int) -> int:
    """Whole bits that one packed code takes."""
    return max(1, (codebook_size - 1).bit_length())


def packed_bytes(count: int, codebook_size: int) -> int:
    """Whole bytes that a block of `count` packed codes takes."""
    return -(-count * bits_per_code(codebook_size) // 8)


def mean_duration(times: Sequence[float]) -> float | None:
    """Seconds that frames at these times last, the last as long as the mean; None for one alone."""
    if len(times) < 2:
        return None
    return (times[-1] - times[0]) * len(times) / (len(times) - 1)


@dataclass(frozen=True)
class Bits:
    """What a clip's tokens cost under one way of counting."""

    total: float
    per_token: float
    per_pixel: float  # pixels of all frames, without the codec's padding
    per_second: float | None  # of video; None for a single frame, which has no duration

    @classmethod
    def of(cls, total: float, tokens: int, pixels: int, seconds: float | None) -> Bits:
        return cls(total, total / tokens, total / pixels, total / seconds if seconds else None)
