"""Naming a scene: finer numbers cost more and err less, and fine ones give the very pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from data.scenes.draw import draw
from data.scenes.information import code_plan, information
from data.scenes.spec import DIFFICULTIES, MOTIONS
from data.scenes.stories import make_plan


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_fine_numbers_give_the_very_pixels(difficulty: str) -> None:
    plans = [make_plan(3, "heldout", difficulty, number) for number in range(8)]
    codes = [code_plan(plan, difficulty, 40) for plan in plans]
    true = draw(plans, 4, 24, 24).astype(int)
    again = draw([code.plan for code in codes], 4, 24, 24).astype(int)
    assert np.abs(true - again).max() <= 1  # a value at the edge of rounding may fall either way


@pytest.mark.parametrize("difficulty", ["easy", "standard"])
def test_more_bits_a_number_cost_more_and_err_less(difficulty: str) -> None:
    plans = [make_plan(0, "heldout", difficulty, number) for number in range(12)]
    coarse, middle, fine = information(plans, difficulty, (2, 5, 10), 4, 32)
    assert coarse.bits_per_clip < middle.bits_per_clip < fine.bits_per_clip
    assert coarse.psnr < middle.psnr < fine.psnr


def test_bits_of_an_easy_clip_by_hand() -> None:
    number = next(
        n
        for n in range(200)
        if make_plan(0, "train", "easy", n).reading.things[0].motions == ("moves right",)
        and make_plan(0, "train", "easy", n).reading.things[0].shape == "circle"
    )
    plan = make_plan(0, "train", "easy", number)
    words = math.log2(8 * 6) + math.log2(len(MOTIONS) * 2)  # colour and shape, motion and speed
    numbers = 4  # x, y, radius and how far; a circle's angle cannot be seen
    assert code_plan(plan, "easy", 7).bits == pytest.approx(words + 7 * numbers)


def test_precision_out_of_range() -> None:
    with pytest.raises(ValueError, match="precision=0"):
        code_plan(make_plan(0, "train", "easy", 0), "easy", 0)
