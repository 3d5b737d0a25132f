"""The world `doom`: first-person gameplay of ViZDoom, with text derived from the engine's truth.

Plans a clip (place, actions), plays until what was planned is visibly true, and says it. Knows
neither codecs nor training; the engine is behind `doom_play`, the words are in `doom_language`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from data.clip import Clip, Event
from data.doom_language import ACTIONS, SLOTS, captions_of, label_of, parse_caption, questions_of
from data.doom_places import SCENARIOS, Scenario
from data.doom_play import FPS, Shot, Stage, open_stage
from data.doom_truth import did, hurt, is_plain, smallest_share, stuck, view_of
from data.worlds import WorldReport, write_world

__all__ = ["SLOTS", "Filming", "make_doom", "parse_caption"]

# Of the clips where the answer is "no", the share that is asked, so that yes and no balance:
# measured on 2,000 training clips (seed 0).
NO_SHARE = {"hurt": 0.4, "shoots": 0.23}

_REEL = 8  # clips in a row that share a place, since loading a level costs more than a clip
_TWO_ACTIONS = 0.6  # of the clips
_WITH_THING = 0.9  # of the clips; the others show nothing near
_TRIES_A_PLAN = 12
_TRIES_A_PLACE = 24
_TRIES = 480


@dataclass(frozen=True)
class _Plan:
    first: str
    second: str  # or "none"
    with_thing: bool

    @property
    def armed(self) -> bool:
        return "shoots" in (self.first, self.second)

    def phases(self, num_frames: int) -> list[tuple[str, int, int]]:
        """(action, first frame, last frame) of each action."""
        last = num_frames - 1
        if self.second == "none":
            return [(self.first, 0, last)]
        switch = num_frames // 2
        return [(self.first, 0, switch), (self.second, switch, last)]


def make_doom(
    clips: int,
    out: Path,
    *,
    height: int = 64,
    width: int = 64,
    num_frames: int = 16,
    seed: int = 0,
    heldout_share: float = 0.1,
) -> WorldReport:
    """Make a folder of captioned clips of ViZDoom, first-person 3D gameplay.

    Writes `out/train` and `out/heldout`, each with `metadata.jsonl` and near-lossless mp4 files
    at 11.67 frames a second. The held-out clips come from other scenarios and levels, and other
    seeds, than the training clips. Captions (five wordings), questions and the action label are
    derived from what the engine knows and checked against what can be seen: a walk must change
    the position, a thing must fill at least 16 pixels of the finished picture. All of it is
    template text. Run again, it goes on where it stopped; the same seed gives the same clips.

    The whole 4:3 view is resized to height x width: 64 x 64 is narrower by a quarter than what
    the player sees, 64 x 85 is true to shape.

    Args:
        clips: How many in all, both splits together.
        out: The folder to fill.
        height: Pixels; at most 960.
        width: Pixels; at most 1280.
        num_frames: Frames a clip, 8 to 64; three of Doom's 35 tics each.
        seed: Chooses places, actions and words.
        heldout_share: Share of the clips, 0 to 1, that goes to `out/heldout`.

    Raises:
        ValueError: ViZDoom is not installed, a size or number out of range, or `out` holds
            clips made with other settings.
    """
    if not 8 <= num_frames <= 64:
        raise ValueError(f"num_frames={num_frames}: a doom clip has 8 to 64 frames")
    settings = {"height": height, "width": width, "num_frames": num_frames, "seed": seed}
    with open_stage(height, width) as stage:
        filming = Filming(stage, **settings)
        return write_world(
            "doom", filming.clip, clips, Path(out), settings=settings, heldout_share=heldout_share
        )


class Filming:
    """Clips by split and number, filmed in reels of a few that share a place.

    A clip is the same whatever was filmed before it: the reel it belongs to is filmed from its
    beginning, and kept for the clips that follow. (Pictures filmed in another order can differ by
    the shade of a few pixels; the engine carries some light from one place to the next.)

    Args:
        stage: An open stage (`doom_play.open_stage`) of this size.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        height: int = 64,
        width: int = 64,
        num_frames: int = 16,
        seed: int = 0,
    ) -> None:
        self._stage, self._seed = stage, seed
        self._size, self._num_frames = (height, width), num_frames
        self._smallest = smallest_share(height, width)
        self._reel: tuple[str, int, list[Clip]] = ("", 0, [])

    def clip(self, split: str, index: int) -> Clip:
        """Clip `index` of split train or heldout."""
        number, place = divmod(index, _REEL)
        if self._reel[:2] != (split, number):
            self._reel = (split, number, [])
            self._rng = np.random.default_rng([self._seed, sorted(SCENARIOS).index(split), number])
            self._scenario: Scenario | None = None
        while len(self._reel[2]) <= place:
            self._reel[2].append(self._film(split))
        return self._reel[2][place]

    def _film(self, split: str) -> Clip:
        rng = self._rng
        plan = _draw_plan(rng)
        for attempt in range(_TRIES):
            if attempt and attempt % _TRIES_A_PLAN == 0:
                plan = _draw_plan(rng)
            if attempt and attempt % _TRIES_A_PLACE == 0:
                self._scenario = None
            if not self._take_place(split, plan):
                continue
            clip = self._try(plan)
            if clip is not None:
                return clip
        raise RuntimeError(f"doom {split}: nothing to film in {_TRIES} tries")

    def _take_place(self, split: str, plan: _Plan) -> bool:
        """Stand somewhere the plan might work."""
        rng, scenario = self._rng, self._scenario
        if scenario is None or (plan.armed and not scenario.armed):
            scenario = self._scenario = _draw_scenario(split, plan, rng)
            self._fresh = False
        if not scenario.map or not self._fresh or self._stage.over():
            self._episode = int(rng.integers(1 << 31))
            self._stage.begin(scenario, self._episode)
            self._fresh = True
        if not scenario.map:
            self._stage.wander(rng)
        elif not self._stage.settle(rng):
            return False
        near = [seen for seen in self._stage.view() if is_plain(seen, self._smallest, 0.5)]
        return any(seen.kind != "?" for seen in near) if plan.with_thing else not near

    def _try(self, plan: _Plan) -> Clip | None:
        """Play the plan; None if the picture does not show it."""
        before = self._stage.hurt_before()
        shots = self._play(plan)
        if shots is None:
            return None
        view = view_of([shot.sightings for shot in shots], self._smallest)
        if view is None or plan.with_thing == (view[0]["object"] == "nothing"):
            return None
        assert self._scenario is not None
        truth = {
            "world": "doom",
            "slots": {"action_first": plan.first, "action_second": plan.second} | view[0],
            "hurt": hurt(np.stack([shot.state for shot in shots]), before),
            "objects": view[1],
            "scenario": self._scenario.name,
            "episode": self._episode,
        }
        frames = _resized([shot.frame for shot in shots], *self._size)
        events = tuple(
            Event(f"the player {action}", round(start / FPS, 1), round(stop / FPS, 1))
            for action, start, stop in plan.phases(self._num_frames)
        )
        return replace(_tell(frames, truth, self._rng), events=events)

    def _play(self, plan: _Plan) -> list[Shot] | None:
        """All shots of a clip; None as soon as they do not show an action."""
        shots = [self._stage.step()]
        for action, start, stop in plan.phases(self._num_frames):
            for frame in range(start + 1, stop + 1):
                shots.append(self._stage.step(action))
                if shots[-1] is None:
                    return None
                states = np.stack([shot.state for shot in shots if shot])
                if frame - start == 4 and stuck(states, action, start):
                    return None
            if not did(states, action, start, stop):
                return None
        return [shot for shot in shots if shot]


