"""Drawing lots for a scene: from (seed, split, index) to what happens and where.

A `Plan` is size-independent: lengths are in units of the picture's shorter side, times in
fractions of the clip. It knows nothing of pixels or words beyond the slot names.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data.scenes.chance import Chance
from data.scenes.spec import (
    COLOURS,
    DIRECTIONS,
    MOVES,
    POPS,
    SCALES,
    SHAPES,
    SPEEDLESS,
    SPEEDS,
    STILL,
    TURNS,
    Action,
    Reading,
    Thing,
)

# Amounts by speed: (low, high). A phase that lasts half the clip moves and turns PHASE_SHARE as
# far; at 8 frames a clip even then no shape turns by half its symmetry between two frames.
DISTANCE = {"slow": (0.20, 0.24), "fast": (0.48, 0.54)}  # picture widths a clip
PHASE_SHARE = 0.65
TURN = {"slow": (70.0, 80.0), "fast": (155.0, 165.0)}  # degrees a clip
GROWTH = {"slow": (1.40, 1.48), "fast": (2.0, 2.15)}  # largest / smallest radius in a phase
HOPS = {"slow": 1.0, "fast": 2.0}  # a phase
HOP_HEIGHT = 0.24  # picture heights
RADII = {  # by difficulty, in units of the shorter side
    "easy": {"small": (0.15, 0.16), "large": (0.22, 0.23)},
    "standard": {"small": (0.092, 0.10), "large": (0.14, 0.15)},
    "hard": {"small": (0.085, 0.10), "large": (0.13, 0.155)},
}
CANDIDATES = 48  # placements tried for several objects
GAP = 0.035  # kept between objects where they are placed apart
SEGMENT = 8  # start, end, dx, dy, log growth, turn (rad), hops, hop height
MARGIN = 0.02  # kept to the picture's edge
TRACE_TIMES = np.linspace(0.0, 1.0, 17)
HEAD = 8  # shape, colour, x, y, radius, angle, visible from, visible to


@dataclass
class Body:
    """One object while it is being planned."""

    thing: Thing
    radius: float  # at the start
    angle: float = 0.0  # radians, clockwise
    x: float = 0.5
    y: float = 0.5
    visible: tuple[float, float] = (-1.0, 2.0)
    segments: list[tuple[float, ...]] = field(default_factory=list)

    def row(self) -> list[float]:
        assert self.thing.shape and self.thing.colour
        head = [SHAPES.index(self.thing.shape), list(COLOURS).index(self.thing.colour)]
        head += [self.x, self.y, self.radius, self.angle, *self.visible]
        blank = (0.0, 1.0) + (0.0,) * (SEGMENT - 2)
        rows = (self.segments + [blank, blank])[:2]
        return [*head, *rows[0], *rows[1]]


@dataclass(frozen=True)
class Plan:
    """One scene, ready to be drawn at any size and length.

    bodies: float (N, HEAD + 2 * SEGMENT), one row an object, drawn in this order.
    background: float (BACKGROUND_NUMBERS,) in [0, 1), or None for black.
    """

    reading: Reading
    kind: str  # single, several, race, phases, double, relay, hit
    bodies: np.ndarray
    background: np.ndarray | None
    shift: float  # in [0, 1): where the square stage lies along the longer side


def trace(bodies: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Where objects are.

    Args:
        bodies: (..., HEAD + 2 * SEGMENT).
        times: (T,), fractions of the clip.

    Returns:
        (5, ..., T): x, y, radius (all in shorter sides), angle (radians), visible (0 or 1).
    """
    head = bodies[..., :HEAD, None]
    x, y = head[..., 2, :] + 0 * times, head[..., 3, :] + 0 * times
    growth, angle = 0 * x, head[..., 5, :] + 0 * times
    for first in (HEAD, HEAD + SEGMENT):
        segment = bodies[..., first : first + SEGMENT, None]
        start, end = segment[..., 0, :], segment[..., 1, :]
        done = np.clip((times - start) / (end - start), 0.0, 1.0)
        x = x + segment[..., 2, :] * done
        y = y + segment[..., 3, :] * done
        growth = growth + segment[..., 4, :] * done
        angle = angle + segment[..., 5, :] * done
        y = y - segment[..., 7, :] * np.abs(np.sin(np.pi * segment[..., 6, :] * done))
    visible = (times >= head[..., 6, :]) & (times < head[..., 7, :])
    return np.stack([x, y, head[..., 4, :] * np.exp(growth), angle, visible.astype(x.dtype)])


