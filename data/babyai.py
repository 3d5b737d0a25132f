"""The world `babyai`: an expert carrying out the missions of BabyAI, in the missions' own words.

Rolls out MiniGrid's `BabyAIBot`, keeps only episodes that reach their goal, and asks about what
the mission names. The room is seen whole, from above. Knows no codec; its only text is template
text by BabyAI's authors, and questions of ours. MiniGrid is imported when a clip is made.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.clip import Clip, Question
from data.worlds import WorldReport, write_world

SLOTS = ("verb", "colour", "kind", "second_colour", "second_kind")
VERBS = ("go to", "pick up", "open", "put next to")
COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
KINDS = ("ball", "box", "key", "door")
FPS = 8.0  # a step of the grid has no duration of its own

# Environments by verb. Those of the two splits differ in rooms, in how many things stand about,
# and, for `open` and `pick up`, in what missions say ("a door on your left", "the door").
ENVIRONMENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "go to": ("GoToLocal", "GoToObj", "GoToLocalS6N4", "GoToLocalS8N7", "GoToDoor"),
        "pick up": ("PickupDist", "OneRoomS8"),
        "open": ("OpenDoorColor", "OpenRedDoor"),
        "put next to": ("PutNextLocal", "PutNextLocalS5N3", "PutNextS4N1"),
    },
    "heldout": {
        "go to": ("GoToLocalS7N5", "GoToRedBlueBall"),
        "pick up": ("PickupLoc",),
        "open": ("OpenDoorLoc", "UnlockLocal"),
        "put next to": ("PutNextLocalS6N4", "PutNextS5N2"),
    },
}
_WHOLE = 9  # cells; of larger grids only the room in which the agent starts is shown
_STEPS = 60
_TRIES = 50
_TILE = 16  # pixels a cell before the picture is resized; more if a larger one is asked for
_NAMED = re.compile(rf"\b(?:({'|'.join(COLOURS)}) )?({'|'.join(KINDS)}|object)\b")
_VERB = re.compile(r"\b(go to|pick up|open|put)\b")


def make_babyai(
    clips: int,
    out: Path,
    *,
    height: int = 64,
    width: int = 64,
    num_frames: int = 16,
    seed: int = 0,
    heldout_share: float = 0.1,
) -> WorldReport:
    """Make a folder of clips of BabyAI's expert player at work, captioned with its missions.

    Writes `out/train` and `out/heldout`, each with `metadata.jsonl` and near-lossless mp4 files.
    The held-out clips come from other environments and other seeds than the training clips. The
    caption is the mission in its authors' template words ("put the grey ball next to the grey
    key"); episodes that do not reach their goal are dropped. The frames are spread over the
    episode, and its last one repeats if it is short. Run again, it goes on where it stopped; the
    same seed gives the same clips.

    Args:
        clips: How many in all, both splits together.
        out: The folder to fill.
        height: Pixels.
        width: Pixels.
        num_frames: Frames a clip, at least 4.
        seed: Chooses missions and rooms.
        heldout_share: Share of the clips, 0 to 1, that goes to `out/heldout`.

    Raises:
        ValueError: MiniGrid is not installed, a number out of range, or `out` holds clips made
            with other settings.
    """
    if num_frames < 4:
        raise ValueError(f"num_frames={num_frames}: a babyai clip has at least 4 frames")
    if height < 16 or width < 16:
        raise ValueError(f"size {height}x{width}: a room wants at least 16x16 pixels")
    _check_installed()
    settings = {"height": height, "width": width, "num_frames": num_frames, "seed": seed}

    def make(split: str, index: int) -> Clip:
        return film_babyai(split, index, **settings)

    return write_world(
        "babyai", make, clips, Path(out), settings=settings, heldout_share=heldout_share
    )


def parse_caption(text: str) -> dict[str, str]:
    """What a mission says, as a value for each of `SLOTS`.

    A colour or kind that is left open is "any", a second thing that is not there "none"; ""
    stands for a verb or a thing that is not said. Of several missions only the first is read.
    """
    text = re.split(r",? then | after ", text.lower())[0]
    verb = _VERB.search(text)
    things = [(c or "any", k.replace("object", "any")) for c, k in _NAMED.findall(text)]
    first = things[0] if things else ("", "")
    second = things[1] if len(things) > 1 else ("none", "none")
    said = "" if verb is None else verb[1].replace("put", "put next to")
    return dict(zip(SLOTS, (said, *first, *second), strict=True))


def film_babyai(
    split: str,
    index: int,
    *,
    height: int = 64,
    width: int = 64,
    num_frames: int = 16,
    seed: int = 0,
) -> Clip:
    """Clip `index` of split train or heldout, the same every time."""
    rng = np.random.default_rng([seed, sorted(ENVIRONMENTS).index(split), index])
    for _ in range(_TRIES):
        verb = VERBS[int(rng.integers(len(VERBS)))]
        names = ENVIRONMENTS[split][verb]
        name = names[int(rng.integers(len(names)))]
        episode = int(rng.integers(1 << 31))
        tile = max(_TILE, -(-max(height, width) // 8))
        with _quietly():
            played = _play(f"BabyAI-{name}-v0", episode, tile)
        if played is None:
            continue
        mission, pictures, present = played
        truth = {
            "world": "babyai",
            "slots": parse_caption(mission),
            "environment": name,
            "episode": episode,
            "steps": len(pictures) - 1,
        }
        picks = np.linspace(0, len(pictures) - 1, num_frames).round().astype(int)
        if len(pictures) < num_frames:
            picks = np.minimum(np.arange(num_frames), len(pictures) - 1)
        frames = _resized([pictures[i] for i in picks], height, width)
        return Clip.from_frames(
            frames,
            FPS,
            captions=(mission,),
            questions=_questions(truth["slots"], present, rng),
            labels={"action": truth["slots"]["verb"], **truth["slots"]},
            source=f"babyai {name}",
            truth=truth,
        )
    raise RuntimeError(f"babyai {split} clip {index}: no mission carried out in {_TRIES} tries")


def _play(
    name: str, episode: int, tile: int
) -> tuple[str, list[np.ndarray], set[tuple[str, str]]] | None:
    """The mission, a picture a step and the (colour, kind)s in view; None if it fails."""
    import gymnasium
    import minigrid  # noqa: F401, it registers the environments
    from minigrid.utils.baby_ai_bot import BabyAIBot

    env: Any = gymnasium.make(name).unwrapped
    env.reset(seed=episode)
    top, left, bottom, right = view = _view(env)
    bot, pictures, action, reward = BabyAIBot(env), [_picture(env, view, tile)], None, 0.0
    cells = [env.grid.get(x, y) for x in range(left, right) for y in range(top, bottom)]
    present = {(cell.color, cell.type) for cell in cells if cell and cell.type in KINDS}
    for _ in range(_STEPS):
        try:
            action = bot.replan(action)
        except Exception:  # the expert gives up by any of several assertions
            return None
        _, reward, done, cut, _ = env.step(action)
        x, y = env.agent_pos
        if not (left <= x < right and top <= y < bottom):
            return None
        pictures.append(_picture(env, view, tile))
        if done or cut:
            break
    return (env.mission, pictures, present) if reward > 0 else None


def _view(env: Any) -> tuple[int, int, int, int]:
    """The cells to show, as top, left, bottom, right: the grid, or the agent's room with walls."""
    if max(env.width, env.height) <= _WHOLE:
        return 0, 0, env.height, env.width
    room = env.room_from_pos(*env.agent_pos)
    (left, top), (wide, high) = room.top, room.size
    return top, left, top + high, left + wide


