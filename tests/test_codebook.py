"""Codebooks follow what they are given: k-means start, moving averages, dead codes reset."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokenizer.quantizer import VQ, ResidualVQ, SimVQ
from tokenizer.quantizer.codebook import Codebook, nearest, tally
from tokenizer.quantizer.face import fold, on_sphere, straight_through, unfold


def blobs(count: int, seed: int = 0) -> Tensor:
    """Rows (count, 4) close to five points of the sphere."""
    generator = torch.Generator().manual_seed(seed)
    middles = on_sphere(torch.randn(5, 4, generator=torch.Generator().manual_seed(9)))
    noise = 0.02 * torch.randn(count, 4, generator=generator)
    return middles[torch.arange(count) % 5] + noise


@given(base=st.integers(2, 50), digits=st.lists(st.integers(0, 10**6), min_size=1, max_size=4))
def test_digits_fold_and_unfold(base: int, digits: list[int]) -> None:
    wanted = [torch.tensor([digit % base]) for digit in digits]
    code = fold(wanted, base)
    assert unfold(code, base, len(digits)) == wanted
    assert 0 <= int(code) < base ** len(digits)
    assert torch.equal(fold(wanted[:1], base), code // base ** (len(digits) - 1))


def test_straight_through_is_exact() -> None:
    soft = torch.randn(1000, requires_grad=True)
    out = straight_through(soft, torch.full((1000,), 0.1))
    out.sum().backward()
    assert bool((out == 0.1).all()) and soft.grad is not None and bool((soft.grad == 1).all())


def test_the_nearest_is_found_in_parts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, table = torch.randn(50, 3), torch.randn(8, 3)
    wanted = torch.cdist(rows.double(), table.double()).argmin(1)
    assert torch.equal(nearest(rows, table), wanted)
    monkeypatch.setattr("tokenizer.quantizer.codebook.PAIRS", 24)
    assert torch.equal(nearest(rows, table), wanted)


def test_the_start_finds_what_is_there() -> None:
    book, rows = Codebook(20, 4, decay=0.9, dead=0.0), blobs(200)
    book.start(rows)
    assert (book.table[nearest(rows, book.table)] - rows).square().mean() < 0.02**2
    counts, sums = tally(rows, nearest(rows, book.table), 20)
    used = counts > 0
    assert torch.allclose(book.table[used], (sums / counts[:, None])[used], atol=1e-5)
    book.update(rows, nearest(rows, book.table))
    table = book.table.clone()
    book.start(torch.randn(200, 4))
    assert torch.equal(book.table, table)  # only once


def test_averages_are_those_of_the_definition() -> None:
    book = Codebook(3, 2, decay=0.75, dead=0.0)
    book.start(torch.randn(30, 2))
    counts, sums = book.counts.clone(), book.sums.clone()
    for _ in range(3):
        rows, codes = torch.randn(12, 2), torch.arange(12) % 3
        book.update(rows, codes)
        counts = 0.75 * counts + 0.25 * 4
        sums = 0.75 * sums + 0.25 * rows.unflatten(0, (4, 3)).sum(0)
        assert torch.allclose(book.table, sums / counts[:, None], atol=1e-5)


def test_dead_codes_are_put_where_rows_are() -> None:
    book, rows = Codebook(8, 4, decay=0.5, dead=0.1), blobs(40)
    book.start(rows)
    book.table[3] = 100.0
    book.sums[3] = 100.0 * book.counts[3]
    for _ in range(12):
        book.update(rows, nearest(rows, book.table))
    assert book.table.abs().max() < 10
    never = Codebook(8, 4, decay=0.5, dead=0.0)
    never.start(rows)
    never.table[3], never.sums[3], never.counts[3] = 100.0, 100.0, 1.0
    for _ in range(60):
        never.update(rows, nearest(rows, never.table))
    assert torch.allclose(never.table[3], torch.tensor(100.0))


def test_fewer_rows_than_codes_will_do() -> None:
    quantizer = VQ(64, 4).train()
    for seed in range(20):
        vectors = blobs(3, seed)[None].requires_grad_()
        assert quantizer(vectors).quantized.isfinite().all()
    assert quantizer.code_vectors().isfinite().all()


@pytest.mark.parametrize("quantizer", [VQ(5, 4), ResidualVQ(5, 2, 4)], ids=["VQ", "ResidualVQ"])
def test_learning_lowers_the_error(quantizer: ResidualVQ) -> None:
    vectors = blobs(100)[None].requires_grad_()
    first = None
    for _ in range(20):
        loss = float(quantizer.train()(vectors).loss.detach())
        first = loss if first is None else first
    assert first is not None and loss <= first < 0.25


def test_each_codebook_lowers_what_is_left() -> None:
    torch.manual_seed(0)
    quantizer = ResidualVQ(16, 3, 4).train()
    for _ in range(10):
        quantizer(torch.randn(4, 200, 4, requires_grad=True))
    vectors = torch.randn(4, 200, 4)
    left, digits = on_sphere(vectors), unfold(quantizer.eval()(vectors).codes, 16, 3)
    for book, digit in zip(quantizer.books, digits, strict=True):
        after = left - book.table[digit]
        assert after.square().mean() < 0.7 * left.square().mean()
        left = after


def test_rows_that_are_not_finite_leave_the_codebook_alone() -> None:
    quantizer = VQ(6, 3).train()
    quantizer(torch.randn(2, 30, 3, requires_grad=True))
    before = [value.clone() for value in quantizer.state_dict().values()]
    broken = torch.randn(2, 30, 3)
    broken[1, 4] = torch.nan
    result = quantizer(broken.requires_grad_())
    assert not result.loss.isfinite()  # the step will be left out
    assert int(result.codes.max()) < 6
    assert all(map(torch.equal, before, quantizer.state_dict().values()))


def test_the_map_of_simvq_learns_and_its_vectors_do_not() -> None:
    torch.manual_seed(0)
    quantizer = SimVQ(16, 4).train()
    fixed, optimizer = quantizer.fixed.clone(), torch.optim.Adam(quantizer.parameters(), 0.05)
    vectors = blobs(200)[None]
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = quantizer(vectors.clone().requires_grad_()).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0] and torch.equal(quantizer.fixed, fixed)
