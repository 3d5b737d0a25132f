"""Priors of a block's codes: `static`, measured on token shards, and `adaptive`, from the file.

Both keep a table for each class of place: one for every summary token, one for every level of
coarse to fine at each depth. They do not know files of tokens, pixels or networks.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from data.atomic import write_atomically
from tokenizer.entropy import MAX_CODEBOOK, TOTAL, share_out
from tokenizer.ordering import MAX_LEVEL, BlockLayout, order_grid

FORMAT, VERSION = "kinolex-prior", 1
MAX_SLOTS = 1 << 21  # tokens of a block: 8k pictures at 8 pixels a latent, 4 latents in time
MAX_COUNTS = 1 << 25  # classes times codes that are counted while coding: 256 MB


def place_classes(layout: BlockLayout, height: int, width: int) -> np.ndarray:
    """The class of each token of a block, coarse to fine: int64 (slots,), below `num_classes`."""
    check_slots(layout, height, width)
    ordering = order_grid(layout.order, *layout.grid(height, width))
    levels = ordering.level[ordering.permutation].numpy()
    classes = [
        layout.summary + depth * (MAX_LEVEL + 1) + MAX_LEVEL - levels
        for depth in range(layout.depth)
    ]
    return np.concatenate([np.arange(layout.summary), *classes])


def num_classes(layout: BlockLayout) -> int:
    """How many classes of place there are, whatever the size of the picture."""
    return layout.summary + layout.depth * (MAX_LEVEL + 1)


@dataclass(frozen=True, eq=False)
class StaticPrior:
    """Frequencies fixed beforehand, a table for each class of place.

    tables: int64 (num_classes, codebook_size), all >= 1, each row's sum TOTAL.
    """

    tables: np.ndarray
    codec_id: str
    layout: BlockLayout
    name: str = field(init=False)  # `static-` and a hash of all that the frequencies depend on
    kind: str = field(default="static", init=False)
    carries_over: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        rows = num_classes(self.layout)
        if self.tables.ndim != 2 or self.tables.shape[0] != rows or self.tables.shape[1] < 1:
            raise ValueError(f"tables of shape {self.tables.shape}: give one for each of {rows}")
        if (self.tables < 1).any() or (self.tables.sum(1) != TOTAL).any():
            raise ValueError(f"tables must hold numbers from 1 that sum to {TOTAL}")
        digest = hashlib.sha256(json.dumps(self._about(), sort_keys=True).encode())
        digest.update(self.tables.astype("<i4").tobytes())
        object.__setattr__(self, "name", f"static-{digest.hexdigest()[:16]}")

    @property
    def codebook_size(self) -> int:
        return self.tables.shape[1]

    def start(self, height: int, width: int) -> _StaticExpectation:
        return _StaticExpectation(list(self.tables), place_classes(self.layout, height, width))

    def save(self, path: Path | str) -> None:
        """Write the prior to a file, whole or not at all."""
        about = {"format": FORMAT, "version": VERSION, **self._about()}
        content = save({"tables": self.tables.astype(np.int32)}, {"prior": json.dumps(about)})
        write_atomically(path, content)

    @classmethod
    def load(cls, path: Path | str) -> StaticPrior:
        """Read a prior that `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is something else, of a newer version, or damaged.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such prior: give what `tokenizer prior` wrote")
        try:
            with safe_open(path, framework="np") as stored:
                about = json.loads((stored.metadata() or {})["prior"])
                tables = stored.get_tensor("tables")
            if about["format"] != FORMAT:
                raise KeyError("format")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            raise ValueError(f"{path}: not a prior: give what `tokenizer prior` wrote") from None
        if about["version"] != VERSION:
            raise ValueError(f"{path}: prior of version {about['version']}: upgrade kinolex")
        try:
            layout = BlockLayout(**about["layout"])
            return cls(tables.astype(np.int64), about["codec_id"], layout)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged prior ({error}): measure it again") from None

    def _about(self) -> dict[str, Any]:
        layout = replace(self.layout, regional=0)  # tables know no quadrants
        return {"codec_id": self.codec_id, "layout": layout.to_json()}


class _StaticExpectation:
    def __init__(self, tables: list[np.ndarray], classes: np.ndarray) -> None:
        self._tables, self._classes = tables, classes.tolist()
        self._next = 0

    def start_block(self, count: int) -> np.ndarray:
        self._next = 0
        return np.arange(count)

    def frequencies(self) -> np.ndarray:
        return self._tables[self._classes[self._next]]

    def see(self, code: int) -> None:
        self._next += 1


def count_codes(
    records: Iterable[tuple[np.ndarray, dict[str, Any]]], codebook_size: int, layout: BlockLayout
) -> np.ndarray:
    """How often each code stands in each class of place: int64 (num_classes, codebook_size).

    Args:
        records: Codes (N,) with their notes, as `VideoTokens.to_record` makes them.
        codebook_size: Of their codec, at most MAX_CODEBOOK.
        layout: Of that codec's blocks.
    """
    check_codebook(codebook_size)
    counts = np.zeros((num_classes(layout), codebook_size), dtype=np.int64)
    for codes, info in records:
        classes = place_classes(layout, info["height"], info["width"])
        stands = [classes[:count] for count in info["tokens_per_block"]]
        np.add.at(counts, (np.concatenate(stands), codes.astype(np.int64)), 1)
    return counts


def measured(
    counts: np.ndarray, codec_id: str, layout: BlockLayout, borrowed: float = 256.0
) -> StaticPrior:
    """The static prior that `count_codes` of a codec's training tokens give.

    A class's own counts are mixed with `borrowed` tokens' worth of the counts over all classes,
    and those with one of each code: no code ever becomes impossible, and classes that were hardly
    seen expect what the others do.
    """
    if not counts.any():
        raise ValueError("no tokens: a prior is measured on at least one")
    pooled = counts.sum(0) + 1.0
    mixed = counts + borrowed * pooled / pooled.sum()
    weights = mixed / mixed.sum(1, keepdims=True) * 2**37
    tables = np.stack([share_out(row.astype(np.int64)) for row in weights])
    return StaticPrior(tables, codec_id, layout)


def bits_per_token(counts: np.ndarray, prior: StaticPrior) -> float:
    """The cross-entropy of counted codes under a prior, the least that coding can take."""
    return float((counts * (math.log2(TOTAL) - np.log2(prior.tables))).sum() / counts.sum())


@dataclass(frozen=True)
class AdaptivePrior:
    """Counts of the codes seen so far in the group of blocks, by class and over all classes.

    With each group it starts anew, knowing nothing: a short clip gains little, and reading within
    a group begins at its start. Each token costs time in proportion to the codebook.
    """

    codebook_size: int
    layout: BlockLayout
    kind: str = field(default="adaptive", init=False)
    name: str = field(default="adaptive-1", init=False)  # the number: of the rule below
    codec_id: None = field(default=None, init=False)
    carries_over: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        check_codebook(self.codebook_size)
        if num_classes(self.layout) * self.codebook_size > MAX_COUNTS:
            raise ValueError(
                f"{num_classes(self.layout)} classes of place and {self.codebook_size} codes are "
                "too many to count while coding: use packed or static"
            )

    def start(self, height: int, width: int) -> _AdaptiveExpectation:
        return _AdaptiveExpectation(
            self.codebook_size, place_classes(self.layout, height, width), num_classes(self.layout)
        )


class _AdaptiveExpectation:
    OF_ALL, OF_CLASS = 4, 28  # weight of a code seen anywhere, and more if in this class

    def __init__(self, codebook_size: int, classes: np.ndarray, num_classes: int) -> None:
        self._classes = classes.tolist()
        self._weights = np.ones((num_classes, codebook_size), dtype=np.int64)
        self._next = 0

    def start_block(self, count: int) -> np.ndarray:
        self._next = 0
        return np.arange(count)

    def frequencies(self) -> np.ndarray:
        return share_out(self._weights[self._classes[self._next]])

    def see(self, code: int) -> None:
        self._weights[:, code] += self.OF_ALL
        self._weights[self._classes[self._next], code] += self.OF_CLASS
        self._next += 1


def check_slots(layout: BlockLayout, height: int, width: int) -> None:
    """ValueError for pictures whose blocks are too large to be coded under a prior."""
    slots = layout.slots(height, width)
    if slots > MAX_SLOTS:
        raise ValueError(
            f"blocks of {slots} tokens at {height}x{width} pixels: priors know at most {MAX_SLOTS}"
        )


def check_codebook(codebook_size: int) -> None:
    """ValueError for a codebook that is too large to be coded under a prior."""
    if not 1 <= codebook_size <= MAX_CODEBOOK:
        raise ValueError(
            f"a codebook of {codebook_size}: priors know at most {MAX_CODEBOOK} codes, use packed"
        )
