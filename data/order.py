"""The order in which items are visited in training: a pure function of seed and step.

Nothing here is stateful, so a run resumed at step s sees exactly what an uninterrupted one would
have seen. It knows numbers of items, not what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info


@lru_cache(maxsize=4)
def _permutation(num_items: int, seed: int, epoch: int) -> np.ndarray:
    order = np.random.default_rng((seed, epoch)).permutation(num_items)
    order.flags.writeable = False
    return order


class ShuffledBatches:
    """Endless batches of item numbers, each item once an epoch in an order of its own.

    The epochs follow one another without a gap, so a batch may end one and begin the next. At
    each step the ranks' batches, put together, are the batch that one rank of
    `batch_size * world_size` would have seen.

    Args:
        num_items: Items there are.
        batch_size: Items a batch, on each rank.
        seed: Chooses the order.
        rank: This process, 0 to `world_size - 1`.
        world_size: Processes that share the items.
    """

    def __init__(
        self, num_items: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if num_items < 1:
            raise ValueError(f"num_items={num_items}: there is nothing to draw batches from")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: at least one item a batch")
        if seed < 0:
            raise ValueError(f"seed={seed}: give a seed of 0 or more")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank}: must lie in 0..{world_size - 1} (world_size - 1)")
        self.num_items = num_items
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size

    @property
    def steps_per_epoch(self) -> float:
        """Steps, over all ranks, in which each item is seen once."""
        return self.num_items / (self.batch_size * self.world_size)

    def epoch(self, step: int) -> int:
        """The epoch of the first item of this rank's batch at `step`."""
        return self._first(step) // self.num_items

    def batch(self, step: int) -> list[int]:
        """The `batch_size` item numbers of this rank at `step` (0, 1, ...)."""
        if step < 0:
            raise ValueError(f"step={step}: steps count from 0")
        first = self._first(step)
        places = range(first, first + self.batch_size)
        return [self._item(place) for place in places]

    def _first(self, step: int) -> int:
        return (step * self.world_size + self.rank) * self.batch_size

    def _item(self, place: int) -> int:
        epoch, offset = divmod(place, self.num_items)
        return int(_permutation(self.num_items, self.seed, epoch)[offset])


class StepLoader(IterableDataset):
    """What `fetch(step, indices)` makes of each step's batch, from step `start` on.

    Give it to `DataLoader(loader, batch_size=None, num_workers=W)`: the workers take steps in
    turn and the loader hands them out in order, so any W yields the same sequence. `fetch` gets
    the step so that whatever it draws at random can be seeded by it.

    Args:
        batches: The order of the items.
        fetch: Makes a batch of a step and its item numbers; picklable if there are workers.
        start: First step, e.g. the step to resume at.
        num_steps: Steps to yield; None for an endless loader.
    """

    def __init__(
        self,
        batches: ShuffledBatches,
        fetch: Callable[[int, list[int]], Any],
        start: int = 0,
        num_steps: int | None = None,
    ) -> None:
        super().__init__()
        if start < 0:
            raise ValueError(f"start={start}: steps count from 0")
        self.batches = batches
        self.fetch = fetch
        self.start = start
        self.num_steps = num_steps

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        step = self.start + first
        while self.num_steps is None or step < self.start + self.num_steps:
            yield self.fetch(step, self.batches.batch(step))
            step += stride
