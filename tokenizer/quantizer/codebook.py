"""Quantizers with a table of code vectors: VQ, residual VQ and SimVQ.

By hand, as vector_quantize_pytorch decides at construction whether its statistics go over all
ranks, starts its k-means in evaluation too, and makes codes depend on the number of rows. All three
quantize vectors on a sphere: normalised codes of few dimensions keep large codebooks in use
(arXiv 2110.04627).

Legend: B blocks, N tokens of a block, D dimensions of a code vector, K codes, M rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenizer.layers import multiply
from tokenizer.quantizer.face import (
    Quantized,
    Quantizer,
    check_size,
    fold,
    join,
    on_sphere,
    straight_through,
    unfold,
)
from tokenizer.ranks import gather_rows

KMEANS_STEPS = 10
PAIRS = 2**22  # distances held at a time


def nearest(rows: Tensor, table: Tensor) -> Tensor:
    """The code int64 (M,) of the table's (K, D) vector nearest to each row (M, D).

    One matrix product, in which a row's sums do not depend on the number of rows: half of each
    squared distance, less what all codes of a row have in common.
    """
    ones = rows.new_ones(len(rows), 1)
    half = torch.cat([-table, table.square().sum(1, keepdim=True) / 2], 1)  # (K, D + 1)
    parts = torch.cat([rows, ones], 1).split(max(1, PAIRS // len(table)))
    return torch.cat([_least(multiply(part, half)) for part in parts])


def _least(distances: Tensor) -> Tensor:
    """`argmin` of (M, K) over K; numpy's is twenty times as quick as torch's on a CPU."""
    if distances.device.type != "cpu" or torch.compiler.is_compiling():
        return distances.argmin(1)
    return torch.from_numpy(distances.numpy().argmin(1))


def tally(rows: Tensor, codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """How many rows each code has (K,), and their sum (K, D)."""
    counts = torch.bincount(codes, minlength=size).to(rows.dtype)
    return counts, rows.new_zeros(size, rows.shape[1]).index_add_(0, codes, rows)


class Codebook(nn.Module):
    """A table that follows the mean of the rows each code is given, by moving averages.

    It starts as the k-means of the first rows seen; a code that hardly any row takes is put where
    a row is. All randomness follows from the number of updates, so that ranks stay alike and a
    resumed run equals an uninterrupted one.

    Args:
        size: Number of codes.
        dim: Dimensions of a code vector.
        decay: Of the moving averages, per update.
        dead: Share of an average code's rows below which a code is dead; 0 resets none.
    """

    table: Tensor  # (K, D)
    counts: Tensor  # (K,), moving average of rows of an update
    sums: Tensor  # (K, D), moving average of their sums
    updates: Tensor  # int64

    def __init__(self, size: int, dim: int, decay: float, dead: float) -> None:
        super().__init__()
        self.size, self.decay, self.dead = size, decay, dead
        self.register_buffer("table", on_sphere(torch.randn(size, dim)))
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("sums", torch.zeros(size, dim))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def start(self, rows: Tensor) -> None:
        """Begin with the k-means of some rows (M, D), unless there were updates before."""
        if int(self.updates) > 0:
            return
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        picks = order[torch.arange(self.size) % len(rows)].to(rows.device)
        self.table.copy_(rows[picks])
        for _ in range(KMEANS_STEPS):
            counts, sums = tally(rows, nearest(rows, self.table), self.size)
            self.counts.copy_(counts)
            self.sums.copy_(sums)
            self._follow()

    @torch.no_grad()
    def update(self, rows: Tensor, codes: Tensor) -> None:
        """Take one step's rows (M, D) with their codes (M,) into the averages."""
        counts, sums = tally(rows, codes, self.size)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        self._follow()
        self.updates += 1
        self._reset_dead(rows)

    def _follow(self) -> None:
        means = self.sums / self.counts.clamp(min=1e-6)[:, None]
        self.table.copy_(torch.where(self.counts[:, None] > 1e-6, means, self.table))

    def _reset_dead(self, rows: Tensor) -> None:
        average = self.counts.mean()
        dead = (self.counts < self.dead * average).nonzero()[:, 0]
        number = min(len(dead), len(rows))
        if not number:
            return
        generator = torch.Generator().manual_seed(int(self.updates))
        dead = dead[torch.randperm(len(dead), generator=generator)[:number].to(dead.device)]
        picks = torch.randperm(len(rows), generator=generator)[:number].to(rows.device)
        self.table[dead] = rows[picks]
        self.counts[dead] = average  # long until it counts as dead again
        self.sums[dead] = rows[picks] * average


