"""What is said of a Doom clip: captions, questions, labels, and reading captions back.

All of it is template text in several wordings. Knows words only: no simulator, no pixels. A
caption has four slots: what the player does first, what then ("none" if nothing else), the thing
that fills most of the view ("nothing" if there is none near), and where in the view it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data.clip import Question
from data.wording import find_phrases

SLOTS = ("action_first", "action_second", "object", "side")
NUM_CAPTIONS = 5

ACTIONS: dict[str, tuple[str, ...]] = {  # value: other wordings
    "walks forward": ("moves ahead", "advances", "goes straight on"),
    "walks backward": ("backs away", "retreats", "steps back"),
    "sidesteps left": ("strafes left", "steps to the left", "moves sideways to the left"),
    "sidesteps right": ("strafes right", "steps to the right", "moves sideways to the right"),
    "turns left": ("turns to the left", "rotates left", "looks round to the left"),
    "turns right": ("turns to the right", "rotates right", "looks round to the right"),
    "shoots": ("fires", "opens fire", "fires the weapon"),
    "stands still": ("does not move", "stays put", "waits"),
}
OBJECTS: dict[str, tuple[str, str]] = {  # value: one, several
    "zombie": ("a zombie", "zombies"),
    "marine": ("a marine", "marines"),
    "imp": ("an imp", "imps"),
    "demon": ("a demon", "demons"),
    "cacodemon": ("a cacodemon", "cacodemons"),
    "lost soul": ("a lost soul", "lost souls"),
    "big monster": ("a big monster", "big monsters"),
    "fireball": ("a fireball", "fireballs"),
    "rocket": ("a rocket", "rockets"),
    "dead body": ("a dead body", "dead bodies"),
    "medkit": ("a medkit", "medkits"),
    "bottle": ("a bottle", "bottles"),
    "helmet": ("a helmet", "helmets"),
    "armour": ("a suit of armour", "suits of armour"),
    "ammunition": ("some ammunition", "boxes of ammunition"),
    "weapon": ("a weapon", "weapons"),
    "key": ("a key", "keys"),
    "orb": ("an orb", "orbs"),
    "barrel": ("a barrel", "barrels"),
    "lamp": ("a lamp", "lamps"),
    "torch": ("a torch", "torches"),
    "column": ("a column", "columns"),
    "tree": ("a tree", "trees"),
}
NOTHING = ("nothing near", "nothing close by", "nothing but the place")
SIDES: dict[str, tuple[str, ...]] = {
    "left": ("on the left", "to the left", "on the left side of the view"),
    "middle": ("in the middle", "straight ahead", "in the middle of the view"),
    "right": ("on the right", "to the right", "on the right side of the view"),
    "crossing": ("crossing the view", "moving across the picture", "passing through the view"),
    "several": ("in several places", "here and there", "spread over the view"),
}
_PLAYERS = ("the player", "the hero", "the gamer")

# {p} the player, {a} and {b} actions, {o} the thing and where it is.
_ONE = (
    "{p} {a}, with {o}",
    "with {o}, {p} {a}",
    "{p} {a}; there is {o}",
    "{o}: {p} {a}",
    "{p} {a} and sees {o}",
    "seeing {o}, {p} {a}",
)
_TWO = (
    "{p} {a} and then {b}, with {o}",
    "with {o}, {p} first {a} and then {b}",
    "first {p} {a}, then {p} {b}; there is {o}",
    "{o}: {p} {a}, then {b}",
    "after {p} {a}, {p} {b}, with {o}",
    "seeing {o}, {p} {a} and next {b}",
    "{p} first {a} and afterwards {b}; {o}",
)

_ACTION_LEXICON = {phrase: value for value, ways in ACTIONS.items() for phrase in (value, *ways)}
_OBJECT_LEXICON = {
    phrase: value
    for value, ways in OBJECTS.items()
    for phrase in (value, ways[0].split(" ", 1)[1], ways[1])
} | {phrase: "nothing" for phrase in ("nothing", *NOTHING)}
_SIDE_LEXICON = {phrase: value for value, ways in SIDES.items() for phrase in ways}


def parse_caption(text: str) -> dict[str, str]:
    """What a caption says, by phrase table: a value for each of `SLOTS`.

    "" stands for what it does not say: no action, or no thing and no "nothing". A second action
    that is not there is "none", and so is a place without a thing.
    """
    actions, objects, sides = find_phrases(text, _ACTION_LEXICON, _OBJECT_LEXICON, _SIDE_LEXICON)
    thing = objects[0] if objects else ""
    return {
        "action_first": actions[0] if actions else "",
        "action_second": actions[1] if len(actions) > 1 else "none",
        "object": thing,
        "side": "none" if thing == "nothing" or not sides else sides[0],
    }


def captions_of(
    slots: Mapping[str, str], several: bool, rng: np.random.Generator
) -> tuple[str, ...]:
    """`NUM_CAPTIONS` differently worded captions, the first in the plain words of the slots.

    Args:
        slots: A value for each of `SLOTS`.
        several: Speak of the thing in the plural.
    """
    wordings = _ONE if slots["action_second"] == "none" else _TWO
    texts = [_fill(wordings[0], slots, several, None)]
    order = rng.permutation(len(wordings))
    while len(texts) < NUM_CAPTIONS:
        text = _fill(wordings[int(order[len(texts) % len(order)])], slots, several, rng)
        if text not in texts:
            texts.append(text)
    return tuple(texts)


def _fill(
    wording: str, slots: Mapping[str, str], several: bool, rng: np.random.Generator | None
) -> str:
    def pick(ways: Sequence[str]) -> str:
        return ways[0] if rng is None else ways[int(rng.integers(len(ways)))]

    first, second = slots["action_first"], slots["action_second"]
    if slots["object"] == "nothing":
        thing = pick(NOTHING)
    else:
        thing = f"{OBJECTS[slots['object']][several]} {pick(SIDES[slots['side']])}"
    text = wording.replace("there is", "there are") if several else wording
    return text.format(
        p=pick(_PLAYERS),
        a=pick((first, *ACTIONS[first])),
        b=pick((second, *ACTIONS[second])) if second != "none" else "",
        o=thing,
    )


def label_of(slots: Mapping[str, str]) -> str:
    """The action label: "turns left", or "turns left then shoots"."""
    first, second = slots["action_first"], slots["action_second"]
    return first if second == "none" else f"{first} then {second}"


def questions_of(
    truth: Mapping[str, Any], several: bool, rng: np.random.Generator, no_share: Mapping[str, float]
) -> tuple[Question, ...]:
    """The questions of a clip with their answers, in random order.

    Args:
        truth: The clip's truth, with `slots`, `hurt` ("yes", "no" or "unclear") and `objects`.
        several: Whether the named thing is there more than once.
        no_share: How often a yes-or-no question whose answer is no is asked at all, so that yes
            and no are about as frequent over many clips; by kind.
    """
    slots = truth["slots"]
    first, second = slots["action_first"], slots["action_second"]
    every, yes_no = tuple(ACTIONS), ("yes", "no")
    if second == "none":
        asked = [Question("what does the player do?", first, "action", every)]
    else:
        asked = [
            Question("what does the player do first?", first, "first", every),
            Question("what does the player do then?", second, "then", every),
        ]
    ways = {action.rsplit(" ", 1)[1] for action in (first, second) if action.startswith("turns")}
    if len(ways) == 1:
        asked.append(
            Question("which way does the player turn?", min(ways), "turn", ("left", "right"))
        )
    if slots["object"] != "nothing":
        one, many = OBJECTS[slots["object"]]
        verb, thing = ("are", many) if several else ("is", one.split(" ", 1)[1])
        asked += [
            Question("what is in view?", slots["object"], "object", tuple(OBJECTS)),
            Question(f"where {verb} the {thing}?", slots["side"], "side", tuple(SIDES)),
        ]
    shoots = "yes" if "shoots" in (first, second) else "no"
    for kind, text, answer in (
        ("shoots", "does the player shoot?", shoots),
        ("hurt", "was the player hurt?", truth["hurt"]),
    ):
        if answer == "yes" or (answer == "no" and rng.random() < no_share[kind]):
            asked.append(Question(text, answer, kind, yes_no))
    present = {thing["kind"] for thing in truth["objects"]}
    if "?" not in present and slots["object"] != "nothing":
        thing, answer = slots["object"], "yes"
        if rng.random() < 0.5:
            absent = [kind for kind in OBJECTS if kind not in present]
            thing, answer = absent[int(rng.integers(len(absent)))], "no"
        asked.append(Question(f"is there {OBJECTS[thing][0]} in view?", answer, "exists", yes_no))
    return tuple(asked[int(i)] for i in rng.permutation(len(asked)))
