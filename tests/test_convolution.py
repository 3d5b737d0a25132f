"""The quick small convolution equals torch's, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tokenizer.convolution import PADDING, convolve, small_conv3d, worthwhile


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (1, 4), (3, 2)])
def test_equals_torch(height: int, width: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 6, height, width, requires_grad=True)
    weight, bias = torch.randn(7, 5, 3, 3, 3, requires_grad=True), torch.randn(7).requires_grad_()
    results = []
    for function in (small_conv3d, lambda *args: F.conv3d(*args, padding=PADDING)):
        y = function(x, weight, bias)
        loss = (y * torch.arange(y.numel()).view_as(y).cos()).sum()
        results.append((y, *torch.autograd.grad(loss, (x, weight, bias))))
    for mine, theirs in zip(*results, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_only_where_it_helps() -> None:
    weight = torch.randn(2, 2, 3, 3, 3)
    assert worthwhile(torch.randn(1, 2, 3, 2, 2), weight)
    assert not worthwhile(torch.randn(1, 2, 3, 4, 4), weight)
    with torch.no_grad():
        assert not worthwhile(torch.randn(1, 2, 3, 2, 2), weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not worthwhile(torch.randn(1, 2, 3, 2, 2), weight)


@pytest.mark.parametrize("frames", [None, 3])
@pytest.mark.parametrize("side", [1, 5])
def test_rounds_alike_alone_and_among_others(frames: int | None, side: int) -> None:
    torch.manual_seed(0)
    taps, times = ((), ()) if frames is None else ((3,), (frames + 2,))
    x, weight = torch.randn(4, 6, *times, side, side), torch.randn(7, 6, *taps, 3, 3)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            together = convolve(x, weight, torch.ones(7))
            for i in range(4):
                assert torch.equal(convolve(x[i : i + 1], weight, torch.ones(7))[0], together[i])
