"""The entropies of binary codes: those of the definition, without a number for every code."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from tokenizer.quantizer import BSQ, LFQ
from tokenizer.quantizer.binary import batch_entropy, code_shares, signs_of, token_entropy


def probabilities(vectors: Tensor, temperature: float) -> Tensor:
    """Of every code, by the definition: (M, 2^bits)."""
    bits = vectors.shape[1]
    codes = signs_of(torch.arange(2**bits), bits).to(vectors.dtype)
    return (-(torch.cdist(vectors, codes) ** 2) / temperature).softmax(1)


def entropy(shares: Tensor) -> Tensor:
    return -torch.special.xlogy(shares, shares).sum(-1)


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_entropies_are_those_of_the_definition(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenizer.quantizer.binary.ROWS", 7)
    torch.manual_seed(bits)
    vectors = torch.rand(30, bits, dtype=torch.float64) * 2 - 1
    leaf, other = vectors.clone().requires_grad_(), vectors.clone().requires_grad_()
    logits, known = leaf * 4 / 3, probabilities(other, 3.0)
    assert torch.allclose(code_shares(logits.float()).double(), known.mean(0), atol=1e-6)
    ours = token_entropy(logits) - batch_entropy(logits.float())
    theirs = entropy(known).mean() - entropy(known.mean(0))
    assert torch.allclose(ours, theirs, atol=1e-5)
    ours.backward()
    theirs.backward()
    assert leaf.grad is not None and other.grad is not None
    assert torch.allclose(leaf.grad, other.grad, atol=1e-5)


def test_more_bits_than_a_group_give_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    logits = torch.randn(40, 1).repeat(1, 6) + 0.3 * torch.randn(40, 6)  # bits that go together
    looser = [batch_entropy(logits)]
    for group in (3, 1):
        monkeypatch.setattr("tokenizer.quantizer.binary.GROUP", group)
        looser.append(batch_entropy(logits))
    exact, threes, ones = (float(value) for value in looser)
    assert exact + 0.01 < threes and threes + 0.01 < ones


@pytest.mark.parametrize("kind", [LFQ, BSQ])
def test_memory_at_a_quarter_million_codes(kind: type[LFQ]) -> None:
    """17 frames of 256x256 pixels at 4x8x8 are 5 x 32 x 32 tokens; all their codes are 5.4 GB."""
    quantizer = kind(18).train()
    vectors = torch.randn(1, 5 * 32 * 32, 18, requires_grad=True)

    def peak(start: int, work: object) -> float:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            work()  # type: ignore[operator]
        assert seen.profiler is not None
        events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
        sizes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
        return max(torch.tensor(sizes).cumsum(0).tolist()) / 1e6 + start

    assert peak(0, lambda: torch.empty(300_000_000, dtype=torch.uint8)) >= 300  # it does see
    assert peak(0, lambda: quantizer(vectors).loss.backward()) < 200
    assert vectors.grad is not None and bool(vectors.grad.isfinite().all())


@pytest.mark.parametrize("kind", [LFQ, BSQ])
def test_the_loss_makes_tokens_sure_and_uses_all_codes(kind: type[LFQ]) -> None:
    torch.manual_seed(0)
    quantizer = kind(4, entropy=1.0, commitment=0.0).train()
    vectors = torch.nn.Parameter(0.3 * torch.randn(1, 200, 4) + 0.5)  # most bits are on
    first, optimizer = quantizer(vectors), torch.optim.Adam([vectors], 0.05)
    for _ in range(60):
        optimizer.zero_grad()
        quantizer(vectors).loss.backward()
        optimizer.step()
    last = quantizer(vectors)
    before, after = (torch.bincount(out.codes[0], minlength=16) / 200 for out in (first, last))
    assert entropy(before) < 0.5 * math.log(16) and entropy(after) > 0.8 * math.log(16)
    assert last.loss < -0.7 * math.log(16)  # a token's entropy less the batch's


def test_codes_read_as_binary_numbers() -> None:
    vectors = torch.tensor([[[-1.0, 2.0, -0.5], [3.0, 1.0, -2.0], [0.0, 0.0, 0.1]]])
    for quantizer in (LFQ(3), BSQ(3)):
        assert quantizer(vectors).codes.tolist() == [[0b010, 0b110, 0b001]]
