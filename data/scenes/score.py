"""Comparing readings slot by slot, with the best assignment of objects to objects.

Knows `Reading`s and `Question`s; does not care whether a caption, the oracle or the world's truth
made them. Objects that are not there cost precision, so painting everything earns little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from data.clip import Question
from data.scenes.spec import SLOTS, Reading, Thing, as_reading, follows

MOST_THINGS = 6  # objects kept of a reading with more: the assignment is exhaustive
_WORD_SLOTS = ("colour", "shape", "size")


@dataclass
class SlotScore:
    """Counts for one clip, or summed over many.

    right: correct items per slot. predicted: items the reading claims. expected: items the truth
    holds. exact: clips with nothing wrong. clips: how many were compared.
    """

    right: Counter[str] = field(default_factory=Counter)
    predicted: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    exact: int = 0
    clips: int = 0

    @property
    def total(self) -> dict[str, int]:
        """Per slot, the larger of predicted and expected: what `accuracy` divides by."""
        return {s: max(self.predicted[s], self.expected[s]) for s in SLOTS if self.expected[s]}

    def precision(self, slot: str) -> float:
        return self.right[slot] / self.predicted[slot] if self.predicted[slot] else 0.0

    def recall(self, slot: str) -> float:
        return self.right[slot] / self.expected[slot] if self.expected[slot] else 0.0

    def accuracy(self, slot: str) -> float:
        """The lower of precision and recall, 0 to 1; for one object, plain accuracy."""
        total = max(self.predicted[slot], self.expected[slot])
        return self.right[slot] / total if total else 0.0

    def accuracies(self) -> dict[str, float]:
        """`accuracy` of every slot that was scored, and the share of exact clips."""
        return {slot: self.accuracy(slot) for slot in self.total} | {"exact": self.exact_rate}

    @property
    def exact_rate(self) -> float:
        """Share of clips in which every scored slot is right, 0 to 1."""
        return self.exact / self.clips if self.clips else 0.0

    def __add__(self, other: SlotScore) -> SlotScore:
        return SlotScore(
            self.right + other.right,
            self.predicted + other.predicted,
            self.expected + other.expected,
            self.exact + other.exact,
            self.clips + other.clips,
        )


def total_score(scores: Iterable[SlotScore]) -> SlotScore:
    """The sum of many clips' scores."""
    total = SlotScore()
    for score in scores:
        total += score
    return total


def score_caption(text: str, truth: Reading | Mapping[str, Any] | str) -> SlotScore:
    """Score a caption against a clip's truth.

    Size, speed and the like are scored where the caption mentions them; colour, shape and motion
    of every object must be mentioned. `exact` wants all that is mentioned to be right.
    """
    return compare(as_reading(text), as_reading(truth), by_mention=True)


def compare(seen: Reading, truth: Reading, *, by_mention: bool = False) -> SlotScore:
    """Score a reading against the truth.

    Args:
        by_mention: score size, speed, order and hits where `seen` has them (for captions)
            instead of where `truth` has them (for what the oracle saw).
    """
    things, score = _kept(seen, truth), SlotScore(clips=1)
    pairs = _assign(things, truth.things, by_mention)
    matched = {mine for mine, _ in pairs}
    for mine, thing in enumerate(things):
        if mine not in matched:
            score.predicted.update(_claims(thing))
    for yours, thing in enumerate(truth.things):
        if yours not in {other for _, other in pairs}:
            unsaid = ("size", "speed") if by_mention else ()
            score.expected.update({s: n for s, n in _claims(thing).items() if s not in unsaid})
    for mine, yours in pairs:
        score += _pair(things[mine], truth.things[yours], by_mention)
    score.clips = 1
    score.expected["count"] = score.predicted["count"] = 1
    score.right["count"] = int(len(seen.things) == len(truth.things))
    _sequence(score, Reading(things, seen.hit), truth, dict(pairs), by_mention)
    score.exact = int(all(score.right[s] == score.predicted[s] == score.expected[s] for s in SLOTS))
    return score


def _kept(seen: Reading, truth: Reading) -> tuple[Thing, ...]:
    if len(seen.things) <= MOST_THINGS:
        return seen.things
    wanted = {thing.colour for thing in truth.things}
    order = sorted(range(len(seen.things)), key=lambda i: seen.things[i].colour not in wanted)
    return tuple(seen.things[i] for i in sorted(order[:MOST_THINGS]))


