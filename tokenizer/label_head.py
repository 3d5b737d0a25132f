"""`LabelHead`: reads a clip's labels off its summary tokens, so that these say what clips show.

Its loss stands beside the pixels' in training (docs/log.md has what it gains a language model) and
it is of no use afterwards but to tell how well codes keep the labels. It knows label names and
classes, not where they come from.

Legend: S clips, K summary tokens of a block, D dimensions of a code vector, F classes in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.labels import ABSENT
from tokenizer.summary import kept_of


class LabelHead(nn.Module):
    """A linear map of the summaries of a clip's first and last block and of the mean of all.

    Linear, so that a language model finds what it reads as easily; first and last, since labels
    may say what comes first and what then.

    Args:
        summary: Summary tokens of a block.
        dim: Dimensions of a code vector.
        classes: The classes of each label, by its name.
    """

    def __init__(self, summary: int, dim: int, classes: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        if not classes or any(len(names) < 2 for names in classes.values()):
            raise ValueError(f"classes={dict(classes)}: labels of at least two classes are needed")
        if summary < 1:
            raise ValueError(f"summary={summary}: labels are read off summary tokens, give some")
        self.summary = summary
        self.classes = {label: list(names) for label, names in classes.items()}
        self.sizes = [len(names) for names in self.classes.values()]
        self.read = nn.Linear(3 * summary * dim, sum(self.sizes))

    def forward(self, vectors: Tensor, counts: Tensor | None = None) -> Tensor:
        """Scores of all classes, float (S, F).

        Args:
            vectors: float (S, blocks, N, D) of codes, the summary's first.
            counts: int64 (S,), tokens kept of each block; None: all.
        """
        clips, blocks = vectors.shape[:2]
        flat = vectors[:, :, : self.summary].flatten(0, 1)
        if counts is not None:
            flat = flat * kept_of(flat, counts.repeat_interleave(blocks))
        each = flat.flatten(1).unflatten(0, (clips, blocks))  # (S, blocks, K * D)
        return self.read(torch.cat([each[:, 0], each[:, -1], each.mean(1)], 1))

    def loss(self, vectors: Tensor, labels: Tensor, counts: Tensor | None = None) -> Tensor:
        """Mean cross-entropy over the labels that clips have, in nats; 0 where none has any.

        Args:
            vectors: As for `forward`.
            labels: int64 (S, number of labels), class numbers or ABSENT.
            counts: As for `forward`.
        """
        parts = [
            F.cross_entropy(part, labels[:, i], ignore_index=ABSENT, reduction="sum")
            for i, part in enumerate(self(vectors, counts).split(self.sizes, 1))
        ]
        return torch.stack(parts).sum() / (labels != ABSENT).sum().clamp(min=1)

    @torch.no_grad()
    def right(self, vectors: Tensor, labels: Tensor) -> dict[str, float]:
        """The share of clips whose label is read rightly, by label; those without it do not count.

        Args:
            vectors: As for `forward`.
            labels: As for `loss`.
        """
        shares = {}
        for i, (name, part) in enumerate(
            zip(self.classes, self(vectors).split(self.sizes, 1), strict=True)
        ):
            there = labels[:, i] != ABSENT
            if bool(there.any()):
                shares[name] = float((part.argmax(1) == labels[:, i])[there].float().mean())
        return shares
