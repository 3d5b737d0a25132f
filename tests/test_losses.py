"""Losses by name: only what has a weight is computed, and each is what its name says."""

from __future__ import annotations

import math

import pytest
import torch

from tokenizer.losses import FLOOR, LossWeights, reconstruction_losses


def losses(error: torch.Tensor, **weights: float) -> dict[str, torch.Tensor]:
    wanted = LossWeights(**{"l2": 0.0, "l1": 0.0, **weights})
    return reconstruction_losses(
        error, torch.zeros_like(error), torch.ones_like(error[:, :, :1]), wanted
    )


def test_a_loss_without_weight_is_not_computed() -> None:
    error = torch.rand(2, 3, 3, 4, 4)
    assert set(losses(error, log_mse=1.0)) == {"log_mse"}
    assert set(losses(error, l1=0.1, charbonnier=1.0)) == {"l1", "charbonnier"}


def test_log_mse_counts_a_clips_decibels_alike_however_well_it_is_coded() -> None:
    error = torch.randn(1, 2, 3, 8, 8)

    def fall(scale: float) -> float:  # of the loss when the error is halved
        big, small = (losses(error * s, log_mse=1.0)["log_mse"] for s in (scale, scale / 2))
        return float(big - small)

    assert fall(100.0) == pytest.approx(math.log(2), abs=1e-4)
    assert fall(10.0) == pytest.approx(math.log(2), abs=1e-3)
    assert fall(math.sqrt(FLOOR) / 100) < 1e-3  # below the floor there is nothing to gain
    two = torch.cat([error, 10 * error])
    each = [float(losses(x, log_mse=1.0)["log_mse"]) for x in (error, 10 * error)]
    assert float(losses(two, log_mse=1.0)["log_mse"]) == pytest.approx(sum(each) / 2, rel=1e-5)


def test_charbonnier_is_the_absolute_error_with_a_gradient_of_0_at_0() -> None:
    error = torch.randn(1, 2, 3, 8, 8)
    found = losses(error, l1=1.0, charbonnier=1.0)
    assert 0 <= float(found["charbonnier"] - found["l1"]) < 1e-3
    nothing = torch.zeros(1, 1, 3, 2, 2, requires_grad=True)
    losses(nothing, charbonnier=1.0)["charbonnier"].backward()
    assert nothing.grad is not None and not nothing.grad.any()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"l2": -1.0}, "weights.l2=-1.0"),
        ({"labels": math.nan}, "weights.labels=nan"),
        ({"l2": 0.0, "l1": 0.0}, "are all 0"),
    ],
)
def test_bad_weights_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossWeights(**weights)
