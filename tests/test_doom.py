"""The world `doom`: words that read back, truth from states and sightings, and real play."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import data.doom
from data.doom import Filming, make_doom
from data.doom_language import (
    ACTIONS,
    NUM_CAPTIONS,
    OBJECTS,
    SIDES,
    SLOTS,
    captions_of,
    parse_caption,
    questions_of,
)
from data.doom_places import KINDS, SCENARIOS, kind_of
from data.doom_play import Sighting, Stage, open_stage
from data.doom_truth import did, hurt, smallest_share, stuck, things_in, view_of

ALL = {"hurt": 1.0, "shoots": 1.0}
simulator = pytest.mark.skipif(find_spec("vizdoom") is None, reason="needs the extra `worlds`")


def some_slots(action: str, thing: str, rng: np.random.Generator) -> dict[str, str]:
    others = [other for other in ACTIONS if other != action]
    second = "none" if rng.random() < 0.3 else others[int(rng.integers(len(others)))]
    side = "none" if thing == "nothing" else [*SIDES][int(rng.integers(len(SIDES)))]
    return dict(zip(SLOTS, (action, second, thing, side), strict=True))


def walk(step: tuple[float, float], turn: float = 0.0, num: int = 9) -> np.ndarray:
    """States of a player who looks east and moves by `step` a frame."""
    states = np.zeros((num, 6))
    states[:, :2] = np.arange(num)[:, None] * np.array(step)
    states[:, 2] = np.arange(num) * turn % 360
    states[:, 3:] = 100, 50, 1
    return states


def seen(
    kind: str, x: float, actor: int = 1, share: float = 0.05, contrast: float = 40
) -> Sighting:
    return Sighting(actor, kind, share, x, contrast)


@pytest.mark.parametrize("several", [False, True])
def test_captions_say_their_slots(several: bool) -> None:
    rng = np.random.default_rng(0)
    for action, thing in product(ACTIONS, (*OBJECTS, "nothing")):
        slots = some_slots(action, thing, rng)
        captions = captions_of(slots, several and thing != "nothing", rng)
        assert len(set(captions)) == NUM_CAPTIONS
        for caption in captions:
            assert parse_caption(caption) == slots, caption


def test_any_text_can_be_read() -> None:
    assert parse_caption("") == {
        "action_first": "",
        "action_second": "none",
        "object": "",
        "side": "none",
    }
    assert parse_caption("TURNS to the left, zombie!")["action_first"] == "turns left"


def test_questions_have_their_answer_among_the_choices() -> None:
    rng = np.random.default_rng(1)
    for action, thing in product(ACTIONS, (*OBJECTS, "nothing")):
        slots = some_slots(action, thing, rng)
        things = [] if thing == "nothing" else [{"kind": thing}]
        truth = {"slots": slots, "hurt": "no", "objects": things}
        questions = questions_of(truth, False, rng, ALL)
        assert len({question.question for question in questions}) == len(questions)
        for question in questions:
            assert question.answer in question.choices
            if question.kind == "exists":
                asked = next(
                    k for k, (one, _) in OBJECTS.items() if f" {one} in" in question.question
                )
                assert question.answer == ("yes" if asked == thing else "no")


def test_every_kind_has_a_word_and_the_players_weapon_has_none() -> None:
    assert set(KINDS.values()) <= set(OBJECTS)
    assert kind_of("DoomPlayer") is None
    assert kind_of("DeadZombieman") == "dead body"
    assert kind_of("Spectre") == "?"


def test_splits_share_no_scenario() -> None:
    names = [{scenario.name for scenario in SCENARIOS[split]} for split in ("train", "heldout")]
    assert names[0] and names[1] and not names[0] & names[1]


@pytest.mark.parametrize(
    ("action", "step", "turn"),
    [
        ("walks forward", (20.0, 0.0), 0.0),
        ("walks backward", (-20.0, 0.0), 0.0),
        ("sidesteps left", (0.0, 20.0), 0.0),
        ("sidesteps right", (0.0, -20.0), 0.0),
        ("turns left", (0.0, 0.0), 3.5),
        ("turns right", (0.0, 0.0), -3.5),
        ("stands still", (0.0, 0.0), 0.0),
    ],
)
def test_an_action_is_told_from_the_others(
    action: str, step: tuple[float, float], turn: float
) -> None:
    states = walk(step, turn)
    assert [name for name in ACTIONS if did(states, name, 0, 8)] == [action]


def test_walking_against_a_wall_is_no_walk() -> None:
    wall = walk((0.2, 0.0))
    assert stuck(wall, "walks forward", 0) and not did(wall, "walks forward", 0, 8)
    assert not stuck(walk((20.0, 0.0)), "walks forward", 0)


def test_shooting_wants_ammunition_and_a_busy_weapon() -> None:
    states = walk((0.0, 0.0))
    states[2:5, 5] = 0
    assert did(states, "shoots", 0, 8)
    states[:, 4] = 0  # a fist
    assert not did(states, "shoots", 0, 8)


def test_hurt_is_unclear_for_scratches_and_old_wounds() -> None:
    states = walk((0.0, 0.0))
    assert hurt(states, before=False) == "no" and hurt(states, before=True) == "unclear"
    states[5:, 3] -= 2
    assert hurt(states, before=False) == "unclear"
    states[6:, 3] -= 8
    assert hurt(states, before=False) == "yes"


def test_a_thing_too_small_or_too_dark_is_not_named() -> None:
    small = smallest_share(64, 64)
    assert small == 16 / 4096
    assert not things_in([[seen("imp", 0.5, share=small * 0.9)]] * 16, small)
    assert not things_in([[seen("imp", 0.5, contrast=3)]] * 16, small)
    assert view_of([[seen("imp", 0.5, share=small * 0.9)]] * 16, small) is None  # nor "nothing"
    assert view_of([[]] * 16, small) == ({"object": "nothing", "side": "none"}, [])


@pytest.mark.parametrize(
    ("first", "last", "side"),
    [(0.1, 0.2, "left"), (0.48, 0.52, "middle"), (0.9, 0.8, "right"), (0.1, 0.9, "crossing")],
)
def test_sides(first: float, last: float, side: str) -> None:
    view = view_of([[seen("imp", x)] for x in np.linspace(first, last, 16)], 0.004)
    assert view is not None and view[0] == {"object": "imp", "side": side}


def test_several_and_rivals() -> None:
    two = [[seen("imp", 0.1), seen("imp", 0.9, actor=2)]] * 16
    view = view_of(two, 0.004)
    assert view is not None and view[0]["side"] == "several" and view[1][0]["plural"]
    assert view_of([[seen("imp", 0.1), seen("demon", 0.9, actor=2)]] * 16, 0.004) is None


def test_sizes_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_frames=2"):
        make_doom(4, tmp_path, num_frames=2)


def test_a_missing_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vizdoom", None)
    with pytest.raises(ValueError, match=r"kinolex\[worlds\]"):
        make_doom(4, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_stage(64, 64) as opened:
        yield opened


@simulator
@pytest.mark.worlds
def test_clips_are_true_and_the_same_again(stage: Stage) -> None:
    first = [Filming(stage, seed=3).clip("train", i) for i in (0, 1)]
    again = [Filming(stage, seed=3).clip("train", i) for i in (0, 1)]
    for clip, twin in zip(first, again, strict=True):
        assert clip.captions == twin.captions and clip.truth == twin.truth
        difference = (clip.frames.int() - twin.frames.int()).abs()
        assert difference.max() < 16 and (difference > 0).float().mean() < 0.01
        assert clip.truth and clip.truth["scenario"] in {s.name for s in SCENARIOS["train"]}
        for caption in clip.captions:
            assert parse_caption(caption) == clip.truth["slots"]
        for thing in clip.truth["objects"]:
            assert thing["share"] * len(clip) >= smallest_share(64, 64) * 0.99
    assert not torch.equal(first[0].frames, Filming(stage, seed=4).clip("train", 0).frames)


@simulator
@pytest.mark.worlds
def test_turning_moves_the_picture_sideways(stage: Stage) -> None:
    stage.begin(next(s for s in SCENARIOS["train"] if s.name == "basic"), 7)
    stage.wander(np.random.default_rng(0))
    before, after = stage.step(), stage.step("turns left")
    assert before and after
    one, two = (shot.frame[20:90].astype(int) for shot in (before, after))
    shifts = range(-20, 21)
    errors = [np.abs(np.roll(one, k, axis=1) - two)[:, 20:-20].mean() for k in shifts]
    assert 2 <= shifts[int(np.argmin(errors))] <= 12  # the world goes right


@simulator
@pytest.mark.worlds
def test_make_doom_writes_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = make_doom(3, Path("out"), heldout_share=0.34, num_frames=8)
    assert report.clips == {"train": 2, "heldout": 1} and report.made == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]  # nothing of the engine's
    assert make_doom(3, Path("out"), heldout_share=0.34, num_frames=8).made == 0
    rows = (tmp_path / "out/heldout/metadata.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["truth"]["world"] == "doom"
    with pytest.raises(ValueError, match="seed"):
        make_doom(3, Path("out"), heldout_share=0.34, num_frames=8, seed=1)
    assert data.doom.SLOTS == SLOTS
