"""A memory of fixed size: parts of a video, the most alike of neighbours merged.

Knows tokens and what they look like. Knows no questions and no language model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from lm.long.parts import Part
from tokenizer.tokens import VideoTokens

BUDGET = 2560  # tokens, where none is given


@dataclass(frozen=True)
class Kept:
    """What a memory keeps of a stretch of a video: one part of it."""

    part: Part
    looks: Tensor  # float32 (D,)
    stands_for: int = 1  # parts of the stretch, this one included


class Memory:
    """Parts within a budget of tokens, whatever the length of the video.

    When a part more would break the budget, the two neighbours that look most alike become one:
    the one that stands for more parts stays, of two equal ones the
    earlier.

    Args:
        budget: Most tokens held.
        features: What tokens look like, see `Reader.features`.
        block_tokens: Most tokens kept of a block, its coarsest; None: all.
    """

    def __init__(
        self,
        budget: int,
        features: Callable[[VideoTokens], Tensor],
        block_tokens: int | None = None,
    ) -> None:
        if budget < 1:
            raise ValueError(f"recall={budget}: give 1 token or more")
        self.budget, self.block_tokens = budget, block_tokens
        self.kept: list[Kept] = []
        self._features = features
        self._far: list[float] = []  # how unlike each neighbour pair looks

    @property
    def num_tokens(self) -> int:
        return sum(each.part.tokens.num_tokens for each in self.kept)

    def add(self, part: Part) -> None:
        """Take the next part.

        Raises:
            ValueError: it alone takes more than the budget.
        """
        if self.block_tokens is not None:
            part = replace(part, tokens=part.tokens.keep(self.block_tokens))
        if part.tokens.num_tokens > self.budget:
            raise ValueError(
                f"recall={self.budget}: a part takes {part.tokens.num_tokens} tokens, give at "
                "least as many"
            )
        looks = self._features(part.tokens)
        self.kept.append(Kept(part, looks))
        if len(self.kept) > 1:
            self._far.append(unlike(self.kept[-2].looks, looks))
        while self.num_tokens > self.budget:
            self._merge(min(range(len(self._far)), key=lambda i: self._far[i]))

    def _merge(self, i: int) -> None:
        """Neighbours i and i + 1 into one."""
        a, b = self.kept[i], self.kept[i + 1]
        stays = a if a.stands_for >= b.stands_for else b
        one = replace(stays, stands_for=a.stands_for + b.stands_for)
        self.kept[i : i + 2] = [one]
        del self._far[i]
        if i > 0:
            self._far[i - 1] = unlike(self.kept[i - 1].looks, one.looks)
        if i < len(self._far):
            self._far[i] = unlike(one.looks, self.kept[i + 1].looks)


def unlike(a: Tensor, b: Tensor) -> float:
    """How unlike two looks are: 0 the same, near 0.7 unrelated, 1 opposite; 1 for other shapes."""
    if a.shape != b.shape:
        return 1.0
    return float((a - b).norm() / (a.norm() + b.norm() + 1e-9))
