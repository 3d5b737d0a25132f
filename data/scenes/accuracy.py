"""How good the yardsticks are: the oracle on true renderings, and what guessing earns.

Knows sources of clips with a scene's truth; knows nothing of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from data.clip import Clip
from data.scenes.oracle import Oracle
from data.scenes.score import SlotScore, compare, normal_answer
from data.scenes.spec import (
    COLOURS,
    MOTIONS,
    SHAPES,
    SIZES,
    SPEEDS,
    Reading,
    Thing,
)
from data.scenes.world import Scenes

BATCH = 32


@dataclass(frozen=True)
class OracleCheck:
    """The oracle's accuracy on true renderings.

    accuracies: per slot, and `exact` (clips read without a mistake); 0 to 1.
    """

    difficulty: str
    split: str
    num_clips: int
    num_frames: int
    height: int  # pixels
    width: int  # pixels
    seed: int
    accuracies: dict[str, float]

    def __str__(self) -> str:
        slots = ", ".join(f"{slot} {value:.3f}" for slot, value in self.accuracies.items())
        return (
            f"oracle on true renderings, scenes:{self.difficulty}/{self.split} "
            f"{self.num_frames}x{self.height}x{self.width}, n={self.num_clips}, "
            f"seed={self.seed}: {slots}"
        )


def check_oracle(
    difficulty: str = "standard",
    num_clips: int = 1000,
    *,
    num_frames: int = 16,
    height: int = 64,
    width: int = 64,
    split: str = "heldout",
    seed: int = 0,
) -> OracleCheck:
    """Measure the oracle against the truth of clips as they were drawn.

    Args:
        difficulty: easy, standard or hard.
        num_clips: how many clips.
        num_frames: frames a clip.
        height: pixels.
        width: pixels.
        split: one of train, heldout, unseen.
        seed: of the world.
    """
    world = Scenes(
        difficulty,
        split=split,
        num_clips=num_clips,
        num_frames=num_frames,
        height=height,
        width=width,
        seed=seed,
    )
    oracle, total = Oracle(difficulty), SlotScore()
    for first in range(0, num_clips, BATCH):
        plans = world.plans(range(first, min(first + BATCH, num_clips)))
        for plan, pixels in zip(plans, world.render(plans), strict=True):
            total += compare(oracle.read(pixels), plan.reading)
    return OracleCheck(
        difficulty, split, num_clips, num_frames, height, width, seed, total.accuracies()
    )


class _Clips(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Clip: ...


@dataclass(frozen=True)
class Baseline:
    """What can be scored without looking.

    chance: expected accuracy of guessing evenly among the possible answers, 0 to 1.
    majority: accuracy of always giving the most common answer, 0 to 1.
    answer: that answer.
    num: how many items were counted.
    """

    chance: float
    majority: float
    answer: str
    num: int


def baselines(source: _Clips, num_clips: int = 500) -> dict[str, Baseline]:
    """Chance and majority accuracy of each slot and each kind of question.

    Args:
        source: clips with a scene's truth and questions.
        num_clips: how many of its first clips to count.

    Returns:
        Keys are slots (`colour`, `shape`, `size`, `motion`, `speed`) and `question:KIND`.
    """
    answers: dict[str, Counter[str]] = {}
    options: dict[str, list[float]] = {}
    for index in range(min(num_clips, len(source))):
        clip = source[index]
        for slot, value, count in _items(clip):
            answers.setdefault(slot, Counter())[normal_answer(value)] += 1
            options.setdefault(slot, []).append(1 / count if count else 0.0)
    table = {}
    for slot, counted in answers.items():
        answer, times = counted.most_common(1)[0]
        chances = options[slot]
        spread = sum(chances) / len(chances) or 1 / len(counted)
        total = sum(counted.values())
        table[slot] = Baseline(spread, times / total, answer, total)
    return table


def _items(clip: Clip) -> Iterator[tuple[str, str, int]]:
    """(slot or question kind, right answer, number of possible answers or 0)."""
    if clip.truth is not None and "objects" in clip.truth:
        for thing in Reading.from_json(clip.truth).things:
            yield from _thing_items(thing)
    for question in clip.questions:
        yield f"question:{question.kind}", question.answer, len(question.choices)


def _thing_items(thing: Thing) -> Iterator[tuple[str, str, int]]:
    if thing.colour:
        yield "colour", thing.colour, len(COLOURS)
    if thing.shape:
        yield "shape", thing.shape, len(SHAPES)
    if thing.size:
        yield "size", thing.size, len(SIZES)
    for action in thing.actions:
        yield "motion", action.motion, len(MOTIONS)
        if action.speed:
            yield "speed", action.speed, len(SPEEDS)
