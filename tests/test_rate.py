"""Rates are exact: running totals, at least one token a block, clear ranges."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.rate import FULL, Rate, RateError, Served, as_rates, bits_per_code, block_tokens


def tokens_of_blocks(rate: float, frames: int, blocks: int) -> list[int]:
    return [block_tokens(rate, frames, block) for block in range(blocks)]


@given(st.floats(1 / 8, 40), st.integers(1, 16), st.integers(1, 60))
def test_tokens_of_blocks_sum_to_the_rate(rate: float, frames: int, blocks: int) -> None:
    tokens = tokens_of_blocks(rate, frames, blocks)
    exact = Fraction(rate) * frames
    assert all(count >= max(1, math.floor(exact)) for count in tokens)
    assert max(tokens) <= math.floor(exact) + 1
    if exact >= 1:
        assert sum(tokens) == math.floor(exact * blocks)
    else:
        assert tokens == [1] * blocks


def test_a_prefix_of_blocks_has_the_same_tokens() -> None:
    assert tokens_of_blocks(1.3, 8, 20)[:7] == tokens_of_blocks(1.3, 8, 7)
    assert tokens_of_blocks(0.2, 8, 5) == [1, 2, 1, 2, 2]


def served(slots: int = 64, block_frames: int = 8) -> Served:
    return Served(block_frames, slots, 32, 48, 1024)


def test_rates_out_of_range_name_the_range() -> None:
    served().check(Rate(8.0), 2)
    served().check(FULL, 2)
    for rate, reason in (
        (Rate(0.1), r"tokens_per_frame=0.1: .* 0.125 to 8 tokens a frame at 32x48"),
        (Rate(8.1), r"tokens_per_frame=8.1: .* 0.125 to 8 tokens a frame at 32x48"),
        (Rate(bits_per_pixel=1.0), r"0.000813802 to 0.0520833 nominal bits a pixel at 32x48"),
        (Rate(block_tokens=65), "blocks of this codec have 1 to 64 tokens at 32x48"),
        (Rate(block_tokens=(1, 2, 3)), "3 counts: this clip has 2 blocks"),
        (Rate(budget=1), "budget=1: this codec serves 2 to 128 tokens for 2 blocks at 32x48"),
        (Rate(budget=129), "serves 2 to 128 tokens"),
    ):
        with pytest.raises(RateError, match=reason):
            served().check(rate, 2)


@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Rate)])
def test_rates_that_no_clip_has_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}={value:g}: give "):
        Rate(**{name: value})


def test_a_clip_has_one_rate() -> None:
    with pytest.raises(ValueError, match=r"psnr=30 and budget=4: give one of them"):
        Rate(psnr=30, budget=4)
    with pytest.raises(ValueError, match=r"share=2: give a share .* at most 1"):
        Rate(share=2)
    with pytest.raises(ValueError, match=r"budget=1.5: give a whole number"):
        Rate(budget=1.5)  # pyright: ignore
    with pytest.raises(ValueError, match=r"rate and tokens_per_frame: give one"):
        as_rates(1, 2.0, {"rate": "auto"})
    with pytest.raises(ValueError, match="rate='best': give 'auto'"):
        as_rates(1, None, {"rate": "best"})  # pyright: ignore


def test_one_rate_per_clip() -> None:
    assert as_rates(2, None, {}) == [FULL, FULL] == as_rates(2, None, {"psnr": None})
    assert as_rates(2, 2, {}) == [Rate(2), Rate(2)]
    assert as_rates(2, [1.0, None], {}) == [Rate(1.0), FULL]
    assert as_rates(1, None, {"block_tokens": [2, 3]}) == [Rate(block_tokens=(2, 3))]
    mixed = as_rates(2, None, {"rate": [Rate(psnr=30.0), "auto"]})
    assert mixed == [Rate(psnr=30.0), Rate(auto=0.5)]
    for tokens, target in (([1.0, 2.0, 3.0], {}), (None, {"rate": ["auto"] * 3})):
        with pytest.raises(ValueError, match="3 rates for 2 clips"):
            as_rates(2, tokens, target)  # pyright: ignore


@given(st.integers(1, 300), st.integers(1, 9), st.integers(0, 40))
def test_a_share_of_one_and_the_most_bits_are_the_full_rate(
    slots: int, frames: int, block: int
) -> None:
    at = served(slots, frames)
    assert at.count(FULL, block) == slots == at.count(Rate(share=1.0), block)
    most = slots / frames * 10 / (32 * 48)
    spent = sum(at.count(Rate(bits_per_pixel=most), number) for number in range(block + 1))
    assert slots * (block + 1) - 1 <= spent <= slots * (block + 1)
    assert at.count(Rate(block_tokens=(1,) * block + (7,)), block) == 7


def test_bits_per_code() -> None:
    assert [bits_per_code(n) for n in (1, 2, 3, 1000, 1024, 1025)] == [1, 1, 2, 10, 10, 11]
