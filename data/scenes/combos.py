"""Which (colour, shape, motion) triples exist, and which of them training never contains.

The choice is fixed: it depends on neither seed, size nor difficulty, so that any model trained on
`train` can be tested on `unseen`.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from data.scenes.spec import COLOURS, MOTIONS, ROUND, SHAPES, TURNS

Triple = tuple[str, str, str]
PAIRS_PER_MOTION = 4  # of 48 (colour, shape) pairs: about 8 % of all triples


def possible(shape: str, motion: str) -> bool:
    """True if the motion of this shape can be seen."""
    return not (shape in ROUND and motion in TURNS)


@cache
def unseen_triples() -> frozenset[Triple]:
    """The triples that training and held-out clips never show; 4 colours, 4 shapes a motion."""
    generator = np.random.Generator(np.random.Philox(key=20250501))
    chosen: set[Triple] = set()
    colours, shapes = list(COLOURS), list(SHAPES)
    for number, motion in enumerate(MOTIONS):
        fits = [shape for shape in shapes if possible(shape, motion)]
        half = colours[number % 2 :: 2]  # each colour is held out for half of the motions
        for colour, shape in zip(
            generator.permutation(half), generator.permutation(fits)[:PAIRS_PER_MOTION], strict=True
        ):
            chosen.add((str(colour), str(shape), motion))
    return frozenset(chosen)


@cache
def triples(split: str) -> tuple[Triple, ...]:
    """All triples a split may show: unseen ones for `unseen`, the others for the rest."""
    hidden = unseen_triples()
    return tuple(
        (colour, shape, motion)
        for motion in MOTIONS
        for shape in SHAPES
        for colour in COLOURS
        if possible(shape, motion) and ((colour, shape, motion) in hidden) == (split == "unseen")
    )


@cache
def triples_by_motion(split: str) -> dict[str, tuple[Triple, ...]]:
    """The triples of a split, by motion."""
    return {
        motion: tuple(triple for triple in triples(split) if triple[2] == motion)
        for motion in MOTIONS
    }


@cache
def motions_of(split: str, colour: str, shape: str) -> tuple[str, ...]:
    """The motions a split may show for a colour and shape."""
    return tuple(motion for c, s, motion in triples(split) if (c, s) == (colour, shape))