def _picture(env: Any, view: tuple[int, int, int, int], tile: int) -> np.ndarray:
    top, left, bottom, right = (cell * tile for cell in view)
    return env.get_frame(highlight=False, tile_size=tile)[top:bottom, left:right]


def _resized(pictures: list[np.ndarray], height: int, width: int) -> torch.Tensor:
    """Pictures of one size as uint8 (T, 3, H, W)."""
    from PIL import Image

    images = [
        np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
        for picture in pictures
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _questions(
    slots: Mapping[str, str], present: set[tuple[str, str]], rng: np.random.Generator
) -> tuple[Question, ...]:
    """What a mission's slots and the room can be asked, in random order."""
    aim = {"go to": "reach", "pick up": "pick up", "open": "open", "put next to": "move"}
    does = aim[slots["verb"]]
    asked = [Question("what does the agent do?", slots["verb"], "verb", VERBS)]
    if slots["kind"] != "any":
        text = f"what kind of object does the agent {does}?"
        asked.append(Question(text, slots["kind"], "kind", KINDS))
    if slots["colour"] != "any":
        text = f"what colour is the object that the agent should {does}?"
        asked.append(Question(text, slots["colour"], "colour", COLOURS))
    if slots["second_kind"] != "none":
        text = "what kind of object is it put next to?"
        asked.append(Question(text, slots["second_kind"], "second_kind", KINDS))
    seen, answer = sorted(present), "yes"
    if rng.random() < 0.5 or not seen:
        seen = [(c, k) for c in COLOURS for k in KINDS if (c, k) not in present]
        answer = "no"
    colour, kind = seen[int(rng.integers(len(seen)))]
    asked.append(Question(f"is there a {colour} {kind}?", answer, "exists", ("yes", "no")))
    return tuple(asked[int(i)] for i in rng.permutation(len(asked)))


def _check_installed() -> None:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        with _quietly():
            import minigrid  # noqa: F401
    except ImportError:
        raise ValueError(
            "the babyai world needs MiniGrid: pip install 'kinolex[worlds]' "
            "or make install EXTRAS=worlds"
        ) from None


@contextlib.contextmanager
def _quietly():
    """Without MiniGrid's prints about rejected rooms and Gymnasium's warnings of old names."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
