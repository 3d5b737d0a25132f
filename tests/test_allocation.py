"""Sharing out tokens: never over the total, never worse than even, best where it can be known."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tokenizer.allocation import error_at, share_out, tried_counts, whole_step

COUNTS = tried_counts(16, 0, 2)
curves = st.lists(
    st.lists(st.integers(0, 99), min_size=len(COUNTS), max_size=len(COUNTS)),
    min_size=1,
    max_size=3,
)


def total_error(found: list[list[float]], spent: list[int]) -> float:
    return sum(error_at(COUNTS, curve, count) for curve, count in zip(found, spent, strict=True))


@given(st.integers(1, 3000), st.integers(0, 40), st.integers(1, 4))
def test_tried_counts_rise_from_one_to_all(grid: int, summary: int, per_octave: int) -> None:
    counts = tried_counts(summary + grid, summary, per_octave)
    assert counts[0] == 1 and counts[-1] == summary + grid and (summary or 1) in counts
    assert all(a < b for a, b in itertools.pairwise(counts))
    ratio = 2 ** (1 / per_octave)
    assert all(b <= (a + 0.5) * ratio + 0.5 for a, b in itertools.pairwise(counts))


def test_tried_counts_end_where_a_doubling_of_the_grid_is_whole() -> None:
    assert tried_counts(80, 16, 1) == (1, 2, 4, 8, 16, 17, 18, 20, 24, 32, 48, 80)


@given(curves, st.data())
def test_every_block_gets_one_and_the_total_is_kept(
    found: list[list[float]], data: st.DataObject
) -> None:
    total = data.draw(st.integers(len(found), 16 * len(found)))
    spent = share_out(COUNTS, found, total)
    assert len(spent) == len(found) and min(spent) >= 1 and max(spent) <= 16
    assert sum(spent) <= total
    more = share_out(COUNTS, found, min(total + 1, 16 * len(found)))
    assert all(a <= b for a, b in zip(spent, more, strict=True))


@given(curves, st.data())
def test_where_curves_are_convex_nothing_is_better(
    found: list[list[float]], data: st.DataObject
) -> None:
    slopes = [sorted((max(1, s) for s in curve), reverse=True) for curve in found]
    convex: list[list[float]] = []
    for curve in slopes:
        errors = [9000.0]
        for slope, (few, many) in zip(curve, itertools.pairwise(COUNTS), strict=False):
            errors.append(errors[-1] - slope * (many - few))
        convex.append(errors)
    total = data.draw(st.integers(len(found), 16 * len(found)))
    spent = share_out(COUNTS, convex, total)
    assert sum(spent) == total
    best = min(
        total_error(convex, list(other))
        for other in itertools.product(range(1, 17), repeat=len(found))
        if sum(other) == total
    )
    assert abs(total_error(convex, spent) - best) < 1e-6


def test_tokens_that_do_not_help_are_not_spent() -> None:
    counts = (1, 2, 4)
    assert share_out(counts, [[9, 5, 5], [9, 9, 1]], 8) == [2, 4]
    assert share_out(counts, [[9, 9, 9]], 4) == [1]
    assert error_at(counts, [9, 5, 1], 3) == 3


def test_a_whole_step_lies_on_the_hull() -> None:
    counts = (1, 2, 4, 8)
    curve = [9, 8.9, 8.8, 1]  # all its gain in the last step
    assert [whole_step(counts, curve, tokens) for tokens in (1, 4, 5, 8)] == [1, 1, 8, 8]
    assert whole_step(counts, [9, 5, 4, 4], 8) == 4
