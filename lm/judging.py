"""Judging: whether captions, answers and films say what is true, by each world's own yardstick.

Knows which world's reader suits a clip, and how to count. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from torch import Tensor

from data.clip import Clip, Question
from lm.figures import Figure

BOOTSTRAPS = 1000
READERS = {"doom": "data.doom", "babyai": "data.babyai"}  # worlds whose truth names slots


@dataclass
class Tally:
    """Rights and totals by name, clip by clip, so that intervals can be had."""

    rights: dict[str, list[float]] = field(default_factory=dict)
    totals: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, right: float, total: float = 1.0) -> None:
        """Count what one clip got right of `total` items; a total of 0 leaves no trace."""
        if total:
            self.rights.setdefault(name, []).append(float(right))
            self.totals.setdefault(name, []).append(float(total))

    def share(self, name: str) -> float:
        return sum(self.rights[name]) / sum(self.totals[name])

    def count(self, name: str) -> int:
        return round(sum(self.totals[name]))

    def interval(self, name: str, seed: int = 0) -> tuple[float, float]:
        """95 % bootstrap interval of the share, clips drawn with replacement."""
        rights, totals = np.array(self.rights[name]), np.array(self.totals[name])
        drawn = np.random.default_rng(seed).integers(len(rights), size=(BOOTSTRAPS, len(rights)))
        shares = rights[drawn].sum(1) / np.maximum(totals[drawn].sum(1), 1e-9)
        low, high = np.quantile(shares, (0.025, 0.975))
        return float(low), float(high)

    def figure(
        self,
        name: str,
        chance: float | None = None,
        majority: float | None = None,
        ceiling: float | None = None,
    ) -> Figure:
        """The share with its count and interval, beside what it must be read beside."""
        low, high = self.interval(name)
        return Figure(
            name.replace("/", "_"),
            self.share(name),
            self.count(name),
            chance=chance,
            majority=majority,
            ceiling=ceiling,
            low=low,
            high=high,
        )


def judge_caption(text: str, clip: Clip, tally: Tally, prefix: str) -> None:
    """Count a caption's slots, each kind and all together, and whether all of it is right.

    Clips of made worlds are judged by meaning, others by the wording of their own captions.
    """
    truth = clip.truth or {}
    if "slots" in truth and truth.get("world") in READERS:
        parse: Callable[[str], Mapping[str, str]] = import_module(
            READERS[truth["world"]]
        ).parse_caption
        said = parse(text)
        marks = {slot: said.get(slot, "") == value for slot, value in truth["slots"].items()}
        for slot, right in marks.items():
            tally.add(f"{prefix}/{slot}", right)
        tally.add(f"{prefix}/slots", sum(marks.values()), len(marks))
        tally.add(f"{prefix}/exact", all(marks.values()))
    elif "objects" in truth:
        from data.scenes import score_caption

        _add_slots(score_caption(text, truth), tally, prefix)
    else:
        wordings = {" ".join(caption.lower().split()) for caption in clip.captions}
        tally.add(f"{prefix}/exact", " ".join(text.lower().split()) in wordings)


def judge_film(frames: Tensor, prompt: str, tally: Tally, prefix: str) -> None:
    """Count what of a prompt a film shows, as the scenes' oracle sees it.

    Args:
        frames: uint8 (T, 3, H, W).
        prompt: A caption of the made world `scenes`.
        tally: Where to count.
        prefix: Of the names.
    """
    from data.scenes import Oracle

    _add_slots(Oracle().score_video(frames, prompt), tally, prefix)


def _add_slots(score: Any, tally: Tally, prefix: str) -> None:
    for slot, total in score.total.items():
        tally.add(f"{prefix}/{slot}", score.right[slot], total)
    tally.add(f"{prefix}/slots", sum(score.right.values()), sum(score.total.values()))
    tally.add(f"{prefix}/exact", score.exact)


def judge_answer(answer: str, question: Question, tally: Tally, prefix: str) -> None:
    """Count an answer, over all kinds and in its own."""
    from data.scenes import score_answer

    right = score_answer(answer, question)
    tally.add(f"{prefix}/all", right)
    tally.add(f"{prefix}/{question.kind}", right)


def can_judge_films(clips: Sequence[Clip]) -> bool:
    """Whether an oracle reads these clips: only the made world `scenes` has one."""
    truths = [clip.truth or {} for clip in clips]
    return bool(truths) and all("objects" in t and "slots" not in t for t in truths)


def guesses(clips: Sequence[Clip]) -> dict[str, tuple[float | None, float | None]]:
    """What is earned without looking: (chance, majority) of slots and kinds of question.

    Majority is always giving the commonest value of these very clips, so it flatters the guesser.
    """
    answers: dict[str, list[str]] = {}
    odds: dict[str, list[float]] = {}
    for clip in clips:
        for question in clip.questions:
            for name in ("all", question.kind):
                answers.setdefault(f"answer/{name}", []).append(question.answer)
                if question.choices:
                    odds.setdefault(f"answer/{name}", []).append(1 / len(question.choices))
        for name, value, options in _values(clip):
            answers.setdefault(name, []).append(value)
            if options:
                odds.setdefault(name, []).append(1 / options)
    table: dict[str, tuple[float | None, float | None]] = {}
    for name, values in answers.items():
        commonest = max(values.count(value) for value in set(values)) / len(values)
        chance = sum(odds[name]) / len(values) if len(odds.get(name, ())) == len(values) else None
        table[name] = (chance, commonest)
    if "answer/all" in table:  # always the commonest answer of each kind
        kinds = {n: v for n, v in answers.items() if n.startswith("answer/") and n != "answer/all"}
        right = sum(max(values.count(v) for v in set(values)) for values in kinds.values())
        table["answer/all"] = (table["answer/all"][0], right / len(answers["answer/all"]))
    return table


def _values(clip: Clip) -> list[tuple[str, str, int]]:
    """(name, value, number of options or 0) of a clip's caption slots and label."""
    truth = clip.truth or {}
    found = [("recognition", label, 0) for label in list(clip.labels.values())[:1]]
    if "slots" in truth:
        return [*found, *((f"caption/{s}", str(v), 0) for s, v in truth["slots"].items())]
    if "objects" in truth:
        from data.scenes import spec

        options = {
            "colour": len(spec.COLOURS),
            "shape": len(spec.SHAPES),
            "size": len(spec.SIZES),
        }
        for thing in spec.Reading.from_json(truth).things:
            for slot, count in options.items():
                if (value := getattr(thing, slot)) is not None:
                    found.append((f"caption/{slot}", value, count))
            found += [("caption/motion", a.motion, len(spec.MOTIONS)) for a in thing.actions]
            found += [("caption/speed", a.speed, 2) for a in thing.actions if a.speed]
    return found