class ResidualVQ(Quantizer):
    """Residual vector quantization (arXiv 2107.03312): each codebook codes what the ones before
    left over. The digits are folded into one code, or each is a token, so that a rate may drop
    the deeper ones.

    Args:
        num_codes: Codes of each codebook.
        depth: Number of codebooks; folded, num_codes to this power is the size of the whole.
        dim: Dimensions of a code vector; few, 4 to 16, keep codebooks in use.
        commitment: Weight of the squared distance that draws vectors to their codes.
        decay: Of the codebooks' moving averages, per training step.
        dead: Share of an average code's use below which a code is put elsewhere; 0 never does.
        split: Each digit is a token; clips then have `depth` times as many, of num_codes codes.
    """

    def __init__(
        self,
        num_codes: int = 32,
        depth: int = 2,
        dim: int = 8,
        commitment: float = 0.25,
        decay: float = 0.99,
        dead: float = 0.05,
        split: bool = False,
    ) -> None:
        super().__init__()
        check_table(num_codes, dim)
        if depth < 1 or not 0 <= decay < 1 or not 0 <= dead < 1:
            raise ValueError(
                f"depth={depth}, decay={decay}, dead={dead}: give at least one codebook, decay and "
                "dead in [0, 1)"
            )
        self.arguments = {
            "num_codes": num_codes,
            "depth": depth,
            "dim": dim,
            "commitment": commitment,
            "decay": decay,
            "dead": dead,
        }
        self.dim, self.base, self.commitment = dim, num_codes, commitment
        if split:
            self.arguments["split"], self.depth = True, depth
        asked = f"num_codes={num_codes}, depth={depth}"
        self.codebook_size = check_size(asked, num_codes ** (1 if split else depth))
        books = [Codebook(num_codes, dim, decay, dead) for _ in range(depth)]
        self.books: list[Codebook] = nn.ModuleList(books)  # pyright: ignore[reportAttributeAccessIssue]

    def quantize(self, vectors: Tensor, rounding: bool) -> Quantized:
        soft = on_sphere(vectors)
        rows = soft.detach().flatten(0, 1)  # (M, D)
        everyone = gather_rows(rows) if self.learning else rows
        following = self.learning and bool(everyone.isfinite().all())  # on all ranks or on none
        hard, digits, parts = torch.zeros_like(rows), [], []
        for book in self.books:
            if following:
                book.start(everyone)
            digits.append(nearest(rows - hard, book.table))
            parts.append(book.table[digits[-1]])
            hard = hard + parts[-1]
            if following:
                codes = gather_rows(digits[-1])
                taken = book.table[codes]
                book.update(everyone, codes)
                everyone = everyone - taken
        hard, loss = hard.view_as(soft), soft.new_zeros(())
        if self.learning:
            loss = self.commitment * F.mse_loss(soft, hard)
        if self.depth > 1:
            parts = [part.view_as(soft) for part in parts]
            return join(parts, soft, [d.view(soft.shape[:2]) for d in digits], loss, rounding)
        codes = fold(digits, self.base).view(soft.shape[:2])
        return Quantized(straight_through(soft, hard) if rounding else soft, codes, loss)

    def vectors(self, codes: Tensor) -> Tensor:
        if self.depth > 1:
            digits = codes.chunk(self.depth, -1)
            pairs = zip(self.books, digits, strict=True)
            return torch.cat([book.table[digit] for book, digit in pairs], -2)
        digits = unfold(codes, self.base, len(self.books))
        out = torch.zeros(*codes.shape, self.dim, device=codes.device)
        for book, digit in zip(self.books, digits, strict=True):
            out = out + book.table[digit]
        return out


class VQ(ResidualVQ):
    """Vector quantization (arXiv 1711.00937) with one codebook kept by moving averages.

    Args:
        num_codes: Codes of the codebook.
        dim: Dimensions of a code vector; few, 4 to 16, keep a large codebook in use.
        commitment: Weight of the squared distance that draws vectors to their codes.
        decay: Of the codebook's moving averages, per training step.
        dead: Share of an average code's use below which a code is put elsewhere; 0 never does.
    """

    def __init__(
        self,
        num_codes: int = 1024,
        dim: int = 8,
        commitment: float = 0.25,
        decay: float = 0.99,
        dead: float = 0.05,
    ) -> None:
        super().__init__(num_codes, 1, dim, commitment, decay, dead)
        del self.arguments["depth"]


class SimVQ(Quantizer):
    """Vectors that never change, seen through one linear map that is learned (arXiv 2411.02038).

    The map moves all codes at once, so that none is left behind.

    Args:
        num_codes: Codes of the codebook.
        dim: Dimensions of a code vector.
        commitment: Weight of the squared distance that draws vectors to their codes.
        codebook: Weight of the same distance where it draws codes to their vectors.
    """

    fixed: Tensor

    def __init__(
        self,
        num_codes: int = 1024,
        dim: int = 8,
        commitment: float = 0.25,
        codebook: float = 1.0,
    ) -> None:
        super().__init__()
        check_table(num_codes, dim)
        self.arguments = {
            "num_codes": num_codes,
            "dim": dim,
            "commitment": commitment,
            "codebook": codebook,
        }
        self.dim, self.commitment, self.codebook = dim, commitment, codebook
        self.codebook_size = check_size(f"num_codes={num_codes}", num_codes)
        self.register_buffer("fixed", on_sphere(torch.randn(num_codes, dim)))
        self.map = nn.Linear(dim, dim, bias=False)
        nn.init.eye_(self.map.weight)  # codes begin where vectors are: on the sphere

    def quantize(self, vectors: Tensor, rounding: bool) -> Quantized:
        soft, table = on_sphere(vectors), self.map(self.fixed)
        codes = nearest(soft.detach().flatten(0, 1), table.detach()).view(soft.shape[:2])
        hard = table[codes]
        loss = soft.new_zeros(())
        if self.learning:
            loss = self.commitment * F.mse_loss(soft, hard.detach())
            loss = loss + self.codebook * F.mse_loss(hard, soft.detach())
        return Quantized(straight_through(soft, hard) if rounding else soft, codes, loss)

    def vectors(self, codes: Tensor) -> Tensor:
        with torch.autocast(codes.device.type, enabled=False):
            return self.map(self.fixed)[codes]  # the whole table, as its rows come out in encoding


def check_table(num_codes: int, dim: int) -> None:
    """ValueError unless vectors on a sphere of so many dimensions can have so many codes."""
    if num_codes < 2 or dim < 2:
        raise ValueError(f"num_codes={num_codes}, dim={dim}: give at least 2 of both")
