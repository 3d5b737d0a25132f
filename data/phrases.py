"""Words and pairs of words that clips' captions have in common, without the clips' pixels.

Knows sources and `Clip.captions`; knows nothing of what learns from them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from data.labels import ABSENT, SEARCHED
from data.source import Source

SHARES = (0.01, 0.9)  # of clips: rarer phrases are hardly learned, commoner ones tell nothing

_CLAUSE = re.compile(r"[.,:;!?()\n]+")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def phrases_in(captions: Sequence[str]) -> set[str]:
    """The words of captions, in small letters, and the pairs of neighbours within a clause."""
    found: set[str] = set()
    for caption in captions:
        for clause in _CLAUSE.split(caption.lower()):
            words = _WORD.findall(clause)
            found.update(words)
            found.update(f"{first} {second}" for first, second in pairwise(words))
    return found


def captions_of(source: Source, indices: Sequence[int]) -> list[tuple[str, ...]]:
    """The captions of some clips; read without pixels where the source offers that."""
    quick: Callable[[Sequence[int]], list[tuple[str, ...]]] | None
    quick = getattr(source, "captions", None)
    return quick(indices) if quick is not None else [source[i].captions for i in indices]


def common_phrases(source: Source, most: int, searched: int = SEARCHED) -> list[str]:
    """The phrases said of a share of the clips within SHARES, the commonest first.

    Args:
        source: Where clips come from; those without captions do not count.
        most: At most so many phrases.
        searched: At most so many clips are looked at, evenly spread.
    """
    stride = max(1, -(-len(source) // searched))
    told = [each for each in captions_of(source, range(0, len(source), stride)) if each]
    counts = Counter(phrase for captions in told for phrase in phrases_in(captions))
    low, high = (share * len(told) for share in SHARES)
    kept = [(phrase, count) for phrase, count in counts.items() if low <= count <= high]
    return [phrase for phrase, _ in sorted(kept, key=lambda pair: (-pair[1], pair[0]))[:most]]


def phrase_numbers(captions: Sequence[Sequence[str]], phrases: Sequence[str]) -> Tensor:
    """Which phrases are said of clips.

    Returns:
        int64 (clips, phrases), 1 where it is said and 0 where not; ABSENT without captions.
    """
    said = torch.full((len(captions), len(phrases)), ABSENT)
    for row, each in zip(said, captions, strict=True):
        if each:
            found = phrases_in(each)
            row.copy_(torch.tensor([phrase in found for phrase in phrases]))
    return said
