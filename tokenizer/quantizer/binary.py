"""Binary quantizers: each dimension of a vector is a bit, -1 or 1.

By hand, as vector_quantize_pytorch's hold a probability for every code of every token and, on
several ranks, drop the very mean over ranks that they compute. Nothing of them is learned.

Legend: B blocks, N tokens of a block, D dimensions (bits) of a code vector, M rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tokenizer.quantizer.face import (
    LARGEST,
    Quantized,
    Quantizer,
    check_size,
    on_sphere,
    straight_through,
)
from tokenizer.ranks import mean_over_ranks

GROUP = 18  # bits whose joint entropy is exact; beyond, groups of at most so many are summed
ROWS = 4096  # rows whose probabilities are held at a time


def token_entropy(logits: Tensor) -> Tensor:
    """Mean entropy in nats of the rows' codes, whose bits are on with these logits (M, D).

    Exact: a code's squared distance is the sum of its bits', so its probability is their product.
    """
    return (F.softplus(logits) - logits * torch.sigmoid(logits)).sum(1).mean()


def batch_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of the codes over all rows (M, D) of all ranks.

    Exact up to `GROUP` bits; above, the sum of the entropies of groups of bits, an upper bound.
    """
    groups = logits.tensor_split(-(-logits.shape[1] // GROUP), 1)
    shares = [mean_over_ranks(code_shares(group)) for group in groups]
    return torch.stack([-torch.special.xlogy(share, share).sum() for share in shares]).sum()


def code_shares(logits: Tensor) -> Tensor:
    """Mean probability of every code over rows (M, D), (2^D,).

    The mean over rows of outer products is a matrix product of the halves' probabilities: for M
    rows it takes M * 2^(D/2) numbers instead of M * 2^D.
    """
    shares = torch.stack(
        [checkpoint(_summed, part, use_reentrant=False) for part in logits.split(ROWS)]  # pyright: ignore
    )
    return shares.sum(0).flatten() / len(logits)


def _summed(logits: Tensor) -> Tensor:
    left, right = (_probabilities(half) for half in logits.tensor_split(2, 1))
    return left.mT @ right  # (2^half, 2^half)


def _probabilities(logits: Tensor) -> Tensor:
    bits = logits.shape[1]
    signs = signs_of(torch.arange(2**bits, device=logits.device), bits)
    return (logits @ signs.mT / 2).softmax(1)  # (M, 2^bits)


def signs_of(codes: Tensor, bits: int) -> Tensor:
    """The bits of codes int64 (...) as -1 and 1, float32 (..., bits), most significant first."""
    places = torch.arange(bits - 1, -1, -1, device=codes.device)
    return (codes[..., None] >> places & 1).float() * 2 - 1


class LFQ(Quantizer):
    """Lookup-free quantization (arXiv 2310.05737): the signs of a vector's dimensions.

    Its loss asks for tokens that are sure of their code (low entropy each) and for all codes to be
    used (high entropy over the batch); without it most codes stay unused.

    Args:
        bits: Dimensions of a vector; the codebook has 2 to this power codes.
        entropy: Weight of a token's entropy less the batch's.
        diversity: Weight of the batch's entropy against the token's.
        commitment: Weight of the squared distance that draws vectors to their codes.
        temperature: Codes are taken to be as likely as exp(-squared distance / temperature).
    """

    def __init__(
        self,
        bits: int = 10,
        entropy: float = 0.1,
        diversity: float = 1.0,
        commitment: float = 0.25,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if not 1 <= bits <= LARGEST.bit_length() - 1 or temperature <= 0:
            raise ValueError(
                f"bits={bits}, temperature={temperature}: give 1 to 24 bits and a positive "
                "temperature"
            )
        self.arguments = {
            "bits": bits,
            "entropy": entropy,
            "diversity": diversity,
            "commitment": commitment,
            "temperature": temperature,
        }
        self.dim = bits
        self.codebook_size = check_size(f"bits={bits}", 2**bits)
        self.entropy, self.diversity, self.commitment = entropy, diversity, commitment
        self.temperature = temperature

    def bounded(self, vectors: Tensor) -> Tensor:
        """The vectors squeezed to where the codes are."""
        return torch.tanh(vectors)

    def quantize(self, vectors: Tensor, rounding: bool) -> Quantized:
        soft = self.bounded(vectors)
        bits = (soft > 0).long()
        codes = (bits << torch.arange(self.dim - 1, -1, -1, device=bits.device)).sum(-1)
        hard = bits.float() * 2 - 1
        loss = self._loss(soft, hard) if self.learning else soft.new_zeros(())
        return Quantized(straight_through(soft, hard) if rounding else soft, codes, loss)

    def _loss(self, soft: Tensor, hard: Tensor) -> Tensor:
        loss = self.commitment * F.mse_loss(soft, hard)
        if self.entropy:
            logits = soft.flatten(0, 1) * (4 / self.temperature)  # of a bit's being on
            spread = token_entropy(logits) - self.diversity * batch_entropy(logits)
            loss = loss + self.entropy * spread
        return loss

    def vectors(self, codes: Tensor) -> Tensor:
        return signs_of(codes, self.dim)


class BSQ(LFQ):
    """Binary spherical quantization (arXiv 2406.07548): LFQ of vectors on the sphere of the codes.

    The sphere is the paper's times the square root of `bits`, so that codes are -1 and 1 as LFQ's.
    """

    def bounded(self, vectors: Tensor) -> Tensor:
        return on_sphere(vectors)
