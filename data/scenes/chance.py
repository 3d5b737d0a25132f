"""Random draws that depend on (seed, stream, clip) alone, whatever else is drawn beside them.

Counter-based: clip i costs the same to reach as clip 0, and no draw of one clip moves another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


class Chance:
    """A stream of uniform draws for one clip.

    Args:
        seed: the world's seed.
        stream: which of the world's streams (split and purpose).
        index: the clip.
    """

    def __init__(self, seed: int, stream: int, index: int) -> None:
        key = np.array([seed & (2**64 - 1), stream], dtype=np.uint64)
        self._generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, 0]))
        self._values: list[float] = []

    def unit(self) -> float:
        """A number in [0, 1)."""
        if not self._values:
            self._values = self._generator.random(64).tolist()
        return self._values.pop()

    def array(self, *shape: int) -> np.ndarray:
        """Numbers in [0, 1)."""
        return self._generator.random(shape)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def maybe(self, probability: float) -> bool:
        return self.unit() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items, each as likely."""
        return items[int(self.unit() * len(items))]

    def some(self, items: Sequence[Item], count: int) -> list[Item]:
        """`count` different items (all of them if there are fewer) in random order."""
        pool = list(items)
        return [pool.pop(int(self.unit() * len(pool))) for _ in range(min(count, len(pool)))]