def _draw_plan(rng: np.random.Generator) -> _Plan:
    first, second = rng.choice(list(ACTIONS), size=2, replace=False).tolist()
    both = rng.random() < _TWO_ACTIONS
    return _Plan(first, second if both else "none", bool(rng.random() < _WITH_THING))


def _draw_scenario(split: str, plan: _Plan, rng: np.random.Generator) -> Scenario:
    places = [place for place in SCENARIOS[split] if place.armed or not plan.armed]
    odds = np.array([place.share for place in places])
    return places[int(rng.choice(len(places), p=odds / odds.sum()))]


def _resized(frames: list[np.ndarray], height: int, width: int) -> torch.Tensor:
    """The whole pictures at another size: uint8 (T, 3, H, W)."""
    from PIL import Image

    images = [
        np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
        for frame in frames
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _tell(frames: torch.Tensor, truth: dict, rng: np.random.Generator) -> Clip:
    slots = truth["slots"]
    several = any(thing["plural"] for thing in truth["objects"] if thing["kind"] == slots["object"])
    return Clip.from_frames(
        frames,
        FPS,
        captions=captions_of(slots, several, rng),
        questions=questions_of(truth, several, rng, NO_SHARE),
        labels={"action": label_of(slots), **slots},
        source=f"doom {truth['scenario']}",
        truth=truth,
    )
