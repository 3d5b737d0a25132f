"""Every quantizer keeps the face's promises."""

from __future__ import annotations

import pytest
import torch

from tokenizer.quantizer import FSQ, QUANTIZERS, Quantizer, Unquantized


@pytest.fixture(params=[(8, 5, 5, 5), (3,), (7, 7, 7, 5), (4, 6)], ids=str)
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    return FSQ(request.param).eval()


def test_decode_from_codes_equals_quantized(quantizer: Quantizer) -> None:
    result = quantizer(torch.randn(3, 50, quantizer.dim) * 3)
    assert result.codes.dtype == torch.int64 and result.codes.shape == (3, 50)
    assert torch.equal(quantizer.vectors(result.codes), result.quantized)
    assert 0 <= int(result.codes.min()) and int(result.codes.max()) < quantizer.codebook_size


def test_every_code_has_its_own_vector_and_comes_back(quantizer: Quantizer) -> None:
    vectors = quantizer.code_vectors()
    assert vectors.shape == (quantizer.codebook_size, quantizer.dim)
    assert len(vectors.unique(dim=0)) == quantizer.codebook_size
    assert vectors.abs().max() <= 1


def test_codes_in_range_and_fp32_under_bf16(quantizer: Quantizer) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = quantizer((torch.randn(2, 200, quantizer.dim) * 5).bfloat16())
    assert result.quantized.dtype == torch.float32
    assert 0 <= int(result.codes.min()) and int(result.codes.max()) < quantizer.codebook_size


@pytest.mark.parametrize("rounding", [True, False])
def test_gradient_reaches_the_encoder(quantizer: Quantizer, rounding: bool) -> None:
    vectors = torch.randn(2, 9, quantizer.dim, requires_grad=True)
    quantizer(vectors, rounding).quantized.square().sum().backward()
    assert vectors.grad is not None and bool((vectors.grad.abs().sum((0, 1)) > 0).all())


def test_rounding_of_the_unrounded_is_the_quantized(quantizer: Quantizer) -> None:
    vectors = torch.randn(2, 100, quantizer.dim)
    half = torch.tensor(quantizer.arguments["levels"]) // 2
    soft, hard = quantizer(vectors, False).quantized, quantizer(vectors).quantized
    assert torch.allclose((soft * half).round() / half, hard)


def test_arguments_build_it_again(quantizer: Quantizer) -> None:
    again = QUANTIZERS[type(quantizer).__name__](**quantizer.arguments)
    assert torch.equal(again.code_vectors(), quantizer.code_vectors())


@pytest.mark.parametrize("levels", [(2, 5), (), (256, 256, 257)])
def test_levels_that_cannot_work(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="FSQ wants levels"):
        FSQ(levels)


def test_unquantized_passes_vectors_and_cannot_decode() -> None:
    vectors = torch.randn(1, 3, 4)
    result = Unquantized(4)(vectors)
    assert torch.equal(result.quantized, vectors) and int(result.codes.max()) == 0
    with pytest.raises(ValueError, match="no codes to decode"):
        Unquantized(4).vectors(result.codes)
