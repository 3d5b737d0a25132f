"""Optimizer, schedule and averaged weights do what their names say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tokenizer.optimisation import Average, MuonAdamW, Schedule, orthogonalised


def test_schedule_rises_stays_and_falls() -> None:
    linear = Schedule(warmup_steps=10, flat=0.5, floor=0.1)
    assert linear.factor(0, 0.0) == pytest.approx(0.1)
    assert linear.factor(9, 0.01) == 1.0 == linear.factor(1000, 0.5)
    assert linear.factor(1000, 0.75) == pytest.approx(0.55)
    assert linear.factor(1000, 1.0) == pytest.approx(0.1) == linear.factor(1000, 2.0)
    cosine = Schedule(warmup_steps=0, flat=0.0, shape="cosine", floor=0.0)
    assert cosine.factor(5, 0.5) == pytest.approx(0.5)
    assert cosine.factor(5, 0.25) > 0.8


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"warmup_steps": -1}, "schedule.warmup_steps=-1: give 0 or more"),
        ({"flat": 2.0}, "schedule.flat=2.0: give a share, 0 to 1"),
        ({"flat": -0.1}, "schedule.flat=-0.1: give a share, 0 to 1"),
        ({"floor": 5.0}, "schedule.floor=5.0: give a share, 0 to 1"),
        ({"floor": float("nan")}, "schedule.floor=nan: give a share, 0 to 1"),
    ],
)
def test_senseless_schedules_are_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**choice)


def test_orthogonalised_has_singular_values_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 20), (20, 8), (6, 6), (8, 9)]
    matrices = [torch.randn(shape, generator=generator) * 50 for shape in shapes]
    for matrix, result in zip(matrices, orthogonalised(matrices), strict=True):
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        assert result.shape == matrix.shape
        along = (u.mT @ result @ v.mT).diagonal()  # along the same singular vectors
        assert bool(((along > 0.3) & (along < 1.3)).all())
        assert torch.allclose(u @ torch.diag(along) @ v, result, atol=1e-3)
    assert not orthogonalised([torch.zeros(3, 4)])[0].any()


def test_equals_torch_muon_but_for_its_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(6, 10, generator=generator)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = MuonAdamW([("w", mine)], matrix_lr=0.02, weight_decay=0.01)
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.01)
    for _ in range(5):
        grad = torch.randn(6, 10, generator=generator)
        mine.grad, theirs.grad = grad.clone(), grad.clone()
        ours.step()
        other.step()
    assert torch.allclose(mine, theirs, atol=2e-3)  # torch multiplies in bf16


def test_vectors_go_to_adamw_exactly() -> None:
    start = torch.randn(7, generator=torch.Generator().manual_seed(0))
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = MuonAdamW([("b", mine)], lr=1e-2)
    other = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(4):
        mine.grad, theirs.grad = start * step - 1, start * step - 1
        ours.step()
        other.step()
    assert torch.allclose(mine, theirs, atol=1e-6)


def test_state_saves_and_loads() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(32, 3))
    x = torch.randn(2, 2, 2, 2, 2)

    def steps(optimizer: MuonAdamW, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.set_factor(0.5)
            optimizer.step()

    optimizer = MuonAdamW(net.named_parameters())
    steps(optimizer, 2)
    saved = {k: v.clone() for k, v in net.state_dict().items()}, optimizer.state_dict()
    saved = torch.load(_bytes(saved), weights_only=True)
    steps(optimizer, 2)
    end = {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(saved[0])
    again = MuonAdamW(net.named_parameters())
    again.load_state_dict(saved[1])
    steps(again, 2)
    assert all(torch.equal(end[k], v) for k, v in net.state_dict().items())


def _bytes(value: object):  # noqa: ANN202
    import io

    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return buffer


def test_parameters_without_gradient_stay() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    optimizer = MuonAdamW([("w", weight)])
    optimizer.step()
    assert torch.equal(weight, torch.ones(3, 3))


def test_average_follows_and_gives_back() -> None:
    net = nn.Linear(2, 2)
    average = Average(net, decay=0.9)
    first = net.weight.detach().clone()
    with torch.no_grad():
        net.weight.add_(1)
    average.update(net)  # the first update weighs 9/10 the new
    assert torch.allclose(average.weights["weight"], first + 0.9)
    own = net.weight.detach().clone()
    with average.applied_to(net):
        assert torch.allclose(net.weight, first + 0.9)
    assert torch.equal(net.weight, own)
    other = Average(nn.Linear(2, 2))
    other.load_state_dict(average.state_dict())
    assert torch.equal(other.weights["weight"], average.weights["weight"])
    with pytest.raises(ValueError, match="decay=1"):
        Average(net, 1.0)
