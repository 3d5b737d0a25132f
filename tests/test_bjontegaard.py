"""Bjontegaard deltas: laws of a gap, and an integral that equals a sum over fine steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.studies.bjontegaard import _integral, bd_quality, bd_rate, pchip_slopes
from tokenizer.studies.curve import ClipResult, Curve


def made(seed: int = 0, num_clips: int = 6, points: int = 5, **factors: float) -> Curve:
    """A curve over clips of different difficulty; factors scale bits and squared errors."""
    luck = np.random.default_rng(seed)
    clips = []
    for number in range(num_clips):
        error, cost = luck.uniform(50, 400), luck.uniform(100, 900)
        mse = error * 0.5 ** (np.arange(points) + luck.uniform(-0.3, 0.3, points))
        bits = cost * 1.7 ** (np.arange(points) + luck.uniform(-0.3, 0.3, points))
        clips.append(
            ClipResult(
                source=f"clip {number}",
                height=8,
                width=6,
                num_frames=4 + number,
                seconds=1.0,
                moving=0.1,
                mse=tuple((mse * factors.get("error", 1.0)).tolist()),
                moving_mse=tuple(mse.tolist()),
                ssim=tuple((1 - mse / 1000).tolist()),
                bits={"packed": tuple((bits * factors.get("bits", 1.0)).tolist())},
            )
        )
    return Curve.of_clips(f"made {seed} {factors}", "", clips, {"clips": "the same"})


def foreign(name: str, rates: list[float], qualities: list[float]) -> Curve:
    return Curve(name, "", {"bpp": tuple(rates), "psnr-rgb": tuple(qualities)})


SEEDS, SHARES = st.integers(0, 1000), st.floats(0, 1)


@settings(max_examples=20)
@given(SEEDS)
def test_a_curve_has_no_gap_to_itself(seed: int) -> None:
    curve = made(seed)
    for function in (bd_rate, bd_quality):
        delta = function(curve, curve, resamples=20)
        assert (delta.value, delta.low, delta.high) == (0.0, 0.0, 0.0)


@settings(max_examples=20)
@given(SEEDS, st.floats(0.6, 1.8))
def test_scaled_bits_are_that_much_more_at_equal_quality(seed: int, factor: float) -> None:
    delta = bd_rate(made(seed, bits=factor), made(seed), resamples=20)
    expected = pytest.approx(100 * (factor - 1), abs=1e-6)
    assert delta.value == expected and delta.low == expected and delta.high == expected
    assert bd_rate(made(seed, bits=2.0), made(seed), resamples=0).value == pytest.approx(100)


@settings(max_examples=20)
@given(SEEDS, st.floats(-2.0, 2.0))
def test_a_curve_lifted_by_some_db_is_so_much_better(seed: int, lift: float) -> None:
    delta = bd_quality(made(seed, error=10 ** (-lift / 10)), made(seed), resamples=20)
    expected = pytest.approx(lift, abs=1e-6)
    assert delta.value == expected and delta.low == expected and delta.high == expected
    assert delta.unit == "dB"


@settings(max_examples=20)
@given(SEEDS, SEEDS)
def test_swapping_curves_swaps_the_sign(seed: int, other: int) -> None:
    a, b = made(seed), made(other)
    forth, back = bd_quality(a, b, resamples=0), bd_quality(b, a, resamples=0)
    assert forth.value == pytest.approx(-back.value, abs=1e-9)
    assert forth.overlap == pytest.approx(back.overlap)
    more, less = (bd_rate(x, y, resamples=0).value / 100 for x, y in ((a, b), (b, a)))
    assert (1 + more) * (1 + less) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_holds_the_point_and_repeats(seed: int) -> None:
    a, b = made(seed), made(seed + 100)
    for function in (bd_rate, bd_quality):
        delta = function(a, b, resamples=100)
        assert delta.low is not None and delta.high is not None
        assert delta.low < delta.value < delta.high
        assert delta == function(a, b, resamples=100)
        assert delta != function(a, b, resamples=100, seed=1)


@settings(max_examples=30)
@given(st.floats(1, 12), st.floats(1, 12), st.floats(20, 30), st.permutations(range(5)))
def test_straight_lines_have_the_gap_of_their_middles(
    slope: float, other: float, start: float, order: list[int]
) -> None:
    """Quality linear in the logarithm of bits: the mean gap is the one half-way, in any order."""
    rates = np.array([0.1, 0.15, 0.3, 0.5, 0.9])
    lines = [start + s * np.log(rates) for s in (slope, other)]
    curves = [
        foreign(name, rates[order].tolist(), line[order].tolist())
        for name, line in zip("ab", lines, strict=True)
    ]
    middle = (np.log(0.1) + np.log(0.9)) / 2
    delta = bd_quality(*curves)
    assert delta.value == pytest.approx((slope - other) * middle, abs=1e-9)
    assert delta.overlap == pytest.approx((0.1, 0.9)) and delta.low is None


@settings(max_examples=30)
@given(
    st.lists(st.floats(0.1, 3.0), min_size=2, max_size=6), SEEDS, st.floats(0, 1), st.floats(0, 1)
)
def test_the_integral_equals_fine_steps_of_a_monotone_curve(
    steps: list[float], seed: int, start: float, end: float
) -> None:
    x = np.cumsum(steps)
    y = np.cumsum(np.random.default_rng(seed).uniform(0.0, 2.0, len(x)))
    low, high = sorted(x[0] + share * (x[-1] - x[0]) for share in (start, end))
    slopes = pchip_slopes(x, y)
    places = np.linspace(low, high, 20_001)
    piece = np.clip(np.searchsorted(x, places, side="right") - 1, 0, len(x) - 2)
    h = np.diff(x)[piece]
    t = (places - x[piece]) / h
    values = (
        y[piece] * (1 + 2 * t) * (1 - t) ** 2
        + y[piece + 1] * t**2 * (3 - 2 * t)
        + h * (slopes[piece] * t * (1 - t) ** 2 + slopes[piece + 1] * t**2 * (t - 1))
    )
    assert (np.diff(values) >= -1e-12).all()  # no overshoot
    assert _integral(x, y, low, high) == pytest.approx(np.trapezoid(values, places), abs=1e-6)


def test_slopes_are_those_of_the_published_formula() -> None:
    """Worked by hand: secants 1, 4 and -2 over steps 1, 2 and 1."""
    x, y = np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 1.0, 9.0, 7.0])
    inner = (5 + 4) / (5 / 1 + 4 / 4)  # weighted harmonic mean; the turn after it is flat
    first = 0.0  # (4 * 1 - 1 * 4) / 3
    last = (4 * -2 - 1 * 4) / 3  # three-point formula: -4, within 3 * -2
    assert pchip_slopes(x, y) == pytest.approx(np.array([first, inner, 0.0, last]))


def test_points_that_others_beat_are_left_out() -> None:
    good = foreign("good", [0.1, 0.2, 0.4, 0.8], [20, 24, 27, 29])
    with_bad = foreign("bad", [0.1, 0.3, 0.2, 0.4, 0.4, 0.8], [20, 22, 24, 27, 26, 29])
    delta = bd_rate(with_bad, good)
    assert delta.value == 0 and delta.left_out == 2


def test_what_cannot_be_compared_is_named() -> None:
    good = foreign("good", [0.1, 0.2, 0.4, 0.8], [20, 24, 27, 29])
    with pytest.raises(ValueError, match="'few' has 3 points: .* at least 4"):
        bd_rate(foreign("few", [0.1, 0.2, 0.4], [20, 24, 27]), good)
    high = foreign("high", [0.1, 0.2, 0.4, 0.8], [30, 34, 37, 39])
    with pytest.raises(ValueError, match=r"no common range of psnr-rgb \(30 to 39 and 20 to 29\)"):
        bd_rate(high, good)
    assert bd_quality(high, good).value == pytest.approx(10)
    dear = foreign("dear", [1, 2, 4, 8], [20, 24, 27, 29])
    with pytest.raises(ValueError, match=r"no common range of bpp \(1 to 8 and 0.1 to 0.8\)"):
        bd_quality(dear, good)
    with pytest.raises(ValueError, match="has no 'ssim-rgb': it has bpp, psnr-rgb"):
        bd_rate(good, good, quality="ssim-rgb")
    with pytest.raises(ValueError, match="a point of 0 bpp"):
        bd_rate(foreign("free", [0, 0.2, 0.4, 0.8], [20, 24, 27, 29]), good)
    curve = made()
    other = replace(curve, protocol={"clips": "others"})
    with pytest.raises(ValueError, match="different clips"):
        bd_rate(curve, other)


def test_one_clip_has_no_interval() -> None:
    delta = bd_rate(made(num_clips=1), made(num_clips=1, bits=1.5))
    assert delta.low is None and delta.high is None and delta.resamples == 0
