"""Rates are exact: running totals, at least one token a block, clear ranges."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.rate import bits_per_code, check_rate, rates_of_clips, tokens_of_blocks


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


def test_rates_out_of_range_name_the_range() -> None:
    assert check_rate(8.0, 8, 64, 32, 32) == 8.0
    for rate in (0.1, 8.1, math.inf, math.nan, -1.0):
        with pytest.raises(ValueError, match=r"0.125 to 8 tokens a frame at 32x48"):
            check_rate(rate, 8, 64, 32, 48)


def test_one_rate_per_clip() -> None:
    assert rates_of_clips(None, 2) == [None, None]
    assert rates_of_clips(2, 2) == [2, 2]
    assert rates_of_clips([1.0, 2.0], 2) == [1.0, 2.0]
    with pytest.raises(ValueError, match="3 rates for 2 clips"):
        rates_of_clips([1.0, 2.0, 3.0], 2)


def test_bits_per_code() -> None:
    assert [bits_per_code(n) for n in (1, 2, 3, 1000, 1024, 1025)] == [1, 1, 2, 10, 10, 11]
