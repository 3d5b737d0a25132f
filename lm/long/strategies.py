"""Strategies: which parts of a long video are read, and in what order.

Those that choose parts whatever is asked give them with their weights and serve questions and
captions alike; the others answer a question. Knows readers and parts. Knows no pixels, no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from lm.long.answer import Evidence, LongAnswer, TimedText, joined
from lm.long.memory import Memory, unlike
from lm.long.parts import Part, Parts
from lm.long.query import Query
from lm.long.reader import Reader

SURE = 2.3  # nats: the likeliest answer is ten times as likely as the next
LIKELY = -0.7  # nats: an answer at least this likely is given, not only preferred to the others
EVERY = 4  # parts to one that a hierarchy reads of a scene
CHANGE = 0.25  # of `unlike`: less is the same picture
ABOVE = 2.0  # times the usual change, where pictures always change
SLOW = 0.95  # how much of the usual change so far stays at each part


def every_part(video: Parts) -> Iterator[tuple[Part, float]]:
    """All parts alike."""
    return ((part, 1.0) for part in video.read())


def keyframes(video: Parts, reader: Reader) -> Iterator[tuple[Part, float]]:
    """The first part of each scene, with the number of parts in it.

    A scene begins where what the codec's tokens look like changes by more than is usual there.
    """
    for scene, length in scenes(video, reader):
        yield scene, float(length)


def scenes(video: Parts, reader: Reader) -> Iterator[tuple[Part, int]]:
    """The first part of each scene and how many parts it has."""
    first: Part | None = None
    before, length, usual = None, 0, 0.0
    for part in video.read():
        looks = reader.features(part.tokens)
        change = 1.0 if before is None else unlike(before, looks)
        if first is None or change > max(CHANGE, ABOVE * usual):
            if first is not None:
                yield first, length
            first, length = part, 0
        if before is not None:
            usual = SLOW * usual + (1 - SLOW) * change
        before, length = looks, length + 1
    if first is not None:
        yield first, length


def remembered(
    video: Parts, reader: Reader, budget: int, block_tokens: int | None = None
) -> list[tuple[Part, float]]:
    """What a `Memory` holds at the end, with the number of parts that each stands for."""
    memory = Memory(budget, reader.features, block_tokens)
    for part in video.read():
        memory.add(part)
    return [(kept.part, float(kept.stands_for)) for kept in memory.kept]


def hierarchy(query: Query, video: Parts) -> LongAnswer:
    """Keyframes; where they leave doubt, one part of `EVERY` of the scene; then all of it.

    After each level it stops if the answer is sure. No part is read twice, so that it never takes
    more than reading every part.
    """
    firsts = [(part, number) for part, number in scenes(video, query.reader)]
    starts = [part.number for part, _ in firsts]
    stop = starts[-1] + firsts[-1][1]
    read = dict(zip(starts, query.evidence((part, float(n)) for part, n in firsts), strict=True))
    groups = list(pairwise([*starts, stop]))
    for every in (EVERY, 1):
        answer = query.conclude([read[i] for i in sorted(read)])
        if _settled(answer, list(read.values())):
            return answer
        doubtful = [group for group in groups if read[group[0]].margin < SURE] or groups
        inner = [
            (i, min(i + every, end)) for start, end in doubtful for i in range(start, end, every)
        ]
        wanted = {start for start, _ in inner} - read.keys()
        fresh = [part for part in video.read(wanted.__contains__)]
        told = query.evidence((part, 1.0) for part in fresh)
        read.update((part.number, each) for part, each in zip(fresh, told, strict=True))
        for start, end in inner:
            read[start] = replace(read[start], weight=float(end - start))
        groups = inner
    return query.conclude([read[i] for i in sorted(read)])


def _settled(answer: LongAnswer, evidence: Sequence[Evidence]) -> bool:
    """Whether the answer is far from the next and some part truly gives it."""
    given = max(each.scores.get(answer.text, -100.0) for each in evidence)
    return given >= LIKELY and (answer.margin is None or answer.margin >= SURE)


def summary(query: Query, video: Parts, budget: int) -> LongAnswer:
    """The last part, beside timed captions of those before it within `budget` tokens.

    What is said for longest is kept; the order is that of time.
    """
    last: list[Part] = []

    def passing() -> Iterator[Part]:
        for part in video.read():
            last[:] = [part]
            yield part

    told = list(joined_as_they_come(query.captions(passing())))
    past = told_within(told, query.reader, budget)
    (evidence,) = query.evidence([(last[0], 1.0)], past)
    return replace(query.conclude([evidence]), seconds=None)  # a summary tells no place


def joined_as_they_come(texts: Iterator[TimedText]) -> Iterator[TimedText]:
    """Timed texts with those that repeat the one before taken together."""
    before: TimedText | None = None
    for each in texts:
        if before is not None and each.text != before.text:
            yield before
            before = each
        else:
            before = each if before is None else joined([before, each])[0]
    if before is not None:
        yield before


def told_within(texts: Sequence[TimedText], reader: Reader, budget: int) -> str:
    """As many timed texts as fit: each different text once before any repeats, in order of time."""
    fresh: dict[str, int] = {}
    for i, each in enumerate(texts):
        fresh.setdefault(each.text, i)
    order = [*fresh.values(), *(i for i in range(len(texts)) if i not in set(fresh.values()))]
    kept: list[int] = []
    left = budget
    for i in order:
        cost = reader.count(f"{texts[i]}. ")
        if cost > left:
            break
        kept.append(i)
        left -= cost
    return ". ".join(str(texts[i]) for i in sorted(kept))
