"""Playing ViZDoom for a clip: start a place, pick a spot, act, keep pixels, sightings and state.

The only importer of `vizdoom`. Knows the engine and its actors; knows no captions and no files
but the engine's own, which it keeps in a scratch directory.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.doom_places import Scenario, kind_of

TICS = 3  # of Doom's 35 a second, a frame
FPS = 35 / TICS
BUTTONS = {
    "walks forward": "MOVE_FORWARD",
    "walks backward": "MOVE_BACKWARD",
    "sidesteps left": "MOVE_LEFT",
    "sidesteps right": "MOVE_RIGHT",
    "turns left": "TURN_LEFT",
    "turns right": "TURN_RIGHT",
    "shoots": "ATTACK",
}
STILL = "stands still"
_TURNS = ("turns left", "turns right")  # held for two tics of three: about 3.5 degrees a frame
STATE = ("POSITION_X", "POSITION_Y", "ANGLE", "HEALTH", "SELECTED_WEAPON_AMMO", "ATTACK_READY")
_OPEN_GAMES = 16  # processes kept, about 30 MB each
_NEAR, _FAR = 90.0, 420.0  # map units between the spot and what it is chosen to show
_FIELD = math.radians(34)  # half of the view in which a chosen thing should stand
_FLOOR_ITEMS = ("Health", "Armor", "Ammo", "Gibs")  # actors one can stand on


@dataclass(frozen=True)
class Sighting:
    """One actor in one frame, by its visible pixels."""

    actor: int  # the engine's number, the same from frame to frame
    kind: str  # a word of `doom_places.KINDS`, or "?"
    share: float  # of the picture, 0 to 1
    x: float  # centre of its pixels, 0 left edge, 1 right edge
    contrast: float  # spread of brightness in and around it, 0 to 255: in the dark, next to none


@dataclass(frozen=True)
class Shot:
    """One frame of play: what is seen before the next action."""

    frame: np.ndarray  # uint8 (H, W, 3), as rendered
    sightings: tuple[Sighting, ...]
    state: (
        np.ndarray
    )  # (5,): x, y (map units), angle (degrees, counter-clockwise), health, ammunition


@dataclass(frozen=True)
class _Layout:
    """A level's actors as it starts."""

    spots: np.ndarray  # (S, 2), map units: places one can stand on
    things: np.ndarray  # (N, 2): places of what can be named
    odds: np.ndarray  # (N,): how often to look at each


