"""Reading texts by phrase tables: the longest known phrase first, all other words passed over.

Also the arithmetic that every world's captions share: slots right, and what always saying the
commonest value would score. Knows no world, no sentence and no pixels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
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


def score_slots(said: Mapping[str, str], truth: Mapping[str, Any]) -> dict[str, bool]:
    """Which slots of `truth["slots"]` are said rightly. A slot that is not said is wrong."""
    return {slot: said.get(slot, "") == value for slot, value in truth["slots"].items()}


def majority_baseline(truths: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, float]]:
    """Per slot, the commonest value and the share of clips that it is right for, 0 to 1.

    "exact" is the commonest combination of all slots.
    """
    slots = [dict(truth["slots"]) for truth in truths]
    if not slots:
        return {}
    baseline = {}
    for slot in slots[0]:
        value, count = Counter(s[slot] for s in slots).most_common(1)[0]
        baseline[slot] = (value, count / len(slots))
    combination, count = Counter(tuple(s.values()) for s in slots).most_common(1)[0]
    return baseline | {"exact": (", ".join(combination), count / len(slots))}
