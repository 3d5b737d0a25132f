"""The loss in parts equals the loss of all scores at once, and so do its gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lm import linear_loss
from lm.linear_loss import linear_losses


def at_once(hidden: Tensor, table: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    scores = F.linear(hidden, table)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    losses = F.cross_entropy(scores, targets, reduction="none")
    return losses, losses + scores.gather(1, targets[:, None])[:, 0]


def some(count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    luck = torch.Generator().manual_seed(count)
    hidden = torch.randn(count, 5, generator=luck, dtype=dtype).requires_grad_()
    table = (3 * torch.randn(11, 5, generator=luck, dtype=dtype)).requires_grad_()
    targets = torch.randint(11, (count,), generator=luck)
    return hidden, table, targets, torch.rand(count, generator=luck, dtype=torch.float64)


@pytest.mark.parametrize("count", [0, 1, 64, 65, 200])
@pytest.mark.parametrize("pulls", [1, 1000, 1 << 25])
def test_parts_equal_the_whole(count: int, pulls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_loss, "PULLS", pulls)
    hidden, table, targets, weights = some(count, torch.float64)
    found = []
    for way in (linear_losses, at_once):
        losses, denominators = way(hidden, table, targets)
        total = (losses * weights).sum() + (denominators.square() * weights).sum()
        found.append((losses, denominators, *torch.autograd.grad(total, (hidden, table))))
    torch.testing.assert_close(found[0], found[1])


def test_either_output_alone_has_its_gradient() -> None:
    hidden, table, targets, _ = some(70, torch.float64)
    assert torch.autograd.gradcheck(lambda h, t: linear_losses(h, t, targets), (hidden, table))


def test_short_types_are_those_of_autocast() -> None:
    hidden, table, targets, weights = some(100, torch.float32)
    found = []
    for way in (linear_losses, at_once):
        with torch.autocast("cpu", torch.bfloat16):
            losses, _ = way(hidden, table, targets)
        assert losses.dtype == torch.float32
        total = (losses * weights).sum()
        found.append((losses, *torch.autograd.grad(total, (hidden, table))))
    torch.testing.assert_close(found[0][0], found[1][0])
    for ours, theirs in zip(found[0][1:], found[1][1:], strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


def test_scores_are_not_all_held() -> None:
    """Between forward and backward nothing of the size of all scores is kept."""
    hidden, table, targets, _ = some(300, torch.float32)
    kept: list[int] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        linear_losses(hidden, table, targets)
    assert max(kept) == hidden.numel() < 300 * 11


def test_no_ids_and_no_tokens_have_no_loss() -> None:
    hidden, table = torch.zeros(0, 5, requires_grad=True), torch.zeros(0, 5, requires_grad=True)
    losses, _ = linear_losses(hidden, table, torch.zeros(0, dtype=torch.int64))
    losses.sum().backward()
    assert losses.shape == (0,) and table.grad is not None and table.grad.shape == (0, 5)
