"""Questions with one right answer each, true of the whole clip.

Knows what can be asked of a `Reading`; knows nothing of pixels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from data.clip import Question
from data.scenes.chance import Chance
from data.scenes.language import name, shape_name
from data.scenes.phrases import article
from data.scenes.plan import Plan
from data.scenes.spec import (
    COLOURS,
    DIGITS,
    DIRECTIONS,
    MOTIONS,
    MOVES,
    POPS,
    SHAPES,
    SIZES,
    SPEEDS,
    SPLITS,
    Reading,
    Thing,
    follows,
)

QUESTION_STREAM = 32
NUM_QUESTIONS = 7  # a clip, at most
NUMBERS = ("zero", "one", "two", "three")
EVEN = ("exists", "count")
RARE = ("faster", "first", "last", "before", "after", "cause", "hit", "when")


def questions_of(
    plan: Plan,
    seed: int,
    split: str,
    index: int,
    frame_seconds: tuple[float, ...],
    number: int = NUM_QUESTIONS,
) -> tuple[Question, ...]:
    """Up to `number` questions; by default one of a kind, in random order, rare kinds preferred.

    Args:
        frame_seconds: when each frame is shown, for questions about when.
        number: more than the default begin with the default's, and kinds come again.
    """
    luck = Chance(seed, QUESTION_STREAM + SPLITS.index(split), index)
    asked = _asked(plan, luck, frame_seconds)
    asked.sort(key=lambda question: question.kind not in RARE)
    chosen = _one_of_each(asked)[: min(number, NUM_QUESTIONS)]
    chosen = luck.some(chosen, len(chosen))
    for _ in range(number - NUM_QUESTIONS):  # rounds; each adds one of each kind that is new
        if len(chosen) >= number:
            break
        known = {question.question for question in chosen}
        asked = _asked(plan, luck, frame_seconds)
        fresh = [q for q in asked if q.question not in known and not _leads(q, chosen)]
        chosen += _one_of_each(fresh)
    return tuple(chosen[:number])


def _leads(question: Question, asked: list[Question]) -> bool:
    """Whether its answer is already the commonest of a kind that has more to say no to than yes."""
    if question.kind not in EVEN:
        return False
    others = Counter(other.answer for other in asked if other.kind == question.kind)
    own = others.pop(question.answer, 0)
    return own > max(others.values(), default=0)


def _asked(plan: Plan, luck: Chance, frame_seconds: tuple[float, ...]) -> list[Question]:
    """What can be asked, in random order; drawn again, some of it is other or worded so."""
    reading = plan.reading
    asked = list(_about_things(reading, luck))
    asked.append(_exists(reading.things, luck))
    if plan.background is not None:
        asked.append(_count(reading.things, luck))
    asked += _about_order(reading, luck)
    asked += _about_time(reading, luck, frame_seconds)
    return luck.some(asked, len(asked))


def _one_of_each(asked: list[Question]) -> list[Question]:
    """The last one of each kind."""
    return list({question.kind: question for question in asked}.values())


def refer(thing: Thing, things: tuple[Thing, ...], luck: Chance, hide: str = "") -> str | None:
    """A phrase that means this object alone and does not say the slot `hide`; None if none does."""
    ways = []
    if len(things) == 1:
        ways.append("the object")
    shape = [other for other in things if other.shape == thing.shape]
    colour = [other for other in things if other.colour == thing.colour]
    doing = [other for other in things if other.motions == thing.motions]
    if hide != "shape" and len(shape) == 1:
        ways.append(f"the {shape_name(thing)}")
    if hide != "colour" and len(colour) == 1:
        ways.append(f"the {thing.colour} object")
    if not hide:
        ways.append(f"the {name(thing)}")
    if hide and not ways and len(doing) == 1 and len(thing.actions) == 1:
        ways.append(f"the object that {thing.actions[0].motion}")
    return luck.pick(ways) if ways else None


def _about_things(reading: Reading, luck: Chance) -> Iterator[Question]:
    """Colour, shape, size, motion, direction, speed, each of a random object that has it."""
    things = reading.things
    for thing in luck.some(things, len(things)):
        assert thing.colour and thing.shape
        if who := refer(thing, things, luck, hide="colour"):
            yield Question(f"what colour is {who}?", thing.colour, "colour", tuple(COLOURS))
        if who := refer(thing, things, luck, hide="shape"):
            choices = DIGITS if thing.shape in DIGITS else SHAPES
            what = "which digit" if thing.shape in DIGITS else "what shape"
            yield Question(f"{what} is {who}?", thing.shape, "shape", choices)
        who = refer(thing, things, luck)
        if thing.size:
            yield Question(f"is {who} small or large?", thing.size, "size", SIZES)
        if len(thing.actions) != 1:
            continue
        (action,) = thing.actions
        yield Question(f"what does {who} do?", action.motion, "motion", MOTIONS)
        if action.motion in MOVES:
            where = action.motion.removeprefix("moves ")
            way = luck.pick(("which way does {} move?", "in which direction does {} move?"))
            yield Question(way.format(who), where, "direction", tuple(DIRECTIONS))
        if action.speed:
            yield Question(f"is {who} slow or fast?", action.speed, "speed", SPEEDS)


def _exists(things: tuple[Thing, ...], luck: Chance) -> Question:
    """Is there an object of this colour, of this shape, or of both?

    Yes as often as no; a no that names both differs in one of them alone. The plain ones are worth
    asking for themselves, and whoever can answer them is half way to the third.
    """
    thing = luck.pick(things)
    shapes = DIGITS if thing.shape in DIGITS else SHAPES
    named = {
        "both": lambda other: (other.colour, other.shape),
        "colour": lambda other: (other.colour, None),
        "shape": lambda other: (None, other.shape),
    }[way := luck.pick(("both", "colour", "shape"))]
    colour, shape, answer = *named(thing), "yes"
    if luck.maybe(0.5):
        answer = "no"
        present = {named(other) for other in things}
        recoloured = [(c, shape) for c in COLOURS if (c, shape) not in present]
        reshaped = [(colour, s) for s in shapes if (colour, s) not in present]
        changes = {"both": (recoloured, reshaped), "colour": (recoloured,), "shape": (reshaped,)}
        colour, shape = luck.pick(luck.pick(changes[way]))
    noun = "object" if shape is None else shape_name(Thing(None, shape))
    what = article(noun if colour is None else f"{colour} {noun}")
    return Question(f"is there {what}?", answer, "exists", ("yes", "no"))


def _count(things: tuple[Thing, ...], luck: Chance) -> Question:
    way = luck.pick(("all", "all", "colour", "shape"))
    what, number = "objects", len(things)
    if way == "colour":
        colour = luck.pick((luck.pick(things).colour, luck.pick(tuple(COLOURS))))
        what, number = f"{colour} objects", sum(t.colour == colour for t in things)
    elif way == "shape":
        shape = luck.pick((luck.pick(things).shape, luck.pick(SHAPES)))
        noun = {"cross": "crosses"}.get(str(shape), f"{shape_name(Thing(None, shape))}s")
        what, number = noun, sum(t.shape == shape for t in things)
    return Question(f"how many {what} are there?", NUMBERS[number], "count", NUMBERS)


def _about_order(reading: Reading, luck: Chance) -> Iterator[Question]:
    """First, last, before, after; what made it move; which is faster."""
    things = reading.things
    for thing in luck.some(things, len(things)):
        if len(thing.actions) == 2:
            who = refer(thing, things, luck)
            first, second = (action.motion for action in thing.actions)
            it = "it" if len(things) == 1 else who
            yield Question(f"what does {who} do first?", first, "first", MOTIONS)
            yield Question(f"what does {who} do last?", second, "last", MOTIONS)
            yield Question(f"what does {it} do before it {second}?", first, "before", MOTIONS)
            yield Question(f"what does {it} do after it {first}?", second, "after", MOTIONS)
    if reading.hit:
        yield from _about_hit(reading, luck)
    elif len(things) > 1 and follows(things[0].actions[0], things[1].actions[0]):
        yield from _about_relay(reading, luck)
    moving = [t for t in things if len(t.actions) == 1 and t.actions[0].motion in MOVES]
    if len(things) == len(moving) == 2:
        speeds = {thing.actions[0].speed: name(thing) for thing in moving}
        if len(speeds) == 2 and None not in speeds:
            how, speed = luck.pick((("faster", "fast"), ("slower", "slow")))
            names = tuple(name(thing) for thing in moving)
            yield Question(f"which object is {how}?", speeds[speed], "faster", names)


def _about_hit(reading: Reading, luck: Chance) -> Iterator[Question]:
    assert reading.hit
    by, on = reading.things[reading.hit.by], reading.things[reading.hit.on]
    names = tuple(name(thing) for thing in reading.things if thing is not on)
    way = luck.pick(("what makes the {} move?", "what hits the {}?"))
    names = (*names, "nothing")
    yield Question(way.format(name(on)), name(by), "cause", names)
    motion = on.motions[0]
    what = f"what does the {name(on)} do after it is hit?"
    yield Question(what, motion, "after", MOTIONS)
    pair, answer = luck.pick((((by, on), "yes"), ((on, by), "no")))
    question = f"does the {name(pair[0])} hit the {name(pair[1])}?"
    yield Question(question, answer, "hit", ("yes", "no"))
    if len(reading.things) == 2:
        yield Question("which object moves first?", name(by), "first", (name(by), name(on)))
        yield Question("which object moves last?", name(on), "last", (name(by), name(on)))


def _about_relay(reading: Reading, luck: Chance) -> Iterator[Question]:
    one, two = reading.things[:2]
    what = {
        thing: tuple(f"the {name(thing)} {motion}" for motion in dict.fromkeys(both))
        for thing in (one, two)
        for both in [(thing.motions[0], one.motions[0], two.motions[0])]
    }
    events = what[one] + what[two]
    first, second = what[one][0], what[two][0]
    if len(reading.things) == 2:
        yield Question("what happens first?", first, "first", events)
        yield Question("what happens last?", second, "last", events)
    yield Question(f"what happens before {second}?", first, "before", events)
    yield Question(f"what happens after {first}?", second, "after", events)
    if one.motions[0] != two.motions[0] and luck.maybe(0.5):
        question = f"what makes the {name(two)} {_bare(two.motions[0])}?"
        yield Question(question, "nothing", "cause", (name(one), "nothing"))


def _bare(motion: str) -> str:
    """The infinitive: `move left`, `stay still`."""
    verb, _, rest = motion.partition(" ")
    return f"{verb.removesuffix('s')} {rest}".rstrip()


def _about_time(
    reading: Reading, luck: Chance, frame_seconds: tuple[float, ...]
) -> Iterator[Question]:
    """At which second, to the nearest half, where that is clear and there are several to choose."""
    last = len(frame_seconds) - 1
    choices = tuple(f"{half / 2:.1f}" for half in range(int(frame_seconds[-1] * 2) + 1))
    if len(choices) < 4:
        return
    moments: list[tuple[str, float]] = []
    for thing in reading.things:
        for action in thing.actions:
            if action.motion in POPS:
                who = refer(thing, reading.things, luck)
                moments.append((f"{who} {_bare(action.motion)}", action.start))
    if reading.hit:
        by, on = reading.things[reading.hit.by], reading.things[reading.hit.on]
        moments.append((f"the {name(by)} hit the {name(on)}", reading.hit.at))
    for what, moment in moments:
        seconds = frame_seconds[min(last, math.ceil(moment * last))]
        halves = seconds * 2
        if abs(halves - round(halves)) <= 0.3 and round(halves) < len(choices):
            answer = choices[round(halves)]
            yield Question(f"at which second does {what}?", answer, "when", choices)