def segment(motion: str, speed: str | None, start: float, end: float, luck: Chance) -> tuple:
    """The numbers of one action: a row of length SEGMENT."""
    dx = dy = growth = turn = hops = height = 0.0
    share = PHASE_SHARE if end - start < 0.9 else 1.0
    if motion in MOVES:  # in a hit without a speed: the length is set there
        right, down = DIRECTIONS[motion.removeprefix("moves ")]
        length = luck.between(*DISTANCE[speed or "slow"]) * share
        length /= float(np.hypot(right, down))
        dx, dy = right * length, down * length
    elif motion in TURNS:
        assert speed
        turn = np.deg2rad(luck.between(*TURN[speed])) * share * (1 if motion == TURNS[0] else -1)
    elif motion in SCALES:
        assert speed
        growth = np.log(luck.between(*GROWTH[speed])) * (1 if motion == SCALES[0] else -1)
    elif motion == "bounces":
        assert speed
        hops, height = HOPS[speed], HOP_HEIGHT
    return (start, end, dx, dy, growth, turn, hops, height)


def body_of(
    colour: str,
    shape: str,
    actions: list[Action],
    difficulty: str,
    luck: Chance,
) -> Body:
    """An object that does `actions`, its size drawn to fit, not yet placed."""
    scales = any(action.motion in SCALES for action in actions)
    size = luck.pick(("small", "large"))
    radius = luck.between(*RADII[difficulty][size])
    visible = (-1.0, 2.0)
    segments = []
    for action in actions:
        if action.motion == "appears":
            visible = (action.start, visible[1])
        elif action.motion == "disappears":
            visible = (visible[0], action.start)
        elif action.motion != STILL:
            segments.append(segment(action.motion, action.speed, action.start, action.end, luck))
    if scales:  # the largest radius is a large object's, where the object is largest
        steps = [row[4] for row in segments]
        peak = max(0.0, *np.cumsum(steps).tolist())
        radius = luck.between(*RADII[difficulty]["large"]) / float(np.exp(peak))
    tilt = {"easy": 0.0, "standard": 10.0, "hard": 20.0}[difficulty]
    angle = float(np.deg2rad(luck.between(-tilt, tilt)))
    thing = Thing(colour, shape, None if scales else size, tuple(actions))
    return Body(thing, radius, angle, visible=visible, segments=segments)


def action_of(
    motion: str,
    luck: Chance,
    start: float = 0.0,
    end: float = 1.0,
    speeds: tuple[str, ...] = SPEEDS,
) -> Action:
    """An action with a speed if the motion has one. Popping in or out happens at one moment."""
    if motion in POPS:
        edge = 0.25 if end - start == 1 else 0.35
        moment = start + (end - start) * luck.between(edge, 1 - edge)
        return Action(motion, None, moment, moment)
    return Action(motion, None if motion in SPEEDLESS else luck.pick(speeds), start, end)


def place(bodies: list[Body], luck: Chance, groups: list[int] | None = None) -> float:
    """Choose where objects are, inside the stage and groups apart from each other at all times.

    Args:
        bodies: moved in place; bodies of one group keep their places relative to each other.
        groups: a number per body, from 0; by default each body is a group of its own.

    Returns:
        The smallest clearance between two groups, in shorter sides; negative if they overlap.
    """
    x, y, radius, _, _ = trace(np.array([body.row() for body in bodies]), TRACE_TIMES)
    group = np.arange(len(bodies)) if groups is None else np.array(groups)
    spots = luck.array(CANDIDATES if group.any() else 1, int(group.max()) + 1, 2)
    members = [np.flatnonzero(group == number) for number in range(spots.shape[1])]
    move_x = np.stack([_slide(x[m] - radius[m], x[m] + radius[m]) for m in members])
    move_y = np.stack([_slide(y[m] - radius[m], y[m] + radius[m]) for m in members])
    shift_x = (move_x[:, 0] + spots[:, :, 0] * move_x[:, 1])[:, group]  # (K, N)
    shift_y = (move_y[:, 0] + spots[:, :, 1] * move_y[:, 1])[:, group]
    best, clearance = 0, np.inf
    first, second = np.nonzero(group[:, None] < group[None, :])
    if len(first):
        px, py = x + shift_x[:, :, None], y + shift_y[:, :, None]  # (K, N, U)
        between = np.hypot(px[:, first] - px[:, second], py[:, first] - py[:, second])
        clear = (between - radius[first] - radius[second]).min(axis=(1, 2))
        fits = np.flatnonzero(clear > GAP)
        best = int(fits[0] if len(fits) else clear.argmax())
        clearance = float(clear[best])
    for number, body in enumerate(bodies):
        body.x += float(shift_x[best, number])
        body.y += float(shift_y[best, number])
    return clearance


def _slide(low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """(least shift, room beyond it) that keeps a group inside the stage; centred if too long."""
    least, most = float(low.min()), float(high.max())
    room = 1 - 2 * MARGIN - (most - least)
    if room < 0:
        return (1 - most - least) / 2, 0.0
    return MARGIN - least, room
