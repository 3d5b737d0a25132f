"""Order of training: each item once an epoch, resuming changes nothing, ranks share exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from data.order import ShuffledBatches, StepLoader

sizes = st.integers(1, 40)


@given(sizes, st.integers(1, 9), st.integers(0, 2**40))
def test_each_item_once_an_epoch(num_items, batch_size, seed):
    batches = ShuffledBatches(num_items, batch_size, seed)
    steps = -(-3 * num_items // batch_size)
    stream = [item for step in range(steps) for item in batches.batch(step)]
    for epoch in range(3):
        part = stream[epoch * num_items : (epoch + 1) * num_items]
        assert sorted(part) == list(range(num_items))


@given(sizes, st.integers(1, 9), st.integers(0, 99), st.integers(0, 1000))
def test_resume_is_uninterrupted(num_items, batch_size, seed, step):
    uninterrupted = ShuffledBatches(num_items, batch_size, seed)
    for earlier in range(max(step - 3, 0), step):
        uninterrupted.batch(earlier)
    assert ShuffledBatches(num_items, batch_size, seed).batch(step) == uninterrupted.batch(step)


@given(sizes, st.integers(1, 5), st.integers(1, 4), st.integers(0, 50))
def test_ranks_partition_one(num_items, batch_size, world_size, step):
    alone = ShuffledBatches(num_items, batch_size * world_size, 7)
    ranks = [ShuffledBatches(num_items, batch_size, 7, r, world_size) for r in range(world_size)]
    assert sum((rank.batch(step) for rank in ranks), []) == alone.batch(step)
    assert ranks[0].steps_per_epoch == alone.steps_per_epoch
    assert ranks[0].epoch(step) == alone.epoch(step)


def test_epochs_and_seeds_differ():
    orders = {tuple(ShuffledBatches(20, 20, seed).batch(e)) for seed in (0, 1) for e in (0, 1)}
    assert len(orders) == 4


def fetch(step, indices):
    return {"step": step, "items": indices}  # a dict passes the loader unchanged


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
@pytest.mark.parametrize("workers", [0, 2])
def test_loader_starts_at_a_step_in_order(workers):
    batches = ShuffledBatches(10, 3, 0)
    loader = StepLoader(batches, fetch, start=4, num_steps=7)
    got = list(DataLoader(loader, batch_size=None, num_workers=workers))
    assert got == [fetch(step, batches.batch(step)) for step in range(4, 11)]


def test_wrong_numbers():
    for wrong, name in (
        ((0, 1, 0), "num_items"),
        ((1, 0, 0), "batch_size"),
        ((1, 1, -1), "seed"),
        ((1, 1, 0, 2, 2), "rank"),
    ):
        with pytest.raises(ValueError, match=name):
            ShuffledBatches(*wrong)
    with pytest.raises(ValueError, match="step"):
        ShuffledBatches(1, 1, 0).batch(-1)
    with pytest.raises(ValueError, match="start"):
        StepLoader(ShuffledBatches(1, 1, 0), fetch, start=-1)
