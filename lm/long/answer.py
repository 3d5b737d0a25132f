"""Answers about long video: what the readings of parts say, brought to one text with its cost.

Knows texts, likelihoods and seconds. Knows no video and no model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Combine = Literal["maximum", "vote"]
YES_NO = ("yes", "no")
NEAR = math.log(4)  # a part this near to the likeliest one, in nats, belongs to the same event
_OPENS = "is|are|was|were|do|does|did|has|have|can|will"
_HAPPENS = re.compile(r"\s*(when|at which|at what|how long|ever)\b", re.IGNORECASE)
_POLAR = re.compile(rf"\s*({_OPENS})\b(?!.*\bor\b)", re.IGNORECASE)


@dataclass(frozen=True)
class TimedText:
    """A text about a stretch of a video."""

    start: float  # seconds
    end: float  # seconds
    text: str

    def __str__(self) -> str:
        if self.end == self.start:  # a moment
            return f"{self.start:g} s: {self.text}"
        return f"{self.start:g} to {self.end:g} s: {self.text}"


@dataclass(frozen=True)
class LongAnswer:
    """What was read off a long video, and what it took."""

    text: str
    margin: float | None  # nats from the second likeliest answer; None without a second
    tokens: int  # that the language model read and wrote, over all readings
    readings: int  # times that the model was run over a part
    seconds: tuple[float, float] | None = None  # start and end of where it was found
    parts: tuple[TimedText, ...] = field(default=())  # of captions

    def __str__(self) -> str:
        found = "" if self.seconds is None else f"at {self.seconds[0]:g} to {self.seconds[1]:g} s, "
        sure = "" if self.margin is None else f"{self.margin:.1f} nats before the next, "
        cost = f"{self.tokens:,} tokens in {self.readings:,} readings"
        return f"{self.text}\n({found}{sure}{cost})"


@dataclass(frozen=True)
class Evidence:
    """What one reading says of a question."""

    start: float  # seconds
    end: float  # seconds
    scores: dict[str, float]  # natural-log likelihood of each answer that it considers
    weight: float = 1.0  # parts that it speaks for

    @property
    def margin(self) -> float:
        """Nats from the likeliest answer to the next, where none of them is an answer, too.

        A reading that finds every choice unlikely is as sure as one that finds one certain.
        """
        none = math.log(max(1e-9, 1 - sum(map(math.exp, self.scores.values()))))
        first, second = sorted([*self.scores.values(), none], reverse=True)[:2]
        return first - second


def is_polar(question: str) -> bool:
    """Whether a question wants yes or no."""
    return bool(_POLAR.match(question))


def way_to_combine(question: str) -> Combine:
    """`maximum` for whether and when something happens, `vote` for what is so all along."""
    return "maximum" if is_polar(question) or _HAPPENS.match(question) else "vote"


def conclude(evidence: Sequence[Evidence], how: Combine, tokens: int, readings: int) -> LongAnswer:
    """One answer from what the readings say.

    Args:
        evidence: At least one, in order of time.
        how: `maximum`: the answer that some part finds likeliest; of yes and no it is yes if in
            some part yes is the likelier. `vote`: the answer likeliest over all parts, each part's
            likelihoods counted once for every part it speaks for.
        tokens: Spent on it.
        readings: Spent on it.
    """
    assert evidence, "an answer needs a reading"
    if how == "maximum" and set(evidence[0].scores) == set(YES_NO):
        return _whether(evidence, tokens, readings)
    totals: dict[str, float] = {}
    for each in evidence:
        for text, score in each.scores.items():
            if how == "maximum":
                totals[text] = max(totals.get(text, -math.inf), score)
            else:
                totals[text] = totals.get(text, 0.0) + each.weight * math.exp(score)
    if how == "vote":
        totals = {text: math.log(max(total, 1e-300)) for text, total in totals.items()}
    first, *others = sorted(totals, key=lambda text: -totals[text])
    margin = totals[first] - totals[others[0]] if others else None
    seconds = None
    if how == "maximum":
        seconds = _around(evidence, [each.scores.get(first, -math.inf) for each in evidence])
    return LongAnswer(first, margin, tokens, readings, seconds)


def _whether(evidence: Sequence[Evidence], tokens: int, readings: int) -> LongAnswer:
    odds = [each.scores["yes"] - each.scores["no"] for each in evidence]
    best = max(odds)
    seconds = _around(evidence, odds) if best > 0 else None
    return LongAnswer("yes" if best > 0 else "no", abs(best), tokens, readings, seconds)


def _around(evidence: Sequence[Evidence], scores: Sequence[float]) -> tuple[float, float]:
    """The stretch of neighbouring readings near to the best one."""
    first = last = max(range(len(scores)), key=lambda i: scores[i])
    least = scores[first] - NEAR

    def touch(i: int, j: int) -> bool:
        return evidence[j].start <= evidence[i].end + 1e-3

    while first > 0 and scores[first - 1] >= least and touch(first - 1, first):
        first -= 1
    while last + 1 < len(scores) and scores[last + 1] >= least and touch(last, last + 1):
        last += 1
    return evidence[first].start, evidence[last].end


def joined(texts: Sequence[TimedText]) -> tuple[TimedText, ...]:
    """Timed texts in order, those that say the same one after the other as one."""
    found: list[TimedText] = []
    for each in texts:
        if found and found[-1].text == each.text:
            found[-1] = TimedText(found[-1].start, max(found[-1].end, each.end), each.text)
        else:
            found.append(each)
    return tuple(found)
