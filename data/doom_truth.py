"""From a play to what is true of its picture: what was done, what is in view and where.

Refuses what cannot be said in one plain sentence: a walk against a wall, two things that rival
for the view, a place between left and middle. Knows no simulator and no words but the slots'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from data.doom_play import Sighting

MIN_PIXELS = 16  # of the output picture, or a thing is too small to be named
MIN_CONTRAST = 16.0  # of 255, or it is lost in the dark or in a red flash
MIN_SHARE = 40 / (160 * 120)  # of the picture at any size
_RIVAL = 0.6  # a second kind with more of the first one's pixels makes the choice a matter of taste
_SLIDE = 3  # frames in which the player still glides from what was done before
_WALK = 8.0  # map units a frame; free walking reaches 25
_DIRECTIONS = {  # degrees from where the player looks, counter-clockwise
    "walks forward": 0.0,
    "walks backward": 180.0,
    "sidesteps left": 90.0,
    "sidesteps right": -90.0,
}


def smallest_share(height: int, width: int) -> float:
    """The share of the picture, 0 to 1, below which a thing is not named at this output size."""
    return max(MIN_SHARE, MIN_PIXELS / (height * width))


def did(states: np.ndarray, action: str, start: int, stop: int) -> bool:
    """Whether the frames `start` to `stop` (both included) show that the player did `action`.

    Args:
        states: (T, 6), a row a frame, as in `Shot.state`.
    """
    place, angle = states[:, :2], states[:, 2]
    steps = stop - start
    turn = float(((np.diff(angle[start : stop + 1]) + 180) % 360 - 180).sum())
    slid = min(start + _SLIDE, stop) if start else start
    glide = place[stop] - place[slid]
    if action in _DIRECTIONS:
        heading = math.radians(angle[start] + _DIRECTIONS[action])
        ahead = np.array([math.cos(heading), math.sin(heading)])
        along = float((place[stop] - place[start]) @ ahead)
        late = float((place[stop] - place[start + (steps + 1) // 2]) @ ahead)
        free = along > _WALK * steps and late > _WALK * (steps // 2)
        straight = float(glide @ ahead) > 0.8 * float(np.hypot(*glide))
        return free and straight and abs(turn) < 1
    if np.hypot(*glide) > 16:
        return False
    if action.startswith("turns"):
        return turn * (1 if action == "turns left" else -1) > 2.0 * steps
    if action == "shoots":  # a fist has no ammunition; a weapon that fires is not ready
        busy = int((states[start + 1 : stop + 1, 5] == 0).sum())
        return abs(turn) < 1 and states[start, 4] > 0 and busy >= 2
    return abs(turn) < 1


def stuck(states: np.ndarray, action: str, start: int) -> bool:
    """Whether a walk begun at frame `start` has hardly moved the player by the last frame."""
    moved = float(np.hypot(*(states[-1, :2] - states[start, :2])))
    return action in _DIRECTIONS and moved < _WALK / 2 * (len(states) - 1 - start)


def hurt(states: np.ndarray, before: bool) -> str:
    """Whether the player lost health in the clip: "yes", "no", or "unclear".

    Unclear is a scratch, whose flash is hard to see, and a wound from before the first frame
    (`before`), whose flash may still be seen.
    """
    lost = float(-np.minimum(np.diff(states[:, 3]), 0).sum())
    if lost >= 4:
        return "yes"
    return "no" if lost == 0 and not before else "unclear"


def is_plain(seen: Sighting, smallest: float, strictness: float = 1.0) -> bool:
    """Whether something is large and clear enough to be named."""
    return seen.share >= smallest * strictness and seen.contrast >= MIN_CONTRAST * strictness


def things_in(
    sightings: Sequence[Sequence[Sighting]], smallest: float, strictness: float = 1.0
) -> list[dict[str, Any]]:
    """What is in view, kind by kind, the most pixels first.

    Returns:
        One dict a kind: `kind`, `share` (of the picture, mean over all frames, 0 to 1), `frames`
        (in how many it is large enough), `side` (left, middle, right, crossing, several, or
        unclear) and `plural` (several of them are at that side, none much larger than the rest).
    """
    kinds: dict[str, dict[int, list[tuple[int, float, float]]]] = {}
    for time, frame in enumerate(sightings):
        for seen in frame:
            if is_plain(seen, smallest, strictness):
                track = kinds.setdefault(seen.kind, {}).setdefault(seen.actor, [])
                track.append((time, seen.share, seen.x))
    total = len(sightings)
    things = []
    for kind, tracks in kinds.items():
        mass = sum(share for track in tracks.values() for _, share, _ in track)
        frames = {time for track in tracks.values() for time, _, _ in track}
        side, plural = _side(list(tracks.values()), total)
        share = round(mass / total, 5)
        things.append(
            {"kind": kind, "share": share, "frames": len(frames), "side": side, "plural": plural}
        )
    return sorted(things, key=lambda thing: -thing["share"])


def _side(tracks: Sequence[list[tuple[int, float, float]]], total: int) -> tuple[str, bool]:
    """Where the actors of one kind are over the clip, and whether that speaks of several."""
    weights = [sum(share for _, share, _ in track) for track in tracks]
    biggest = tracks[int(np.argmax(weights))]
    if sum(weights) - max(weights) <= 0.4 * max(weights):
        return _place([x for _, _, x in biggest]), False
    lasting = [track for track in tracks if len(track) >= max(2, total // 8)]
    times = [time for track in lasting for time, _, _ in track]
    if len(times) - len(set(times)) < 2:  # one after the other, hardly two at once
        return "unclear", False
    places = {_place([x for _, _, x in track]) for track in lasting}
    if len(places) == 1:
        return places.pop(), True
    spread = [x for track in lasting for _, _, x in track]
    return ("several" if max(spread) - min(spread) > 0.25 else "unclear"), True


def _place(xs: Sequence[float]) -> str:
    """Where something at these horizontal positions (0 to 1, in order of time) is seen."""
    at = np.asarray(xs)
    if abs(at[-1] - at[0]) > 0.3:
        return "crossing"
    mean = float(at.mean())
    for name, mostly, here in (
        ("left", mean < 0.36, at < 0.4),
        ("middle", abs(mean - 0.5) < 0.11, np.abs(at - 0.5) < 0.14),
        ("right", mean > 0.64, at > 0.6),
    ):
        if mostly and here.mean() >= 0.85:
            return name
    return "unclear"


def view_of(
    sightings: Sequence[Sequence[Sighting]], smallest: float
) -> tuple[dict[str, str], list[dict[str, Any]]] | None:
    """The slots `object` and `side`, and all that is in view; None if no plain word is true.

    Args:
        sightings: What is in view, frame by frame.
        smallest: Share of the picture below which a thing is not named.
    """
    things = things_in(sightings, smallest)
    if not things:
        faint = things_in(sightings, smallest, strictness=0.5)
        if any(thing["frames"] > 1 for thing in faint):
            return None
        return {"object": "nothing", "side": "none"}, things
    top = things[0]
    rivals = [thing for thing in things[1:] if thing["share"] > _RIVAL * top["share"]]
    enough = max(3, round(len(sightings) / 4))
    if rivals or top["kind"] == "?" or top["side"] == "unclear" or top["frames"] < enough:
        return None
    return {"object": top["kind"], "side": top["side"]}, things
