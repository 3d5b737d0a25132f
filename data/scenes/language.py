"""Captions: what happens in a scene, said in many ways that `parse_caption` can read back.

Knows sentences; knows nothing of pixels. Colours and shapes keep their names in every wording.
"""

from __future__ import annotations

from collections.abc import Iterator

from data.scenes.chance import Chance
from data.scenes.phrases import HIT_VERBS, SIZE_WORDS, SPEED_PHRASES, article, motion_phrases
from data.scenes.plan import Plan
from data.scenes.spec import DIGITS, SPLITS, Action, Reading, Thing

NUM_CAPTIONS = 4
CAPTION_STREAM = 16  # streams of luck, apart from the plans' own

# What a wording may say: {A} an object, {Z} with its size, {the} again; {v} what it does, {w} with
# its speed, {i} and {j} the same as a participle, {s} the speed alone. Letters of the second
# object, and of the second action, are numbered 2.
SINGLE = (
    "{A} {plain}",
    "{Z} {w}",
    "{s}{A} {v}",
    "there is {A} {i}",
    "{j}: {Z}",
    "the {shape} is {colour} and {v}",
    "{sized_shape} in {colour} {v}",
    "we see {A} that {w}",
    "{Z}, {i}",
)
PHASES = (
    "first {A} {plain}, then it {plain2}",
    "{Z} {w}, then {w2}",
    "{A} {v2} after {i}",
    "after {j}, {A} {v2}",
    "before {j2}, {Z} {v}",
    "{Z} {v} before {j2}",
    "{A} first {w} and afterwards {w2}",
    "there is {A} {i} and then {i2}",
)
RELAY = (
    "first {A} {plain}, then {A2} {plain2}",
    "{Z} {w}, then {Z2} {w2}",
    "after {A} {v}, {A2} {v2}",
    "before {A2} {v2}, {A} {v}",
    "{Z} {w}; afterwards {Z2} {w2}",
    "there are {A} and {A2}. first {the} {v}, then {the2} {v2}",
)
HIT = (
    "{A} {plain} and {hit} {A2}, which then {plain2}",
    "{A} {v}, {hit} {Z2} and sets it {i2}",
    "first {Z} {v}, then it {hit} {A2}, and {the2} {v2}",
    "{i}, {A} {hit} {A2}, and {the2} then {v2}",
    "there are {A} and {A2}. {the} {v} and {hit} {the2}, which then {v2}",
    "after {j}, {Z} {hit} {Z2}; then {the2} {v2}",
)
JOINS = ("; ", " while ", " and ", ", and ", ". ")


def captions_of(plan: Plan, seed: int, split: str, index: int) -> tuple[str, ...]:
    """`NUM_CAPTIONS` different captions; the first is plain and names no size or speed."""
    luck = Chance(seed, CAPTION_STREAM + SPLITS.index(split), index)
    texts: dict[str, None] = {}
    if plan.kind in ("several", "race", "double"):
        makers = _joined(plan.reading, luck)
    else:
        makers = _worded(plan, luck)
    for text in makers:
        texts[text] = None
        if len(texts) == NUM_CAPTIONS:
            break
    return tuple(texts)


def _worded(plan: Plan, luck: Chance) -> Iterator[str]:
    """Captions from the kind's wordings; bystanders get a sentence of their own."""
    wordings = {"single": SINGLE, "phases": PHASES, "relay": RELAY, "hit": HIT}[plan.kind]
    actors = 1 if plan.kind in ("single", "phases") else 2
    things, others = plan.reading.things[:actors], plan.reading.things[actors:]
    for wording in (wordings[0], *luck.some(wordings[1:], len(wordings))):
        text = fill(wording, things, luck)
        for other in others:
            text = f"{text}. {fill(luck.pick(('{A} {v}', '{Z} {w}')), (other,), luck)}"
        yield text


def _joined(reading: Reading, luck: Chance) -> Iterator[str]:
    """Captions of a clause per object, in the world's order or another."""
    double = len(reading.things[0].actions) > 1
    plain, ways, joins = SINGLE[0], ("{A} {v}", "{Z} {w}", "{A} {w}"), JOINS
    if double:
        plain = "{A} first {plain}, then {plain2}"
        ways = ("{A} first {v}, then {v2}", "{Z} first {w} and afterwards {w2}")
        joins = ("; ", ". ")
    yield "; ".join(fill(plain, (thing,), luck) for thing in reading.things)
    while True:
        order = luck.some(reading.things, len(reading.things))
        way = luck.pick(ways)
        start = f"there are {_COUNT[len(order)]} objects: "
        if luck.maybe(0.3) and not double:
            yield start + ", ".join(fill("{A} {i}", (thing,), luck) for thing in order)
        else:
            join = luck.pick(joins)
            body = join.join(fill(way, (thing,), luck) for thing in order)
            yield start + body if luck.maybe(0.2) else body


_COUNT = {1: "one", 2: "two", 3: "three"}


def fill(wording: str, things: tuple[Thing, ...], luck: Chance) -> str:
    """Fill a wording's slots for one object with one or two actions, or two objects with one."""
    first = things[0]
    if len(things) == 2:
        second, action2 = things[1], things[1].actions[0]
    else:
        second, action2 = first, first.actions[-1]
    words = _words(first, first.actions[0], luck)
    words |= {f"{key}2": value for key, value in _words(second, action2, luck).items()}
    words["hit"] = luck.pick(HIT_VERBS)
    return wording.format_map(words)


def _words(thing: Thing, action: Action, luck: Chance) -> dict[str, str]:
    shape = shape_name(thing)
    sized, speed = shape, ""
    if thing.size:
        sized = f"{luck.pick(SIZE_WORDS[thing.size])} {shape}"
    if action.speed:
        speed = luck.pick(SPEED_PHRASES[action.speed])
    phrase, participle = luck.pick(motion_phrases(action.motion))
    size = sized.removesuffix(shape)
    return {
        "A": article(name(thing)),
        "Z": article(f"{size}{name(thing)}"),
        "the": f"the {name(thing)}",
        "colour": str(thing.colour),
        "shape": shape,
        "sized_shape": article(sized),
        "plain": action.motion,
        "v": phrase,
        "w": f"{phrase} {speed}".rstrip(),
        "i": participle,
        "j": f"{participle} {speed}".rstrip(),
        "s": f"{speed}, " if speed else "",
    }


def shape_name(thing: Thing) -> str:
    """`circle`, or `digit seven`."""
    return f"digit {thing.shape}" if thing.shape in DIGITS else str(thing.shape)


def name(thing: Thing) -> str:
    """Colour and shape: `red circle`, `blue digit seven`."""
    return f"{thing.colour} {shape_name(thing)}"
