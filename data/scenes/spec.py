"""What a scene says: colours, shapes, motions, and the one value that describes a clip.

`Reading` is shared by everything that talks about a clip: the world's own truth, what a caption
says, what the oracle sees. It knows words and times; it knows nothing of pixels or random draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 30, 30),
    "orange": (250, 135, 20),
    "yellow": (250, 235, 50),
    "green": (40, 200, 60),
    "cyan": (50, 225, 235),
    "blue": (45, 80, 255),
    "purple": (200, 55, 240),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "star")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZES = ("small", "large")
SPEEDS = ("slow", "fast")
DIRECTIONS: dict[str, tuple[int, int]] = {  # (right, down) in the picture
    "right": (1, 0),
    "left": (-1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "up and right": (1, -1),
    "up and left": (-1, -1),
    "down and right": (1, 1),
    "down and left": (-1, 1),
}
STILL = "stays still"
MOVES = tuple(f"moves {direction}" for direction in DIRECTIONS)
TURNS = ("rotates clockwise", "rotates counterclockwise")
SCALES = ("grows", "shrinks")
POPS = ("appears", "disappears")
MOTIONS = (STILL, *MOVES, "bounces", *TURNS, *SCALES, *POPS)
SPEEDLESS = (STILL, *POPS)  # motions that are neither slow nor fast
ROUND = ("circle", "ring")  # shapes whose turning cannot be seen
DIFFICULTIES = ("easy", "standard", "hard")
SPLITS = ("train", "heldout", "unseen")

SLOTS = ("colour", "shape", "size", "motion", "speed", "count", "order", "hit")


@dataclass(frozen=True)
class Action:
    """One thing an object does. Times are fractions of the clip, 0 first frame, 1 last.

    Appearing and disappearing are moments: `start` and `end` are the same.
    """

    motion: str  # one of MOTIONS
    speed: str | None = None  # one of SPEEDS; None where it has none or nobody said
    start: float = 0.0
    end: float = 1.0

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class Thing:
    """One object; a slot is None where it is unknown, unsaid or (size while growing) undefined."""

    colour: str | None = None
    shape: str | None = None
    size: str | None = None
    actions: tuple[Action, ...] = ()  # in order of time; waiting is not an action

    @property
    def motions(self) -> tuple[str, ...]:
        return tuple(action.motion for action in self.actions)


@dataclass(frozen=True)
class Hit:
    """One object running into another and setting it moving; indices into `Reading.things`."""

    by: int
    on: int
    at: float = 0.5  # fraction of the clip


@dataclass(frozen=True)
class Reading:
    """What a clip shows, as known (truth), as said (caption) or as seen (oracle)."""

    things: tuple[Thing, ...] = ()
    hit: Hit | None = None

    def timeline(self) -> list[tuple[int, Action]]:
        """(object index, action) of the whole clip in order of time."""
        flat = [
            (index, action) for index, thing in enumerate(self.things) for action in thing.actions
        ]
        return sorted(flat, key=lambda item: (item[1].middle, item[0]))

    @property
    def is_sequence(self) -> bool:
        """True if one action clearly comes after another, so that order can be asked for."""
        timeline = self.timeline()
        return any(follows(a[1], b[1]) for a in timeline for b in timeline)

    def to_json(self) -> dict[str, Any]:
        """The reading as JSON values (the `truth` of a `Clip`)."""
        things = [
            {
                "colour": thing.colour,
                "shape": thing.shape,
                "size": thing.size,
                "actions": [
                    {"motion": a.motion, "speed": a.speed, "start": a.start, "end": a.end}
                    for a in thing.actions
                ],
            }
            for thing in self.things
        ]
        hit = None
        if self.hit:
            hit = {"by": self.hit.by, "on": self.hit.on, "at": self.hit.at}
        return {"objects": things, "hit": hit}

    @classmethod
    def from_json(cls, truth: Mapping[str, Any]) -> Reading:
        """The reading in a clip's `truth` (or any mapping made by `to_json`).

        Raises:
            ValueError: if the mapping is not a scene's truth.
        """
        if "objects" not in truth:
            raise ValueError(f"truth has keys {sorted(truth)}: a scene's truth has 'objects'")
        things = tuple(
            Thing(
                item["colour"],
                item["shape"],
                item["size"],
                tuple(Action(**action) for action in item["actions"]),
            )
            for item in truth["objects"]
        )
        hit = truth.get("hit")
        return cls(things, Hit(hit["by"], hit["on"], hit["at"]) if hit else None)


def follows(first: Action, second: Action) -> bool:
    """True if `second` begins when `first` is over, give or take a little."""
    return second.middle > first.middle + 0.1 and second.start > first.end - 0.15


def as_reading(truth: Reading | Mapping[str, Any] | str) -> Reading:
    """A reading from a reading, a clip's truth, or a caption."""
    if isinstance(truth, Reading):
        return truth
    if isinstance(truth, str):
        from data.scenes.parse import parse_caption

        return parse_caption(truth)
    return Reading.from_json(truth)
