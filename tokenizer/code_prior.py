"""`CodePrior`: a small autoregressive model of a clip's codes, trained beside a codec.

Its loss reaches the encoder both through the vectors it reads and through those it foretells, so
that codes become easier to foretell (the first way is LARP's, arXiv 2410.21264, the second the
rate of learned compression, arXiv 1809.02736; reconstruction pays for it: watch both). A language
model reads a block's summary first, then its grid by time, rows and columns; so does this, but of
the grid it sees the nearest alone, and before a summary nothing but earlier ones and the phrases
that are said of the clip, as a language model draws a film from its words. Codes drawn by it stand
for those that a language model gets wrong, for a decoder to make the best of. It knows code
vectors and where they stand, not codecs or language models.

Legend: S clips, B blocks of each, N tokens of a block, M tokens in all, D dimensions of a code
vector, K codes, P phrases, W width, C numbers; T, h, w latents of a clip in time, rows and columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenizer.ordering import Ordering

MOST_CODES = 2**14  # whose scores are computed for every token
EARLIER = [(1, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]  # the latents before, and around it
NEAR = [(0, 1, -1), (0, 1, 0), (0, 1, 1), (0, 2, 0), (0, 0, 1), (0, 0, 2)]  # above and to the left


class CodePrior(nn.Module):
    """Foretells each vector, and how surely, from neighbours read before it and the summary.

    Args:
        dim: Dimensions of a code vector.
        summary: Tokens of a block before its grid's.
        width: Of the network.
        phrases: That clips may have.
    """

    def __init__(self, dim: int, summary: int = 0, width: int = 64, phrases: int = 0) -> None:
        super().__init__()
        self.summary, self.phrases = summary, phrases
        self.near = nn.Linear(len(EARLIER + NEAR) * (dim + 1), width)
        self.mix = nn.Linear(width, width)
        if summary:
            self.told = nn.Linear(summary * dim, width)
            self.places = nn.Parameter(torch.zeros(summary, dim))
            self.read = nn.GRU(3 * dim + (width if phrases else 0), width, batch_first=True)
            self.hear = nn.Linear(phrases, width) if phrases else None
        self.aim = nn.Linear(width, 2 * dim)  # where among the code vectors, and how surely

    def forward(
        self,
        codes: Tensor,
        vectors: Tensor,
        table: Tensor,
        ordering: Ordering,
        grid: tuple[int, int, int],
        said: Tensor | None = None,
    ) -> Tensor:
        """Mean cross-entropy of codes given those before them, in nats a token.

        Args:
            codes: int64 (S, B, N).
            vectors: float (S, B, N, D), theirs, with gradients to the encoder.
            table: float (K, D), the vector of every code; a codebook that learns by averages has
                moved on since `vectors` were taken from it.
            ordering: Of a block's tokens after the summary.
            grid: A block's latents in time, rows and columns.
            said: int64 (S, P), 1 for a phrase that is said of a clip; None: nothing is known.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = vectors.float()
            aim, sure = self.foretell(*self._as_read(vectors, ordering, grid), said)
            rows = table[codes] + (vectors - vectors.detach())  # the table's, the encoder's pull
            told, placed = self._as_read(rows, ordering, grid)
            true = torch.cat([told.flatten(0, 2), placed.flatten(0, 3)])
            scores = _scores(aim, sure, table)
            chosen = (sure * true * (2 * aim - true)).sum(1)
            return (scores.logsumexp(1) - chosen).mean()

    @torch.no_grad()
    def draw(
        self,
        vectors: Tensor,
        table: Tensor,
        ordering: Ordering,
        grid: tuple[int, int, int],
        luck: Tensor,
    ) -> Tensor:
        """Vectors of codes drawn for the grid, float (S, B, N - summary, D), each given true ones.

        Args:
            vectors, table, ordering, grid: As for `forward`.
            luck: float (S, B, N - summary) in [0, 1), a draw for each.
        """
        with torch.autocast(vectors.device.type, enabled=False):
            aim, sure = self._grid(*self._as_read(vectors.float(), ordering, grid))
            chance = _scores(aim, sure, table).softmax(1).cumsum(1)  # (M, K)
            at = luck.reshape(-1, 1) * chance[:, -1:]
            codes = torch.searchsorted(chance, at, right=True).clamp(max=len(table) - 1)
            drawn = table[codes[:, 0]].unflatten(0, luck.shape)  # in raster order
            return drawn[:, :, ordering.permutation.to(drawn.device)]

    def _as_read(
        self, vectors: Tensor, ordering: Ordering, grid: tuple[int, int, int]
    ) -> tuple[Tensor, Tensor]:
        """Summaries (S, B, summary, D) and latents (S, T, h, w, D) of vectors (S, B, N, D)."""
        told, placed = vectors.split((self.summary, vectors.shape[2] - self.summary), 2)
        placed = placed[:, :, ordering.rank.to(vectors.device)].flatten(1, 2)
        return told, placed.unflatten(1, (-1, *grid[1:]))

    def foretell(
        self, told: Tensor, placed: Tensor, said: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Where each vector is expected, and how surely: the weight of its squared distance.

        Args:
            told: float (S, B, summary, D).
            placed: float (S, T, h, w, D).
            said: As for `forward`.

        Returns:
            Two (M, D): first of all summaries, then of all latents, as they are given.
        """
        grid = self._grid(told, placed)
        if not self.summary:
            return grid
        summaries = self._aimed(self._summaries(told, said))
        return torch.cat([summaries[0], grid[0]]), torch.cat([summaries[1], grid[1]])

    def _aimed(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Where, and how surely, states (M, W) expect vectors, two (M, D)."""
        aim, sure = self.aim(F.silu(states)).chunk(2, 1)
        return aim, F.softplus(sure + 1)

    def _grid(self, told: Tensor, placed: Tensor) -> tuple[Tensor, Tensor]:
        """Of the latents alone, what `foretell` says."""
        hidden = self.near(neighbours(placed))
        if self.summary:
            heard = self.told(told.flatten(2))  # (S, B, W)
            heard = heard.repeat_interleave(placed.shape[1] // told.shape[1], 1)
            hidden = hidden + heard[:, :, None, None]
        return self._aimed(self.mix(F.silu(hidden)).flatten(0, 3))

    def _summaries(self, told: Tensor, said: Tensor | None) -> Tensor:
        """States (S * B * summary, W) that foretell summaries (S, B, summary, D)."""
        flat = told.flatten(1, 2)  # one sequence of all blocks of a clip
        before = F.pad(flat[:, :-1], (0, 0, 1, 0))
        same = F.pad(flat[:, : -self.summary], (0, 0, self.summary, 0))  # of the block before
        places = self.places.repeat(told.shape[1], 1).expand_as(flat)
        parts = [before, same, places]
        if self.hear is not None:  # ABSENT, of clips without captions, is nothing said
            given = flat.new_zeros(len(flat), self.phrases) if said is None else said.clamp(min=0)
            parts.append(self.hear(given.to(flat.dtype))[:, None].expand(-1, flat.shape[1], -1))
        return self.read(torch.cat(parts, 2))[0].flatten(0, 1)


def _scores(aim: Tensor, sure: Tensor, table: Tensor) -> Tensor:
    """Of every code (M, K), up to a constant of each row: less, the farther it is off the aim."""
    return 2 * (sure * aim) @ table.T - sure @ table.T.square()


def neighbours(placed: Tensor) -> Tensor:
    """What was read before each of latents (S, T, h, w, D), and whether there was: (.., C)."""
    known = F.pad(placed, (0, 1), value=1.0)  # 0 beyond the edges
    _, time, height, width, _ = known.shape
    padded = F.pad(known, (0, 0, 2, 1, 2, 1, 1, 0))
    parts = [
        padded[:, 1 - t :, 2 - y : 2 - y + height, 2 - x : 2 - x + width][:, :time]
        for t, y, x in EARLIER + NEAR
    ]
    return torch.cat(parts, -1)
