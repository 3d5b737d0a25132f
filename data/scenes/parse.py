"""Reading captions classically: a phrase table, the longest match first, and a few clause rules.

Knows the words of `phrases`; any text is accepted and words it does not know are passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from data.scenes.phrases import lexicon
from data.scenes.spec import Action, Hit, Reading, Thing

_WORD = re.compile(r"[a-z]+|[;.]")
Item = tuple[int, str, str]  # position in the text, slot, value


def parse_caption(text: str) -> Reading:
    """What a caption says, slot by slot; slots it does not mention are None.

    Actions said to come first get the first half of the clip, those said to follow the second.
    """
    reader = _Reader()
    for _, slot, value in _items(text):
        reader.take(slot, value)
    return reader.reading()


@cache
def _by_first_word() -> dict[str, list[tuple[tuple[str, ...], str, str]]]:
    table: dict[str, list[tuple[tuple[str, ...], str, str]]] = {}
    for words, (slot, value) in lexicon().items():
        table.setdefault(words[0], []).append((words, slot, value))
    for entries in table.values():
        entries.sort(key=lambda entry: -len(entry[0]))
    return table


def _match(words: list[tuple[int, str]], speed: bool) -> tuple[list[Item], list[tuple[int, str]]]:
    """Longest matches of speed phrases, or of all others, and the words left over."""
    table, found, left, at = _by_first_word(), [], [], 0
    spoken = [word for _, word in words]
    while at < len(words):
        for phrase, slot, value in table.get(spoken[at], ()):
            if (slot == "speed") == speed and tuple(spoken[at : at + len(phrase)]) == phrase:
                found.append((words[at][0], slot, value))
                at += len(phrase)
                break
        else:
            left.append(words[at])
            at += 1
    return found, left


def _items(text: str) -> list[Item]:
    words = list(enumerate(_WORD.findall(text.lower())))
    speeds, rest = _match(words, speed=True)  # so that `moves slowly left` is `moves left`
    others, rest = _match(rest, speed=False)
    breaks = [(at, "mark", "break") for at, word in rest if word in ";."]
    breaks += [(at, "mark", "noun") for at, word in rest if word in ("a", "an", "the")]
    return sorted(speeds + others + breaks)


@dataclass
class _Draft:
    """A thing while its clause is being read; actions as [motion, speed, phase]."""

    slots: dict[str, str] = field(default_factory=dict)
    actions: list[list] = field(default_factory=list)
    loose_speed: str | None = None  # a speed said before its motion


class _Reader:
    """Puts phrases, in order, together to things."""

    def __init__(self) -> None:
        self.things: list[_Draft] = []
        self.current = _Draft()
        self.phase = 0
        self.next_phase: int | None = None
        self.hit: tuple[_Draft, _Draft | None] | None = None
        self.last: _Draft | None = None  # the thing spoken of last

    def take(self, slot: str, value: str) -> None:
        if slot == "mark":
            self._mark(value)
        elif slot == "hit":
            self._close()
            self.hit, self.current = (self.last or _Draft(), None), _Draft()
            self.phase = 1
        elif slot == "motion":
            phase = self.phase if self.next_phase is None else self.next_phase
            self.next_phase = None
            self.current.actions.append([value, self.current.loose_speed, phase])
            self.current.loose_speed = None
        elif slot == "speed":
            if self.current.actions and self.current.actions[-1][1] is None:
                self.current.actions[-1][1] = value
            else:
                self.current.loose_speed = value
        else:
            if slot in self.current.slots:
                self._close()
                self.current = _Draft()
            self.current.slots[slot] = value

    def _mark(self, value: str) -> None:
        if value == "first":
            self.phase = 0
        elif value == "noun":  # an article starts another thing, unless none is named yet
            if self.current.slots:
                self._close()
                self.current = _Draft()
        elif value == "before":
            self.next_phase = 1
        elif value == "after":
            for action in self.current.actions:
                action[2] = 1
            self.phase, self.next_phase = 1, 0
        else:
            self._close()
            self.current = _Draft()
            if value == "then":
                self.phase = 1

    def _close(self) -> None:
        """End a clause: a new thing, or more about one already named."""
        draft = self.current
        if not draft.slots and not draft.actions:
            return
        known = self._known(draft)
        if known is None:
            self.things.append(draft)
        else:
            known.slots = draft.slots | known.slots
            known.actions += draft.actions
        self.last = known or draft
        if self.hit and self.hit[1] is None and draft.slots:
            self.hit = (self.hit[0], self.last)

    def _known(self, draft: _Draft) -> _Draft | None:
        """The thing a clause speaks of again: by colour and shape, or by 'it'."""
        if not draft.slots:
            return self.last
        if "colour" in draft.slots and "shape" in draft.slots:
            for thing in self.things:
                if all(thing.slots.get(k) == draft.slots[k] for k in ("colour", "shape")):
                    return thing
        return None

    def reading(self) -> Reading:
        self._close()
        last = max((a[2] for thing in self.things for a in thing.actions), default=0)
        things = []
        for draft in self.things:
            actions = [
                Action(motion, speed, *((0.0, 1.0) if not last else (phase / 2, phase / 2 + 0.5)))
                for motion, speed, phase in draft.actions
            ]
            slots = draft.slots
            actions.sort(key=lambda action: action.start)
            things.append(
                Thing(slots.get("colour"), slots.get("shape"), slots.get("size"), tuple(actions))
            )
        hit = None
        if self.hit and self.hit[1] is not None and self.hit[0] in self.things:
            by, on = (self.things.index(draft) for draft in self.hit if draft in self.things)
            hit = Hit(by, on)
        return Reading(tuple(things), hit)
