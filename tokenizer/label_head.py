"""`LabelHead`: reads a clip's labels off its code vectors, so that codes also say what clips show.

A codec trained on pixels alone may tell a star from a circle by shades that a small language model
takes long to learn. With this head's loss beside the pixels' (docs/log.md has what it gains) the
codes tell such things by themselves, and `evidence` tells the language model what each code hints
at. It knows label names and classes, not where they come from.

Legend: S clips, N tokens of a block, D dimensions of a code vector, F classes of all labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.labels import ABSENT


class LabelHead(nn.Module):
    """Each token votes for the classes of each label; a clip's votes are averaged.

    Args:
        dim: Dimensions of a code vector.
        classes: The classes of each label, by its name.
        hidden: Width of the layer between.
    """

    def __init__(self, dim: int, classes: Mapping[str, Sequence[str]], hidden: int = 128) -> None:
        super().__init__()
        if not classes or any(len(names) < 2 for names in classes.values()):
            raise ValueError(f"classes={dict(classes)}: labels of at least two classes are needed")
        self.classes = {label: list(names) for label, names in classes.items()}
        self.sizes = [len(names) for names in self.classes.values()]
        self.arguments = {"classes": self.classes, "hidden": hidden}
        self.inner = nn.Linear(dim, hidden)
        self.outer = nn.Linear(hidden, sum(self.sizes))

    def forward(self, vectors: Tensor) -> Tensor:
        """Votes (..., F) of vectors (..., D)."""
        return self.outer(F.silu(self.inner(vectors)))

    def loss(self, vectors: Tensor, labels: Tensor, counts: Tensor | None = None) -> Tensor:
        """Mean cross-entropy over the labels that clips have, in nats; 0 where none has any.

        Args:
            vectors: float (S, blocks, N, D), what the decoder sees.
            labels: int64 (S, number of labels), class numbers or ABSENT.
            counts: int64 (S,), the first so many tokens of each block vote; None: all do.
        """
        votes = self(vectors).mean(1)  # (S, N, F)
        if counts is None:
            votes = votes.mean(1)
        else:
            kept = (torch.arange(votes.shape[1], device=votes.device) < counts[:, None]).float()
            votes = (votes * (kept / counts[:, None])[:, :, None]).sum(1)
        parts = [
            F.cross_entropy(part, labels[:, i], ignore_index=ABSENT, reduction="sum")
            for i, part in enumerate(votes.split(self.sizes, 1))
        ]
        return torch.stack(parts).sum() / (labels != ABSENT).sum().clamp(min=1)

    @torch.no_grad()
    def evidence(self, vectors: Tensor) -> Tensor:
        """What code vectors (codes, D) hint at: votes (codes, F) about 0, about 1 in size."""
        votes = self(vectors)
        votes = votes - votes.mean(0)
        return votes / votes.square().mean().sqrt().clamp(min=1e-6)
