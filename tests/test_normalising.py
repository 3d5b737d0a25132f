"""Norms of few passes: values and gradients are those of torch's own, for every type."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm.normalising import RMSNorm, normalise_and_rotate
from lm.rope import Rope, rotate

EPS = 1e-6


def some(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    luck = torch.Generator().manual_seed(len(shape))
    return torch.randn(*shape, generator=luck, dtype=torch.float64).to(dtype).requires_grad_()


def turns(*shape: int, dtype: torch.dtype = torch.float64) -> Rope:
    angles = some(*shape).detach()
    sin = torch.cat([-angles.sin(), angles.sin()], dim=-1)
    return torch.cat([angles.cos()] * 2, dim=-1).to(dtype), sin.to(dtype)


def test_rms_norm_is_torchs() -> None:
    x = some(2, 5, 6)
    ours, theirs = (kind(6, eps=EPS).double() for kind in (RMSNorm, nn.RMSNorm))
    for norm in (ours, theirs):
        nn.init.uniform_(norm.weight, 0.5, 2)
    theirs.load_state_dict(ours.state_dict())
    found = [torch.autograd.grad(n(x).square().sum(), (x, n.weight)) for n in (ours, theirs)]
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(ours(x), theirs(x))
    assert torch.autograd.gradcheck(ours, (x,))
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("rows", [1, 2])  # of the turns: one for all, or each its own
def test_queries_are_normalised_and_turned(rows: int) -> None:
    x, gain, rope = some(2, 5, 3, 4), some(3, 4), turns(rows, 5, 1, 2)
    expected = rotate(F.rms_norm(x, (4,), eps=EPS) * gain, rope)
    torch.testing.assert_close(normalise_and_rotate(x, gain, EPS, rope), expected)
    assert torch.autograd.gradcheck(lambda x, g: normalise_and_rotate(x, g, EPS, rope), (x, gain))
    with torch.no_grad():
        torch.testing.assert_close(normalise_and_rotate(x, gain, EPS, rope), expected)


@pytest.mark.parametrize("gains", [torch.float32, torch.bfloat16])
def test_short_types_keep_the_type_of_torchs(gains: torch.dtype) -> None:
    x, gain = some(2, 5, 3, 4, dtype=torch.bfloat16), some(3, 4, dtype=gains)
    rope = turns(1, 5, 1, 2, dtype=gains)
    expected = rotate(F.rms_norm(x, (4,), eps=EPS) * gain, rope)
    found = normalise_and_rotate(x, gain, EPS, rope)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    pulls = [torch.autograd.grad(y.sum(), (x, gain)) for y in (found, expected)]
    assert [p.dtype for p in pulls[0]] == [torch.bfloat16, gains]
    torch.testing.assert_close(pulls[0], pulls[1], rtol=5e-2, atol=5e-2)


def test_zeros_have_finite_gradients() -> None:
    x = torch.zeros(1, 2, 4, requires_grad=True)
    norm = RMSNorm(4, eps=EPS)
    norm(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
