"""The kinds of scene and how often each level of difficulty shows them.

Turns (seed, split, index) into a `Plan`. Knows which triples a split may show; knows nothing of
pixels or sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np

from data.scenes.chance import Chance
from data.scenes.combos import Triple, motions_of, triples_by_motion, unseen_triples
from data.scenes.plan import Body, Plan, action_of, body_of, place
from data.scenes.spec import (
    DIRECTIONS,
    MOTIONS,
    MOVES,
    POPS,
    SHAPES,
    SPEEDS,
    SPLITS,
    STILL,
    Action,
    Hit,
    Reading,
)
from data.scenes.sprites import extents

BACKGROUND_NUMBERS = 12
KINDS = {  # one in proportion to its weight
    "easy": {"single": 1},
    "standard": {"single": 3, "several": 4, "race": 2, "phases": 4, "relay": 3, "hit": 3},
    "hard": {"several": 3, "race": 2, "phases": 3, "relay": 3, "hit": 3, "double": 3},
}
SWITCH = (0.46, 0.54)  # when the second phase starts
CONTACT = (0.42, 0.58)  # when one object hits another
PUSH = (0.17, 0.26)  # how far a hit moves an object, in shorter sides
STRAIGHT = MOVES[:4]  # directions in which objects hit each other
UNPOPPED = tuple(motion for motion in MOTIONS if motion not in POPS)
CROWDED = -0.05  # clearance allowed at `hard`: objects may cover each other a little
ATTEMPTS = 6


@lru_cache(maxsize=1024)  # a step asks for its clips' labels, then for their pixels
def make_plan(seed: int, split: str, difficulty: str, index: int) -> Plan:
    """The scene number `index` of a split; the same whatever else is drawn."""
    luck = Chance(seed, SPLITS.index(split), index)
    kinds = KINDS[difficulty]
    kind = luck.pick([name for name, weight in kinds.items() for _ in range(weight)])
    bodies, hit = [], None
    if kind in ("several", "race"):
        bodies = _several(split, difficulty, luck, race=kind == "race")
        kind = kind if len(bodies) > 1 else "single"
    elif kind == "hit":
        bodies = _hit(split, difficulty, luck)
        hit = Hit(0, 1, bodies[1].thing.actions[0].start)
    elif kind == "single":
        bodies = _placed([[_one(split, difficulty, luck, MOTIONS, [])]], luck)
    else:
        bodies = _in_turn(kind, split, difficulty, luck)
    return Plan(
        Reading(tuple(body.thing for body in bodies), hit),
        kind,
        np.array([body.row() for body in bodies]),
        None if difficulty == "easy" else luck.array(BACKGROUND_NUMBERS),
        luck.unit(),
    )


def _placed(groups: list[list[Body]], luck: Chance) -> list[Body]:
    bodies = [body for group in groups for body in group]
    place(bodies, luck, [number for number, group in enumerate(groups) for _ in group])
    return bodies


def _free(options: tuple[Triple, ...], taken: list[Body], difficulty: str) -> Sequence[Triple]:
    """Triples that can be told from the objects there are: by colour, at `hard` by either word."""
    if not taken:
        return options
    if difficulty == "hard":
        pairs = {(body.thing.colour, body.thing.shape) for body in taken}
        return [triple for triple in options if triple[:2] not in pairs]
    colours = {body.thing.colour for body in taken}
    return [triple for triple in options if triple[0] not in colours]


def _one(
    split: str,
    difficulty: str,
    luck: Chance,
    motions: tuple[str, ...],
    taken: list[Body],
    start: float = 0.0,
    end: float = 1.0,
    speeds: tuple[str, ...] = SPEEDS,
) -> Body:
    """An object that does one thing from `start` to `end` and waits the rest of the clip."""
    options = triples_by_motion(split)
    if end - start < 1:
        options = _waiters(split)
    while True:  # most motions have some triple left
        motion = luck.pick(motions)
        if free := _free(options[motion], taken, difficulty):
            break
    colour, shape, _ = luck.pick(free)
    return body_of(colour, shape, [action_of(motion, luck, start, end, speeds)], difficulty, luck)


@cache
def _waiters(split: str) -> dict[str, tuple[Triple, ...]]:
    """Triples by motion whose object may also be seen waiting: training hides unseen stillness."""
    return {
        motion: tuple(
            triple
            for triple in options
            if split == "unseen" or (*triple[:2], STILL) not in unseen_triples()
        )
        for motion, options in triples_by_motion(split).items()
    }


def _several(split: str, difficulty: str, luck: Chance, *, race: bool) -> list[Body]:
    """Two or three objects at once, in a race one slow and one fast; fewer if they find no room."""
    count = 2 if race else luck.pick((2, 2, 2, 3, 3))
    speeds = luck.some(SPEEDS, 2)
    enough = CROWDED if difficulty == "hard" else 0.0
    bodies: list[Body] = []
    for attempt in range(ATTEMPTS):
        bodies = []
        for number in range(count if race else count - attempt // (ATTEMPTS // 2)):
            popped = any(motion in POPS for body in bodies for motion in body.thing.motions)
            motions = MOVES if race else UNPOPPED if popped else MOTIONS
            pace = (speeds[number],) if race else SPEEDS
            bodies.append(_one(split, difficulty, luck, motions, bodies, speeds=pace))
        twins = len({body.thing.colour for body in bodies}) < len(bodies)
        if place(bodies, luck) > (0.0 if twins else enough):
            return bodies
    return _placed([bodies[:1]], luck)


def _in_turn(kind: str, split: str, difficulty: str, luck: Chance) -> list[Body]:
    """One object after another (`relay`), or each with two phases (`phases`, `double`)."""
    switch = luck.between(*SWITCH)
    crowd: list[Body] = []
    for _ in range(ATTEMPTS):
        if kind == "relay":
            crowd = _relay(split, difficulty, luck, switch)
        else:
            crowd = [_phases(split, difficulty, luck, switch, [])]
            if kind == "double":
                crowd.append(_phases(split, difficulty, luck, switch, crowd))
        needed = len(crowd)
        if difficulty == "hard" and kind != "double":
            crowd.append(_bystander(split, luck, crowd))
        if place(crowd, luck) > 0:
            return crowd
    return _placed([[body] for body in crowd[:needed]], luck)


def _bystander(split: str, luck: Chance, taken: list[Body]) -> Body:
    return _one(split, "hard", luck, UNPOPPED, taken)


def _relay(split: str, difficulty: str, luck: Chance, switch: float) -> list[Body]:
    motions = tuple(motion for motion in MOTIONS if motion != STILL)
    first = _one(split, difficulty, luck, motions, [], 0.0, switch)
    done = first.thing.motions[0]
    motions = tuple(motion for motion in motions if not (motion == done and motion in MOVES))
    return [first, _one(split, difficulty, luck, motions, [first], switch, 1.0)]


@cache
def _pairs_of_motions(split: str) -> dict[tuple[str, str], tuple[Triple, ...]]:
    """(first motion, second motion) to the (colour, shape, '') that a split may show doing both."""
    table: dict[tuple[str, str], list[Triple]] = {}
    objects = dict.fromkeys(t[:2] for options in triples_by_motion(split).values() for t in options)
    for colour, shape in objects:
        motions = motions_of(split, colour, shape)
        for first in motions:
            for second in motions:
                if _in_sequence(first, second):
                    table.setdefault((first, second), []).append((colour, shape, ""))
    return {pair: tuple(options) for pair, options in table.items()}


def _in_sequence(first: str, second: str) -> bool:
    """True if the second motion can follow the first and be told from it."""
    if first == second or STILL in (first, second):
        return False
    if first in MOVES and second in MOVES:  # at least a right angle apart
        (a, b), (c, d) = (DIRECTIONS[motion.removeprefix("moves ")] for motion in (first, second))
        return a * c + b * d <= 0
    return first != "disappears" and second != "appears"


def _phases(split: str, difficulty: str, luck: Chance, switch: float, taken: list[Body]) -> Body:
    table = _pairs_of_motions(split)
    while True:  # most pairs have some object left
        first, second = luck.pick(tuple(table))
        if free := _free(table[first, second], taken, difficulty):
            break
    colour, shape, _ = luck.pick(free)
    actions = [action_of(first, luck, 0.0, switch), action_of(second, luck, switch, 1.0)]
    return body_of(colour, shape, actions, difficulty, luck)


def _hit(split: str, difficulty: str, luck: Chance) -> list[Body]:
    """One object runs into another, stops, and the other moves on the same way."""
    switch = luck.between(*CONTACT)
    pair: list[Body] = []
    for _ in range(ATTEMPTS):
        motion = luck.pick(STRAIGHT)
        options, pair = _waiters(split)[motion], []
        for start, end in ((0.0, switch), (switch, 1.0)):
            usable = _free(options, pair, "standard")
            colour, shape, _ = luck.pick(usable or options)
            action = Action(motion, None, start, end)
            pair.append(body_of(colour, shape, [action], difficulty, luck))
        _push(pair, motion, luck)
        if difficulty != "hard":
            return _placed([pair], luck)
        crowd = [*pair, _bystander(split, luck, pair)]
        if place(crowd, luck, [0, 0, 1]) > 0:
            return crowd
    return pair


def _push(pair: list[Body], motion: str, luck: Chance) -> None:
    """Set the two bodies of a hit on one line so that they touch when the first arrives."""
    right, down = DIRECTIONS[motion.removeprefix("moves ")]
    ahead = STRAIGHT.index(motion)
    room = 0.95 - 2 * sum(body.radius for body in pair)
    length = min(luck.between(*PUSH), room / 2)
    reach = 0.0
    for body, side in zip(pair, (ahead, ahead ^ 1), strict=True):
        body.angle = 0.0
        assert body.thing.shape
        reach += float(extents()[SHAPES.index(body.thing.shape), side]) * body.radius
        start, end = body.segments[0][:2]
        body.segments = [(start, end, right * length, down * length, 0.0, 0.0, 0.0, 0.0)]
    first, second = pair
    second.x = first.x + right * (length + reach)
    second.y = first.y + down * (length + reach)
