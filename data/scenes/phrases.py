"""The words for every slot: one table that captions are made from and parsed with.

Knows English phrases for colours, shapes, sizes, speeds and motions; knows nothing of sentences.
"""

from __future__ import annotations

from functools import cache

from data.scenes.spec import COLOURS, DIGITS, MOTIONS, SHAPES

DIRECTION_PHRASES: dict[str, tuple[str, ...]] = {
    "right": ("right", "to the right", "rightwards"),
    "left": ("left", "to the left", "leftwards"),
    "up": ("up", "upwards", "towards the top"),
    "down": ("down", "downwards", "towards the bottom"),
    "up and right": ("up and right", "up and to the right", "towards the top right"),
    "up and left": ("up and left", "up and to the left", "towards the top left"),
    "down and right": ("down and right", "down and to the right", "towards the bottom right"),
    "down and left": ("down and left", "down and to the left", "towards the bottom left"),
}
_GO = (("moves", "moving"), ("travels", "travelling"), ("slides", "sliding"), ("goes", "going"))
_SPIN = (("rotates", "rotating"), ("turns", "turning"), ("spins", "spinning"))
_CLOCK = {"clockwise": ("clockwise",), "counterclockwise": ("counterclockwise", "anticlockwise")}
_OTHER: dict[str, tuple[tuple[str, str], ...]] = {
    "stays still": (
        ("stays still", "staying still"),
        ("does not move", "not moving"),
        ("stands still", "standing still"),
        ("rests in place", "resting in place"),
    ),
    "bounces": (
        ("bounces", "bouncing"),
        ("bounces up and down", "bouncing up and down"),
        ("hops", "hopping"),
        ("jumps up and down", "jumping up and down"),
    ),
    "grows": (
        ("grows", "growing"),
        ("gets bigger", "getting bigger"),
        ("becomes larger", "becoming larger"),
        ("expands", "expanding"),
    ),
    "shrinks": (
        ("shrinks", "shrinking"),
        ("gets smaller", "getting smaller"),
        ("becomes smaller", "becoming smaller"),
        ("contracts", "contracting"),
    ),
    "appears": (
        ("appears", "appearing"),
        ("comes into view", "coming into view"),
        ("shows up", "showing up"),
        ("pops up", "popping up"),
    ),
    "disappears": (
        ("disappears", "disappearing"),
        ("vanishes", "vanishing"),
        ("goes out of view", "going out of view"),
        ("drops out of sight", "dropping out of sight"),
    ),
}
SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
SPEED_PHRASES = {
    "slow": ("slowly", "at low speed", "at a slow pace"),
    "fast": ("quickly", "fast", "at high speed"),
}
HIT_VERBS = ("hits", "bumps into", "runs into", "knocks into")


@cache
def motion_phrases(motion: str) -> tuple[tuple[str, str], ...]:
    """(third person, gerund) phrases of a motion; the first is its plainest."""
    verb, _, rest = motion.partition(" ")
    if verb == "moves":
        return tuple((f"{s} {d}", f"{g} {d}") for d in DIRECTION_PHRASES[rest] for s, g in _GO)
    if verb == "rotates":
        return tuple((f"{s} {d}", f"{g} {d}") for d in _CLOCK[rest] for s, g in _SPIN)
    return _OTHER[motion]


@cache
def lexicon() -> dict[tuple[str, ...], tuple[str, str]]:
    """Every phrase, as words, with its (slot, value); what the parser looks phrases up in."""
    table: dict[tuple[str, ...], tuple[str, str]] = {}
    for motion in MOTIONS:
        for pair in motion_phrases(motion):
            for phrase in pair:
                table[tuple(phrase.split())] = ("motion", motion)
    for colour in COLOURS:
        table[(colour,)] = ("colour", colour)
    for shape in SHAPES:
        table[(shape,)] = ("shape", shape)
    for digit in DIGITS:
        table[("digit", digit)] = ("shape", digit)
    for size, words in SIZE_WORDS.items():
        for word in words:
            table[(word,)] = ("size", size)
    for speed, phrases in SPEED_PHRASES.items():
        for phrase in phrases:
            table[tuple(phrase.split())] = ("speed", speed)
    for verb in HIT_VERBS:
        table[tuple(verb.split())] = ("hit", "hit")
    for word in ("then", "afterwards"):
        table[(word,)] = ("mark", "then")
    for word in ("first", "after", "before", "while"):
        table[(word,)] = ("mark", word)
    return table


def article(phrase: str) -> str:
    """The phrase with `a` or `an` before it."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