def _claims(thing: Thing) -> dict[str, int]:
    """How many items of each slot an object claims."""
    claims = {slot: 1 for slot in _WORD_SLOTS if getattr(thing, slot)}
    claims["motion"] = len(thing.actions)
    claims["speed"] = sum(action.speed is not None for action in thing.actions)
    return claims


def _pair(seen: Thing, truth: Thing, by_mention: bool) -> SlotScore:
    """Score one object against the one it is taken for."""
    score = SlotScore()
    for slot in _WORD_SLOTS:
        mine, yours = getattr(seen, slot), getattr(truth, slot)
        said = mine is not None
        wanted = yours is not None if not (by_mention and slot == "size") else said
        score.predicted[slot] += int(said and (by_mention or yours is not None))
        score.expected[slot] += int(wanted)
        score.right[slot] += int(said and mine == yours)
    left = list(seen.actions)
    score.predicted["motion"] += len(left)
    score.expected["motion"] += len(truth.actions)
    for action in truth.actions:
        twin = next((other for other in left if other.motion == action.motion), None)
        said = twin is not None and twin.speed is not None
        score.expected["speed"] += int(said if by_mention else action.speed is not None)
        if twin is None:
            continue
        left.remove(twin)
        score.right["motion"] += 1
        score.predicted["speed"] += int(said and (by_mention or action.speed is not None))
        score.right["speed"] += int(said and twin.speed == action.speed)
    if by_mention:  # a speed said of a motion that is not there is wrong
        score.predicted["speed"] += sum(action.speed is not None for action in left)
        score.expected["speed"] += sum(action.speed is not None for action in left)
    return score


def _assign(
    seen: tuple[Thing, ...], truth: tuple[Thing, ...], by_mention: bool
) -> list[tuple[int, int]]:
    """The assignment with most right slots, colour counting a little more: (seen, truth) pairs."""
    if not seen or not truth:
        return []
    worth = [
        [
            sum(_pair(mine, yours, by_mention).right.values()) + 0.5 * (mine.colour == yours.colour)
            for yours in truth
        ]
        for mine in seen
    ]
    rows, columns = range(len(seen)), range(len(truth))
    if len(seen) >= len(truth):
        choices = ([(r, c) for c, r in enumerate(p)] for p in permutations(rows, len(truth)))
    else:
        choices = ([(r, c) for r, c in enumerate(p)] for p in permutations(columns, len(seen)))
    return max(choices, key=lambda pairs: sum(worth[r][c] for r, c in pairs))


def _sequence(
    score: SlotScore, seen: Reading, truth: Reading, pairs: dict[int, int], by_mention: bool
) -> None:
    """Order of actions and who hit whom, given the assignment of objects."""
    if truth.is_sequence or (by_mention and seen.is_sequence):
        said = seen.is_sequence
        score.expected["order"] = score.predicted["order"] = 1
        mine = {
            (pairs.get(i, -1), a.motion): a
            for i, thing in enumerate(seen.things)
            for a in thing.actions
        }
        right = said and truth.is_sequence
        timeline = truth.timeline()
        for first in timeline:
            for second in timeline:
                if follows(first[1], second[1]):
                    a = mine.get((first[0], first[1].motion))
                    b = mine.get((second[0], second[1].motion))
                    right = right and a is not None and b is not None and follows(a, b)
        score.right["order"] = int(right)
    if truth.hit or seen.hit:
        score.expected["hit"] = int(truth.hit is not None)
        score.predicted["hit"] = int(seen.hit is not None)
        if truth.hit and seen.hit:
            met = (pairs.get(seen.hit.by), pairs.get(seen.hit.on))
            score.right["hit"] = int(met == (truth.hit.by, truth.hit.on))


def score_answer(answer: str, question: Question) -> bool:
    """True if an answer is the right one, but for case, articles, full stop and spaces."""
    return normal_answer(answer) == normal_answer(question.answer)


def normal_answer(answer: str) -> str:
    """An answer without case, punctuation at its ends, leading article and doubled spaces."""
    words = answer.lower().strip(" .!?;,'\"\n\t").split()
    if len(words) > 1 and words[0] in ("a", "an", "the", "it"):
        words = words[1:]
    return " ".join(words)
