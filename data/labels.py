"""Labels of a source's clips without their pixels, and the classes that occur.

Knows sources and `Clip.labels`; knows nothing of what learns from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from data.source import Source

ABSENT = -1  # the class number of a label that a clip lacks
MOST_CLASSES = 64  # a label with more values names single clips rather than kinds of clips
SEARCHED = 2000  # clips looked at for classes


def labels_of(source: Source, indices: Sequence[int]) -> list[dict[str, str]]:
    """The labels of some clips; read without pixels where the source offers that."""
    quick: Callable[[Sequence[int]], list[dict[str, str]]] | None
    quick = getattr(source, "labels", None)
    return quick(indices) if quick is not None else [source[i].labels for i in indices]


def label_classes(source: Source, searched: int = SEARCHED) -> dict[str, list[str]]:
    """The classes of each label that has at least 2 and at most MOST_CLASSES, sorted.

    Args:
        source: Where clips come from.
        searched: At most so many clips are looked at, evenly spread.
    """
    stride = max(1, -(-len(source) // searched))
    found: dict[str, set[str]] = {}
    for labels in labels_of(source, range(0, len(source), stride)):
        for name, value in labels.items():
            found.setdefault(name, set()).add(value)
    return {n: sorted(v) for n, v in sorted(found.items()) if 2 <= len(v) <= MOST_CLASSES}


def class_numbers(
    labels: Sequence[Mapping[str, str]], classes: Mapping[str, Sequence[str]]
) -> Tensor:
    """The classes of clips' labels as numbers.

    Returns:
        int64 (clips, labels in the order of `classes`); ABSENT where a clip lacks the label or
        has a class that is not among them.
    """
    rows = [
        [
            list(names).index(given[label]) if given.get(label) in names else ABSENT
            for label, names in classes.items()
        ]
        for given in labels
    ]
    return torch.tensor(rows, dtype=torch.int64).view(len(rows), len(classes))
