"""Gauges: a distance of sets is 0 for equal ones, grows with damage, and equals its closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tokenizer.studies.gauges import RandomFrechet, frechet, shrunk_covariance


def clips(number: int, frames: int = 3, seed: int = 0) -> Tensor:
    luck = torch.Generator().manual_seed(seed)
    small = torch.rand((number, frames, 3, 4, 4), generator=luck)
    large = torch.nn.functional.interpolate(small.flatten(0, 1), (12, 12), mode="bilinear")
    return (large * 255).to(torch.uint8).unflatten(0, (number, frames))


def measured(truth: Tensor, *decoded: Tensor) -> list[float]:
    gauge = RandomFrechet()
    for number, clip in enumerate(truth):
        for point, other in enumerate(decoded):
            gauge.add(point, clip, other[number])
    return gauge.values()


def test_equal_clips_have_no_distance_and_damage_adds_to_it() -> None:
    truth = clips(8)
    dark, darker = truth // 8 * 7, truth // 2
    same, little, much = measured(truth, truth, dark, darker)
    assert same == pytest.approx(0, abs=1e-6)
    assert 1e-3 < little < much


def test_a_distance_is_of_sets_and_of_time() -> None:
    truth = clips(8)
    other_order, backwards, still = (
        truth.flip(0),
        truth.flip(1),
        truth[:, :1].expand(-1, 3, -1, -1, -1),
    )
    same, reversed_, frozen = measured(truth, other_order, backwards, still)
    assert same == pytest.approx(0, abs=1e-6)
    assert reversed_ > 1e-6 and frozen > 1e-6  # every frame is a true one; only the motion is not


def test_features_are_the_same_in_every_process() -> None:
    first, again = (RandomFrechet().features(clips(1)[0]) for _ in range(2))
    assert (first == again).all()


def test_the_distance_is_that_of_gaussians() -> None:
    """With diagonal covariances it is the sum over axes of means' and deviations' squared gaps."""
    axes = np.concatenate([np.eye(3), -np.eye(3)]) * [1.0, 2.0, 3.0]
    for scale, shift in ((1, 0), (2, 0), (1, 5), (3, 1)):
        other = scale * axes + shift
        deviations = [np.sqrt(np.diag(shrunk_covariance(x))) for x in (axes, other)]
        gap = np.square(deviations[0] - deviations[1]).sum() + 3 * shift**2
        assert frechet(axes, other) == pytest.approx(gap)


def test_shrinking_keeps_the_variance_and_fades_with_more_clips() -> None:
    luck = np.random.default_rng(0)
    spread = np.diag([1.0, 2.0, 4.0])
    errors = []
    for number in (4, 40_000):
        features = luck.standard_normal((number, 3)) @ spread
        found = shrunk_covariance(features)
        assert np.trace(found) == pytest.approx(features.var(0).sum())
        errors.append(np.abs(found - spread**2).max())
    assert errors[1] < 0.5 < errors[0]
    assert np.linalg.eigvalsh(shrunk_covariance(luck.standard_normal((3, 50)))).min() > 0


def test_clips_that_give_no_distance_are_named() -> None:
    with pytest.raises(ValueError, match="clips of one length"):
        gauge = RandomFrechet()
        gauge.add(0, clips(1)[0], clips(1)[0])
        gauge.add(0, clips(1, 2)[0], clips(1, 2)[0])
    with pytest.raises(ValueError, match="at least two clips"):
        measured(clips(1), clips(1))
    with pytest.raises(ValueError, match="all are alike"):
        measured(clips(1).repeat(2, 1, 1, 1, 1), clips(2))
