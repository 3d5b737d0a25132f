"""Reading texts by phrase tables: the longest known phrase first, all other words passed over.

Also what always saying the commonest value of a slot would score. Knows no world, no sentence and
no pixels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Lexicon = Mapping[str, str]  # phrase of lower-case words -> value
_WORD = re.compile(r"[a-z0-9]+")


def find_phrases(text: str, *lexicons: Lexicon) -> list[list[str]]:
    """The values of the phrases in a text, in its order, one list a lexicon.

    Earlier lexicons take their words first, so that "turns to the left" is an action and leaves
    no "to the left" for the places. Within a lexicon, longer phrases win.
    """
    words: list[str | None] = list(_WORD.findall(text.lower()))
    found = []
    for lexicon in lexicons:
        table = sorted(
            ((_WORD.findall(p), v) for p, v in lexicon.items()), key=lambda e: -len(e[0])
        )
        values, at = [], 0
        while at < len(words):
            for phrase, value in table:
                if words[at : at + len(phrase)] == phrase:
                    words[at : at + len(phrase)] = [None] * len(phrase)
                    values.append(value)
                    at += len(phrase)
                    break
            else:
                at += 1
        found.append(values)
    return found


@dataclass(frozen=True)
class Majority:
    """What always saying the commonest value would score."""

    value: str
    share: float  # of the clips, 0 to 1


def majority_baseline(truths: Sequence[Mapping[str, Any]]) -> dict[str, Majority]:
    """Per slot of the truths' `slots`, its commonest value; "exact" is that of all together."""
    slots = [dict(truth["slots"]) for truth in truths]
    columns = {name: [s[name] for s in slots] for name in slots[0]} if slots else {}
    if columns:
        columns["exact"] = [", ".join(s.values()) for s in slots]
    return {
        name: Majority(value, count / len(slots))
        for name, values in columns.items()
        for value, count in Counter(values).most_common(1)
    }
