"""`CodePrior`: a small autoregressive model of a block's codes, trained beside a codec.

Its loss reaches the encoder through the vectors it reads, so that codes become easier to foretell
(after LARP, arXiv 2410.21264, where reconstruction paid for it: watch both). It knows code
vectors, not codecs or language models.

Legend: B blocks, N tokens of a block, D dimensions of a code vector, K codes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_CODES = 2**14  # whose scores are computed for every token


class CodePrior(nn.Module):
    """A recurrent network over a block's vectors that scores every code of the next token.

    Args:
        dim: Dimensions of a code vector.
        width: Of the network.
    """

    def __init__(self, dim: int, width: int = 64) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(dim))
        self.read = nn.GRU(dim, width, batch_first=True)
        self.aim = nn.Linear(width, dim + 1)  # a place among the code vectors, and how sure

    def forward(self, vectors: Tensor, codes: Tensor, table: Tensor) -> Tensor:
        """Mean cross-entropy of codes given those before them, in nats per token.

        Args:
            vectors: float (B, N, D), what the decoder sees, with gradients to the encoder.
            codes: int64 (B, N).
            table: float (K, D), the vector of every code.
        """
        first = self.start.expand(len(vectors), 1, -1)
        with torch.autocast(vectors.device.type, enabled=False):
            seen, _ = self.read(torch.cat([first, vectors[:, :-1].float()], 1))
            aim, sure = self.aim(seen).split((vectors.shape[2], 1), 2)
            far = (aim.square().sum(2, keepdim=True) - 2 * aim @ table.T) + table.square().sum(1)
            return F.cross_entropy((-F.softplus(sure + 1) * far).flatten(0, 1), codes.flatten())
