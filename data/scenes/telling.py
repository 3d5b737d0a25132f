"""From a track to what the object does: phases, motions, speeds.

Fits straight lines and hops to position, size and angle over the whole clip and over two phases,
and takes the plainest description that fits. Knows motions; knows nothing of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from data.scenes.plan import DISTANCE, GROWTH, HOP_HEIGHT, PHASE_SHARE, TURN
from data.scenes.spec import DIRECTIONS, SCALES, STILL, TURNS, Action

# Noise of x, y (shorter sides), log size and angle (radians): the least and the most assumed.
LEAST_NOISE = np.array([0.003, 0.003, 0.015, 0.035])
MOST_NOISE = 2 * LEAST_NOISE
SPLIT_RANGE = (0.37, 0.63)  # where a second phase may start
SPLIT_PRICE = 40.0  # how much better two phases must fit, in squared noises
LEAST = 0.45  # share of the least amount of a motion below which it is taken for stillness


@dataclass(frozen=True)
class Course:
    """One object's path.

    times: (M,), fractions of the clip. values: (M, 4): x, y in shorter sides, log size, angle.
    before: the last time it was not yet there, or None. after: the first time it was gone.
    """

    times: np.ndarray
    values: np.ndarray
    before: float | None = None
    after: float | None = None


@dataclass(frozen=True)
class _Fit:
    cost: float
    motion: str
    amount: float  # in units of the slow motion's least amount
    speed: str | None


def tell(course: Course) -> tuple[Action, ...]:
    """The actions of one object in order of time; `stays still` alone if it does nothing."""
    actions: list[Action] = []
    if course.before is not None:
        moment = float(course.before + course.times[0]) / 2
        actions.append(Action("appears", None, moment, moment))
    actions += _moving(course)
    if course.after is not None:
        moment = float(course.after + course.times[-1]) / 2
        actions.append(Action("disappears", None, moment, moment))
    if len(actions) > 1:
        actions = [action for action in actions if action.motion != STILL]
    return tuple(actions)


def _moving(course: Course) -> list[Action]:
    times = course.times
    if len(times) < 2:
        return [Action(STILL)]
    noise = _noise(course.values)
    whole = _fit(course, noise, 0.0, 1.0)
    best, price, split = [whole], whole.cost, 1.0
    middles = (times[1:] + times[:-1]) / 2
    for middle in middles:
        if not SPLIT_RANGE[0] <= middle <= SPLIT_RANGE[1]:
            continue
        parts = [_fit(course, noise, 0.0, middle), _fit(course, noise, middle, 1.0)]
        cost = sum(part.cost for part in parts) + SPLIT_PRICE
        if cost < price:
            best, price, split = parts, cost, float(middle)
    if len(best) == 2 and best[0].motion == best[1].motion:
        best, split = [whole], 1.0
    if len(best) == 1:
        return [Action(best[0].motion, best[0].speed)]
    first, second = best
    return [
        Action(first.motion, first.speed, 0.0, split),
        Action(second.motion, second.speed, split, 1.0),
    ]


def _noise(values: np.ndarray) -> np.ndarray:
    """How much positions, sizes and angles (M, 4) jitter from frame to frame, within limits."""
    if len(values) < 4:
        return MOST_NOISE
    jitter = np.median(np.abs(np.diff(values, n=2, axis=0)), axis=0) * (1.48 / 6**0.5)
    return np.clip(jitter, LEAST_NOISE, MOST_NOISE)


@cache
def _design(times: bytes, start: float, end: float, hops: int) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo-inverse (2, M) and design (M, 2) of offset and amount for a line or for hops."""
    moments = np.frombuffer(times)
    done = np.clip((moments - start) / (end - start), 0.0, 1.0)
    if hops:
        done = np.abs(np.sin(np.pi * hops * done))
    design = np.stack([np.ones_like(done), done], axis=1)
    return np.linalg.pinv(design), design


def _fit(course: Course, noise: np.ndarray, start: float, end: float) -> _Fit:
    """The best single motion over the part of the course between two times."""
    part = (course.times >= start) & (course.times <= end)
    times, values = course.times[part], course.values[part]
    if len(times) < 2:
        return _Fit(0.0, STILL, 0.0, None)
    key = times.tobytes()
    inverse, design = _design(key, start, end, 0)
    scaled = values / noise
    amounts = inverse @ scaled
    misfit = ((scaled - design @ amounts) ** 2).sum(axis=0)
    line = _name(amounts[1] * noise, end - start, float(misfit.sum()))
    best = line
    if len(times) >= 4:
        for hops, speed in ((1, "slow"), (2, "fast")):
            inverse, design = _design(key, start, end, hops)
            hop = inverse @ scaled[:, 1]
            cost = float(((scaled[:, 1] - design @ hop) ** 2).sum() + misfit.sum() - misfit[1])
            if cost < best.cost and -hop[1] * noise[1] > 0.5 * HOP_HEIGHT:
                best = _Fit(cost, "bounces", 1.0, speed)
    return best


def _name(amounts: np.ndarray, duration: float, cost: float) -> _Fit:
    """Name a linear change by what changes most, measured by each motion's own least amount."""
    share = PHASE_SHARE if duration < 0.9 else 1.0
    dx, dy, growth, turn = amounts
    length = float(np.hypot(dx, dy))
    least = (
        DISTANCE["slow"][0] * share,
        float(np.log(GROWTH["slow"][0])),
        float(np.deg2rad(TURN["slow"][0])) * share,
    )
    sizes = (length / least[0], abs(growth) / least[1], abs(turn) / least[2])
    kind = int(np.argmax(sizes))
    if sizes[kind] < LEAST:
        return _Fit(cost, STILL, float(sizes[kind]), None)
    if kind == 0:
        motion = f"moves {heading(dx, dy)}"
        between = float(np.sqrt(DISTANCE["slow"][1] * DISTANCE["fast"][0])) * share
        speed = "fast" if length > between else "slow"
    elif kind == 1:
        motion = SCALES[0] if growth > 0 else SCALES[1]
        between = np.log(GROWTH["slow"][1] * GROWTH["fast"][0]) / 2
        speed = "fast" if abs(growth) > between else "slow"
    else:
        motion = TURNS[0] if turn > 0 else TURNS[1]
        between = np.deg2rad(TURN["slow"][1] + TURN["fast"][0]) / 2 * share
        speed = "fast" if abs(turn) > between else "slow"
    return _Fit(cost, motion, float(sizes[kind]), speed)


def heading(dx: float, dy: float) -> str:
    """The nearest of the eight directions; dx to the right, dy down."""
    return max(
        DIRECTIONS,
        key=lambda d: (DIRECTIONS[d][0] * dx + DIRECTIONS[d][1] * dy) / np.hypot(*DIRECTIONS[d]),
    )
