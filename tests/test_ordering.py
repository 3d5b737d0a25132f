"""Orderings are permutations whose every prefix can stand in for the rest."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenizer.ordering import BlockLayout, Order, order_grid

sides = st.integers(1, 9)


@pytest.mark.parametrize("order", ["interlaced", "time-interlaced", "raster"])
@given(time=sides, height=sides, width=sides)
def test_any_grid_is_permuted_and_parents_come_first(
    order: Order, time: int, height: int, width: int
) -> None:
    made = order_grid(order, time, height, width)
    num = time * height * width
    assert torch.equal(made.permutation.sort().values, torch.arange(num))
    assert torch.equal(made.permutation[made.rank], torch.arange(num))
    first = int(made.permutation[0])
    assert first == 0 and int(made.parent[0]) == 0
    others = torch.arange(num) != 0
    assert bool((made.rank[made.parent] < made.rank)[others].all())


@given(time=sides, height=sides, width=sides, data=st.data())
def test_sources_are_kept_tokens(time: int, height: int, width: int, data: st.DataObject) -> None:
    made = order_grid("interlaced", time, height, width)
    num = time * height * width
    counts = torch.tensor([num, 1, data.draw(st.integers(1, num))])
    tokens, hops = made.sources(counts)
    assert bool((tokens < counts[:, None]).all())
    own = made.rank < counts[:, None]
    assert torch.equal(hops == 0, own)
    assert torch.equal(torch.where(own, tokens, -1), torch.where(own, made.rank, -1))


LATTICES: dict[Order, dict[int, tuple[int, int, int]]] = {  # spacing in time, height, width
    "interlaced": {4: (4, 4, 4), 32: (2, 2, 2), 128: (2, 1, 1), 64: (2, 2, 1)},
    "time-interlaced": {4: (4, 4, 4), 32: (2, 2, 2), 64: (1, 2, 2), 128: (1, 2, 1)},
}


@pytest.mark.parametrize("order", LATTICES)
def test_prefixes_of_powers_of_two_are_lattices(order: Order) -> None:
    made = order_grid(order, 4, 8, 8)
    for count, (dt, dh, dw) in LATTICES[order].items():
        places = made.permutation[:count].sort().values
        lattice = [
            t * 64 + h * 8 + w
            for t in range(0, 4, dt)
            for h in range(0, 8, dh)
            for w in range(0, 8, dw)
        ]
        assert places.tolist() == lattice


def test_relative_order_does_not_depend_on_the_grid() -> None:
    small, large = order_grid("interlaced", 2, 3, 4), order_grid("interlaced", 4, 7, 9)
    place = [(t, h, w) for t in range(2) for h in range(3) for w in range(4)]
    within = torch.tensor([t * 63 + h * 9 + w for t, h, w in place])
    assert torch.equal(large.rank[within].argsort(), small.rank.argsort())
    assert torch.equal(large.level[within][1:], small.level[1:])


def test_unknown_order() -> None:
    with pytest.raises(ValueError, match="order='spiral'"):
        order_grid("spiral", 1, 1, 1)  # pyright: ignore[reportArgumentType]


def test_deeper_tokens_of_a_place_follow_all_first_ones() -> None:
    flat, deep = BlockLayout("interlaced", 2, 8), BlockLayout("interlaced", 2, 8, depth=3)
    slots = flat.slots(24, 16)
    assert deep.slots(24, 16) == 3 * slots
    tokens, places = deep.as_read(24, 16, 3 * slots)
    once = flat.as_read(24, 16, slots)
    for depth in range(3):
        part = slice(depth * slots, (depth + 1) * slots)
        assert torch.equal(tokens[part], once[0] + depth * slots)
        assert torch.equal(places[part], once[1] + depth * slots)
    apart = BlockLayout("raster", 2, 8, summary=9, regional=2)
    for layout in (flat, deep, apart):
        assert BlockLayout(**layout.to_json()) == layout
    assert "regional" not in deep.to_json() and "depth" not in apart.to_json()
