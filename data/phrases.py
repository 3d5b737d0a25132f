"""Words and pairs of near words that clips' captions have in common, without the clips' pixels.

A pair tells which words belong together: that a clip shows something red and a ring does not say
that the ring is red.

Knows sources and `Clip.captions`; knows nothing of what learns from them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from data.labels import ABSENT, SEARCHED
from data.source import Source

SHARES = (0.01, 0.9)  # of clips: rarer phrases are hardly learned, commoner ones tell nothing
PAIRED = 0.75  # words said of more clips stand in no pair: "the ring" says no more than "ring"
REACH = 4  # words from the first of a pair to its second, as in "ring which slowly turns left"

_INSIDE = "'’-"  # of a word, not at its ends
_ALONE = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")  # each sign is a word


def words_of(text: str) -> list[list[str]]:
    """The words of each clause, in small letters.

    A word is letters with their marks, and digits. Chinese signs and Japanese kana are words each,
    their pairs then phrases; other scripts without spaces, such as Thai, are not taken apart.
    """
    clauses: list[list[str]] = [[]]
    run = ""
    for sign in _ALONE.sub(r" \1 ", unicodedata.normalize("NFC", text).lower()) + "\n":
        kind = unicodedata.category(sign)
        if kind[0] in "LMN" or sign in _INSIDE:
            run += sign
            continue
        if word := run.strip(_INSIDE):
            clauses[-1].append(word)
        run = ""
        if kind[0] == "P" or sign == "\n":
            clauses.append([])
    return [clause for clause in clauses if clause]


def phrases_in(captions: Sequence[str]) -> set[str]:
    """The words of captions and the pairs of words of a clause at most REACH apart, in order."""
    found: set[str] = set()
    for caption in captions:
        for words in words_of(caption):
            found.update(words)
            for i, first in enumerate(words):
                found.update(f"{first} {second}" for second in words[i + 1 : i + 1 + REACH])
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
    low, high, paired = (share * len(told) for share in (*SHARES, PAIRED))
    kept = [
        (phrase, count)
        for phrase, count in counts.items()
        if low <= count <= high
        and (" " not in phrase or all(counts[word] <= paired for word in phrase.split(" ")))
    ]
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