class Stage:
    """Opens games and keeps the last few; one `begin` and any number of `perform` a clip."""

    def __init__(self, scratch: Path, height: int, width: int) -> None:
        import vizdoom

        self._vizdoom = vizdoom
        self._scratch = scratch
        self._resolution = _resolution(height, width)
        self._games: OrderedDict[str, Any] = OrderedDict()
        self._layouts: dict[str, _Layout] = {}
        self._game: Any = None
        self._health = 0.0  # before the player took the spot

    def close(self) -> None:
        for game in self._games.values():
            game.close()
        self._games.clear()

    def begin(self, scenario: Scenario, seed: int) -> None:
        """Start an episode that depends on `scenario` and `seed` alone."""
        self._finish()
        self._layout = self._survey(scenario) if scenario.map else None
        self._start(scenario, seed)
        self._act(
            STILL, tics=12, look=False
        )  # the first tics after a start can show the last episode's bob

    def _start(self, scenario: Scenario, seed: int, survey: bool = False) -> None:
        key = f"{scenario.wad} {survey}"
        game = self._games.pop(key, None)
        if game is None:
            if len(self._games) >= _OPEN_GAMES:
                self._games.popitem(last=False)[1].close()
            game = self._open(scenario, survey)
        self._games[key] = self._game = game
        game.set_seed(seed)
        if scenario.map:
            game.set_doom_map(scenario.map)
        game.new_episode()

    def _finish(self) -> None:
        if self._game is not None and not self._game.is_episode_finished():
            self._act(STILL, tics=2 * TICS)

    def _open(self, scenario: Scenario, survey: bool) -> Any:
        vd = self._vizdoom
        game = vd.DoomGame()
        if scenario.map:
            game.set_doom_game_path(str(Path(vd.scenarios_path).parent / scenario.wad))
            game.set_doom_map(scenario.map)
            game.set_doom_skill(3)
            game.set_objects_info_enabled(survey)  # slow, so in a game of its own
        else:
            game.load_config(str(Path(vd.scenarios_path) / scenario.wad))
        game.set_doom_config_path(str(self._scratch / "vizdoom.ini"))
        game.set_window_visible(False)
        game.set_mode(vd.Mode.PLAYER)
        game.set_screen_format(vd.ScreenFormat.RGB24)
        game.set_screen_resolution(getattr(vd.ScreenResolution, self._resolution))
        game.set_labels_buffer_enabled(True)
        game.set_render_hud(False)
        game.set_render_screen_flashes(True)  # being hurt is seen as a red flash
        game.set_episode_timeout(0)
        game.add_game_args("+cl_showsecretmessage 0")  # text over the picture
        game.set_available_buttons([getattr(vd.Button, name) for name in BUTTONS.values()])
        game.set_available_game_variables([getattr(vd.GameVariable, name) for name in STATE])
        with contextlib.chdir(self._scratch):  # the engine leaves a folder where it is started
            game.init()
        return game

    def _act(self, action: str, tics: int = TICS, look: bool = True) -> None:
        if not self._game.is_episode_finished():
            self._game.set_action([float(name == action) for name in BUTTONS])
            self._game.advance_action(tics, look)

    def _variable(self, name: str) -> float:
        return float(self._game.get_game_variable(getattr(self._vizdoom.GameVariable, name)))

    def wander(self, rng: np.random.Generator) -> None:
        """Arenas: a few random steps from the starting spot."""
        self._health = self._variable("HEALTH")
        names = [*BUTTONS][:6]
        for _ in range(int(rng.integers(1, 4))):
            self._act(names[int(rng.integers(len(names)))], int(rng.integers(3, 16)), look=False)
        self._act(STILL, tics=5 * TICS)  # to a stop

    def settle(self, rng: np.random.Generator) -> bool:
        """Levels: stand where something can be named ahead; False if there is no such spot."""
        assert self._layout is not None
        self._health = self._variable("HEALTH")
        self._act(_TURNS[int(rng.integers(2))], int(rng.integers(1, 20)), look=False)
        spots, things = self._layout.spots, self._layout.things
        way = things[None] - spots[:, None]  # (S, N, 2)
        off = np.arctan2(way[..., 1], way[..., 0]) - math.radians(self._variable("ANGLE"))
        off = np.abs((off + math.pi) % (2 * math.pi) - math.pi)
        far = np.hypot(way[..., 0], way[..., 1])
        pairs = np.argwhere((off < _FIELD) & (far > _NEAR) & (far < _FAR))
        if not len(pairs) or self._game.is_episode_finished():
            return False
        odds = self._layout.odds[pairs[:, 1]]
        spot = spots[pairs[int(rng.choice(len(pairs), p=odds / odds.sum()))][0]]
        self._game.send_game_command(f"warp {spot[0]:.0f} {spot[1]:.0f}")
        self._act(STILL, tics=4 * TICS)  # what was picked up there has flashed by then
        return True

    def _survey(self, scenario: Scenario) -> _Layout:
        """Where things stand in a level; looked up once."""
        if scenario.name not in self._layouts:
            self._start(scenario, seed=0, survey=True)
            objects = self._game.get_state().objects
            spots = [o for o in objects if o.category in _FLOOR_ITEMS]
            things = [o for o in objects if (kind_of(o.name) or "?") != "?"]
            self._layouts[scenario.name] = _Layout(
                np.array([(o.position_x, o.position_y) for o in spots]).reshape(-1, 2),
                np.array([(o.position_x, o.position_y) for o in things]).reshape(-1, 2),
                np.array([3.0 if o.category == "Monster" else 1.0 for o in things]),
            )
        return self._layouts[scenario.name]

    def view(self) -> tuple[Sighting, ...]:
        """What is in view now."""
        state = None if self._game.is_episode_finished() else self._game.get_state()
        return () if state is None else _sightings(state)

    def hurt_before(self) -> bool:
        """Whether health was lost on the way to the spot."""
        return self._variable("HEALTH") < self._health

    def over(self) -> bool:
        """Whether the player is dead or the place has ended."""
        return self._game.is_episode_finished() or self._variable("HEALTH") <= 0

    def step(self, action: str | None = None) -> Shot | None:
        """Do `action` for the time of a frame, then look; None if the play is over."""
        if action in _TURNS:
            self._act(action, TICS - 1, look=False)
            self._act(STILL, 1)
        elif action:
            self._act(action)
        if self.over():
            return None
        state = self._game.get_state()
        table = np.array(state.game_variables, dtype=np.float64)
        return Shot(state.screen_buffer.copy(), _sightings(state), table)


@contextlib.contextmanager
def open_stage(height: int, width: int) -> Iterator[Stage]:
    """A stage in a scratch directory of its own, closed and removed at the end.

    Raises:
        ValueError: ViZDoom is not installed, or no render size is as large as asked for.
    """
    try:
        import vizdoom  # noqa: F401
    except ImportError:
        raise ValueError(
            "the doom world needs ViZDoom: pip install 'kinolex[worlds]' "
            "or make install EXTRAS=worlds"
        ) from None
    with tempfile.TemporaryDirectory(prefix="kinolex-doom-") as scratch:
        stage = Stage(Path(scratch), height, width)
        try:
            yield stage
        finally:
            stage.close()


def _resolution(height: int, width: int) -> str:
    """The smallest 4:3 render size that is at least as high and as wide."""
    for wide, high in ((160, 120), (320, 240), (640, 480), (1280, 960)):
        if high >= height and wide >= width:
            return f"RES_{wide}X{high}"
    raise ValueError(f"size {height}x{width}: doom is rendered at up to 960x1280, give less")


def _sightings(state: Any) -> tuple[Sighting, ...]:
    seen = [(label, kind) for label in state.labels if (kind := kind_of(label.object_name))]
    if not seen:
        return ()
    values = state.labels_buffer
    height, width = values.shape
    columns = np.broadcast_to(np.arange(width) + 0.5, (height, width)).ravel()
    area = np.bincount(values.ravel(), minlength=256)
    moment = np.bincount(values.ravel(), weights=columns, minlength=256)
    light = brightness(state.screen_buffer)
    return tuple(
        Sighting(
            label.object_id,
            kind,
            float(area[label.value] / (height * width)),
            float(moment[label.value] / area[label.value] / width),
            float(
                light[
                    max(label.y - 1, 0) : label.y + label.height + 1,
                    max(label.x - 1, 0) : label.x + label.width + 1,
                ].std()
            ),
        )
        for label, kind in seen
        if area[label.value]
    )


def brightness(frame: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> (H, W), 0 to 255."""
    wide = frame.astype(np.uint16)
    return (wide[..., 0] * 2 + wide[..., 1] * 5 + wide[..., 2]) >> 3
