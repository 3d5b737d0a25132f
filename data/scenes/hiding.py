"""Long films of the made world: quiet scenes for minutes, and one event at a known second.

A scene shows one clip of the world over and over; the event is a clip of a colour and a motion
that no other scene of the film has. Frames are made as they are asked for. Knows no codec.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.clip import Event, Question
from data.muxing import Film
from data.scenes.plan import Plan
from data.scenes.spec import COLOURS, MOVES, POPS, SCALES, STILL, TURNS
from data.scenes.world import Scenes

QUIET = (STILL, *MOVES[:4])  # motions of all scenes but the event
RARE = ("bounces", *TURNS, *SCALES, *POPS)  # motions of events; diagonals are in neither
POOL = 4000  # clips that a film draws from
LASTS = (5, 20)  # clips in a row of a quiet scene, fewest and most


@dataclass(frozen=True)
class HiddenEvent:
    """A long film with one event in it.

    frames: `frames()` gives them; there are `num_frames` of them.
    """

    world: Scenes
    plans: tuple[tuple[Plan, int], ...]  # scenes in order, each with how often its clip is shown
    event: Event  # with its seconds
    questions: tuple[Question, ...]  # about the event, with what no quiet scene shows as choices
    shift: int = 0  # frames that the film begins after its first clip does

    @property
    def num_frames(self) -> int:
        return self.world.num_frames * sum(times for _, times in self.plans) - self.shift

    @property
    def seconds(self) -> float:
        return self.num_frames / self.world.fps

    def frames(self) -> Iterator[Tensor]:
        """The film, a clip uint8 (T, 3, H, W) at a time."""
        skip = self.shift
        for plan, times in self.plans:
            clip = self.world.render([plan])[0]
            for _ in range(times):
                yield clip[skip:]
                skip = 0

    def film(self) -> Film:
        """The film for `write_film`."""
        times = torch.arange(self.num_frames, dtype=torch.float64) / self.world.fps
        world = self.world
        return Film(self.frames(), times, world.height, world.width, world.name)


def hide_event(
    seed: int,
    seconds: float = 600.0,
    *,
    event_clips: int = 3,
    num_frames: int = 8,
    height: int = 32,
    width: int = 32,
    fps: float = 8.0,
    shift: int = 0,
) -> HiddenEvent:
    """A film in easy scenes' looks, the same for the same seed.

    The event never comes first. Half of the colours are the quiet scenes', the others the event's.

    Args:
        seed: Of everything.
        seconds: Length, rounded to whole clips.
        event_clips: How often the event's clip is shown in a row.
        num_frames: Frames of a clip.
        height: Pixels.
        width: Pixels.
        fps: Frames a second.
        shift: Frames left out at the start, so that no clip begins with a part of as many frames.

    Raises:
        ValueError: the event does not fit, or a shift of a clip or more.
    """
    total = round(seconds * fps / num_frames)
    if not 1 <= event_clips < total:
        raise ValueError(
            f"event_clips={event_clips} in {total} clips: give 1 or more, and fewer than there are"
        )
    if not 0 <= shift < num_frames:
        raise ValueError(f"shift={shift}: give 0 to {num_frames - 1} frames")
    luck = np.random.default_rng((seed, 77))
    world = Scenes(
        "easy",
        split="heldout",
        num_clips=POOL,
        num_frames=num_frames,
        height=height,
        width=width,
        fps=fps,
        seed=seed,
    )
    colours = luck.permutation(list(COLOURS)).tolist()
    quiet, rare = set(colours[: len(colours) // 2]), set(colours[len(colours) // 2 :])
    drawn = luck.permutation(POOL)
    calm = _plans(world, drawn, quiet, QUIET)
    plan = next(_plans(world, drawn, rare, RARE))
    before = int(luck.integers(1, total - event_clips + 1))
    scenes = [*_fill(calm, before, luck), (plan, event_clips)]
    scenes += _fill(calm, total - event_clips - before, luck)
    thing = plan.reading.things[0]
    colour, motion = str(thing.colour), thing.motions[0]
    start, length = (before * num_frames - shift) / fps, event_clips * num_frames / fps
    return HiddenEvent(
        world,
        tuple(scenes),
        Event(f"the {colour} {thing.shape} {motion}", start, start + length),
        (
            Question("what does the object do?", motion, "motion", RARE),
            Question("what colour is the object?", colour, "colour", tuple(sorted(rare))),
        ),
        shift,
    )


def _plans(
    world: Scenes, numbers: np.ndarray, colours: set[str], motions: tuple[str, ...]
) -> Iterator[Plan]:
    """Plans of the world with one of these colours and motions, over and over."""
    while True:
        for number in numbers.tolist():
            (plan,) = world.plans([number])
            thing = plan.reading.things[0]
            if thing.colour in colours and thing.motions[0] in motions:
                yield plan


def _fill(plans: Iterator[Plan], clips: int, luck: np.random.Generator) -> list[tuple[Plan, int]]:
    """Scenes of so many clips in all."""
    found: list[tuple[Plan, int]] = []
    while clips > 0:
        times = min(clips, int(luck.integers(LASTS[0], LASTS[1] + 1)))
        found.append((next(plans), times))
        clips -= times
    return found
