"""Summary tokens: what each speaks for, and that dropped ones say nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tokenizer.summary import Spread, Summarise, quadrants_of

CHANNELS, DIM, COUNT, REGIONAL = 6, 3, 10, 2


@pytest.fixture(autouse=True)
def not_training() -> Iterator[None]:
    """Outside of training equal inputs are equal to the bit: `tokenizer.layers.Linear`."""
    with torch.inference_mode():
        yield


@pytest.mark.parametrize(("height", "width"), [(4, 6), (2, 2)])
def test_a_quadrants_tokens_speak_for_it_alone(height: int, width: int) -> None:
    torch.manual_seed(0)
    summarise = Summarise(CHANNELS, DIM, COUNT, REGIONAL)
    x = torch.randn(1, 2, height, width, CHANNELS)
    said = summarise(x)
    for number in range(4):
        row, column = number // 2 * height // 2, number % 2 * width // 2
        other = x.clone()
        other[:, :, row : row + height // 2, column : column + width // 2] = torch.randn(CHANNELS)
        changed = (summarise(other) != said).any(2)[0]  # (S,)
        expected = [2 + 4 * i + number for i in range(REGIONAL)]
        assert changed[2:].nonzero()[:, 0].add(2).tolist() == expected
    parts = quadrants_of(said, REGIONAL)
    assert torch.equal(parts[0, 3], said[0, [5, 9]])


def test_odd_grids_share_the_middle_and_one_place_is_every_quadrant() -> None:
    torch.manual_seed(0)
    summarise = Summarise(CHANNELS, DIM, COUNT, REGIONAL)
    x = torch.randn(1, 1, 3, 3, CHANNELS)
    other = x.clone()
    other[:, :, 1, 1] = 9.0
    assert bool((quadrants_of(summarise(x) != summarise(other), REGIONAL)).any(3).any(2).all())
    parts = quadrants_of(summarise(x[:, :, :1, :1]), REGIONAL)
    assert torch.equal(parts, parts[:, :1].expand(-1, 4, -1, -1))


def test_quadrants_features_stand_where_they_are() -> None:
    torch.manual_seed(0)
    spread = Spread(CHANNELS, DIM, COUNT, REGIONAL)
    torch.nn.init.zeros_(spread.mix.weight)  # what all places are told alike
    vectors, all_of_them = torch.randn(1, COUNT, DIM), torch.tensor([COUNT])
    told = spread(vectors, all_of_them, (2, 4, 6))
    assert told.shape == (1, 1, 4, 6, CHANNELS)
    other = vectors.clone()
    other[:, 2 + 4 + 1] += 1  # the upper right's second token
    changed = (spread(other, all_of_them, (2, 4, 6)) != told).any(4)[0, 0]
    assert bool(changed[:2, 3:].all()) and int(changed.sum()) == 6
    kept = torch.tensor([7])
    assert torch.equal(spread(other, kept, (2, 4, 6)), spread(vectors, kept, (2, 4, 6)))
