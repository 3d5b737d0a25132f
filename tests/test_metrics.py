"""Metrics against values known by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import conv2d

from tokenizer.metrics import CodeUsage, moving, psnr, squared_error, ssim


def test_psnr_of_known_errors() -> None:
    black = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    error = squared_error(black, black + 1)
    assert error.tolist() == [1.0, 1.0]
    assert psnr(error.mean()) == pytest.approx(20 * math.log10(255))
    assert psnr(255.0**2) == 0.0
    assert psnr(0.0) == 100.0


def test_ssim_of_known_pictures() -> None:
    frames = torch.randint(0, 256, (2, 3, 20, 24), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ssim(frames, frames), torch.ones(2, dtype=torch.float64))
    # flat pictures have no variance: only the luminance term is left
    a, b = torch.full((1, 3, 16, 16), 100.0), torch.full((1, 3, 16, 16), 120.0)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert float(ssim(a, b)) == pytest.approx(expected, abs=1e-4)
    assert float(ssim(frames, 255 - frames).mean()) < 0
    assert ssim(frames[..., :1, :1], frames[..., :1, :1]).shape == (2,)


def test_ssim_is_per_frame_however_large_the_pictures() -> None:
    luck = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 3, 150, 250), dtype=torch.uint8, generator=luck)
    other = (frames.float() * 0.7 + 40).to(torch.uint8)
    alone = torch.cat([ssim(a, b) for a, b in zip(frames.split(1), other.split(1), strict=True)])
    assert torch.equal(ssim(frames, other), alone)
    side = torch.arange(11.0) - 5
    line = torch.exp(-side.square() / 4.5) / torch.exp(-side.square() / 4.5).sum()
    window = (line[:, None] * line)[None, None].double()
    x, y = frames.flatten(0, 1)[:, None].double(), other.flatten(0, 1)[:, None].double()
    mx, my, xx, yy, xy = (conv2d(z, window) for z in (x, y, x * x, y * y, x * y))
    c1, c2 = 2.55**2, 7.65**2
    values = (2 * mx * my + c1) * (2 * (xy - mx * my) + c2)
    values /= (mx**2 + my**2 + c1) * (xx - mx**2 + yy - my**2 + c2)
    assert torch.allclose(alone, values.view(2, -1).mean(1), atol=1e-5)


def test_moving_marks_changed_pixels_only() -> None:
    frames = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    frames[1:, :, 1, 2] = 200
    frames[2, :, 0, 0] = 5  # below the threshold
    mask = moving(frames)
    assert mask.sum() == 1 and bool(mask[1, 1, 2])
    assert bool(moving(frames[1:], frames[0])[0, 1, 2])
    assert not moving(frames[:1]).any()


def test_code_usage_over_batches() -> None:
    usage = CodeUsage(8)
    assert usage.entropy == 0 and usage.used == 0
    usage.update(torch.tensor([[0, 1], [2, 3]]))
    usage.update(torch.tensor([0, 1, 2, 3]))
    assert usage.perplexity == pytest.approx(4.0)
    assert usage.entropy == pytest.approx(2.0)
    assert usage.used == 0.5
    usage.reset()
    usage.update(torch.zeros(5, dtype=torch.int64))
    assert usage.perplexity == 1.0
