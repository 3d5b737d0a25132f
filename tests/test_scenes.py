"""The made world: the same clip whoever asks, splits that keep apart, questions that are true."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.clip import Clip
from data.scenes import Reading, Scenes, baselines, score_caption
from data.scenes.combos import triples, unseen_triples
from data.scenes.draw import BRIGHTEST, background
from data.scenes.plan import trace
from data.scenes.spec import DIFFICULTIES, DIGITS, MOTIONS, MOVES, SHAPES, SPLITS
from data.scenes.sprites import coverage
from data.scenes.stories import make_plan
from data.scenes.world import action_label


def small(difficulty: str = "standard", **fields) -> Scenes:
    return Scenes(difficulty, **{"num_frames": 4, "height": 16, "width": 16} | fields)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_a_clip_is_the_same_alone_and_in_any_batch(difficulty: str) -> None:
    world = small(difficulty)
    batch = world.batch([7, 3, 3, 11, 90])
    for index, clip in zip([7, 3, 3, 11, 90], batch, strict=True):
        alone = world[index]
        assert torch.equal(alone.frames, clip.frames)
        assert (alone.captions, alone.questions) == (clip.captions, clip.questions)
        assert alone.truth == clip.truth
    assert torch.equal(world.frames([3, 7]), torch.stack([batch[1].frames, batch[0].frames]))
    assert torch.equal(small(difficulty)[11].frames, batch[3].frames)


def test_seed_split_and_index_each_change_the_clip() -> None:
    first = small()[0].truth
    others = (small(seed=1)[0], small(split="heldout")[0], small()[1])
    assert all(clip.truth != first for clip in others)


def test_description_does_not_depend_on_size_or_length() -> None:
    large = small(num_frames=9, height=40, width=64)
    for index in range(20):
        assert small()[index].captions == large[index].captions
        assert small()[index].truth == large[index].truth


@pytest.mark.parametrize("num_frames", [1, 2, 3, 17])
@pytest.mark.parametrize(("height", "width"), [(32, 48), (48, 32), (15, 15), (1, 7)])
def test_any_size_and_length(num_frames: int, height: int, width: int) -> None:
    world = small(num_frames=num_frames, height=height, width=width, fps=25.0)
    for clip in world.batch(range(8)):
        assert clip.frames.shape == (num_frames, 3, height, width)
        assert clip.timestamps.tolist() == [frame / 25 for frame in range(num_frames)]


def test_world_is_a_source() -> None:
    world = small(num_clips=5)
    assert (len(world), world.skipped, world.name) == (5, [], "scenes:standard/train")
    clip = world[-1]
    assert isinstance(clip, Clip) and clip.source == "scenes:standard/train#4"
    assert json.loads(json.dumps(clip.truth)) == clip.truth
    with pytest.raises(IndexError, match="clip 5 of 5"):
        world[5]
    for wrong in ({"split": "test"}, {"num_frames": 0}, {"fps": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            small(**wrong)
    with pytest.raises(ValueError, match="easy, standard, hard"):
        Scenes("simple")


def shown(split: str, difficulty: str, count: int) -> set[tuple[str, str, str]]:
    return {
        (str(thing.colour), str(thing.shape), motion)
        for plan in small(difficulty, split=split).plans(range(count))
        for thing in plan.reading.things
        for motion in thing.motions
    }


def test_splits_share_no_unseen_triple() -> None:
    assert 0.06 < len(unseen_triples()) / (len(triples("train")) + len(unseen_triples())) < 0.1
    for difficulty in DIFFICULTIES:
        assert not shown("train", difficulty, 300) & unseen_triples()
        assert not shown("heldout", difficulty, 100) & unseen_triples()
        assert shown("unseen", difficulty, 100) <= unseen_triples()


def test_unseen_triples_touch_every_colour_shape_and_motion_but_hide_none() -> None:
    for slot in range(3):
        held = {triple[slot] for triple in unseen_triples()}
        assert held == {triple[slot] for triple in triples("train")}
    assert Counter(motion for _, _, motion in unseen_triples()).keys() == set(MOTIONS)


def test_moving_objects_stay_in_the_picture() -> None:
    for difficulty in DIFFICULTIES:
        for plan in small(difficulty).plans(range(150)):
            x, y, radius, _, _ = trace(plan.bodies, np.linspace(0, 1, 33))
            assert (x > 0).all() and (x < 1).all() and (y > 0).all() and (y < 1).all()
            assert (radius > 0.05).all()


def test_objects_keep_apart_at_standard() -> None:
    for plan in small("standard").plans(range(200)):
        x, y, radius, _, _ = trace(plan.bodies, np.linspace(0, 1, 17))
        for one in range(len(x)):
            for other in range(one):
                gap = np.hypot(x[one] - x[other], y[one] - y[other]) - radius[one] - radius[other]
                assert plan.kind == "hit" or gap.min() > 0


def test_speed_is_told_by_displacement() -> None:
    for plan in small("easy").plans(range(300)):
        thing = plan.reading.things[0]
        action = thing.actions[0]
        if action.motion in MOVES:
            x, y, *_ = trace(plan.bodies, np.array([0.0, 1.0]))
            distance = math.hypot(*np.diff(x[0]), *np.diff(y[0]))
            low, high = {"slow": (0.19, 0.25), "fast": (0.47, 0.55)}[str(action.speed)]
            assert low < distance < high


def test_backgrounds_are_dim() -> None:
    for numbers in np.random.default_rng(0).random((40, 12)):
        picture = background(numbers, 24, 40)
        assert picture.shape == (3, 24, 40) and picture.max() <= BRIGHTEST


def test_sprites_are_antialiased_and_centred() -> None:
    grid = np.arange(-12, 13, dtype=np.float32)
    for shape in range(6):
        one = np.array([shape])
        size, angle = np.array([7.0], dtype=np.float32), np.zeros(1, dtype=np.float32)
        ink = coverage(one, size, angle, grid[None], grid[None])[0]
        assert ink.min() == 0 and ink.max() == 1 and ((ink > 0) & (ink < 1)).any()
        assert abs((ink.sum(axis=0) * grid).sum() / ink.sum()) < 0.05
        moved = coverage(one, size, angle, grid[None] - 0.4, grid[None])[0]
        assert (moved.sum(axis=0) * grid).sum() / moved.sum() == pytest.approx(0.4, abs=0.08)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_answers_are_true(difficulty: str) -> None:
    world, few = (small(difficulty, num_frames=24, num_questions=n) for n in (None, 7))
    for index in range(120):
        clip, kinds = world[index], [q.kind for q in few[index].questions]
        assert clip.truth is not None
        reading = Reading.from_json(clip.truth)
        assert len(set(kinds)) == len(kinds) > 2
        assert clip.questions[: len(kinds)] == few[index].questions
        assert len({q.question for q in clip.questions}) == len(clip.questions) > 12
        for question in clip.questions:
            assert question.answer in question.choices
            assert question.answer in allowed_answers(question.question, question.kind, reading), (
                question,
                reading,
            )


def allowed_answers(text: str, kind: str, reading: Reading) -> set[str]:
    """The right answers, worked out anew from the truth and the words of the question."""
    things = reading.things
    named = [
        thing
        for thing in things
        if all(
            word not in text for word in others(str(thing.colour), [str(t.colour) for t in things])
        )
        and all(
            word not in text for word in others(str(thing.shape), [str(t.shape) for t in things])
        )
    ] or list(things)
    motions = {motion for thing in named for motion in thing.motions}
    if kind in ("colour", "shape", "size"):
        return {str(getattr(thing, kind)) for thing in named}
    if kind == "motion":
        return motions
    if kind == "direction":
        return {motion.removeprefix("moves ") for motion in motions}
    if kind == "speed":
        return {str(action.speed) for thing in named for action in thing.actions}
    if kind == "exists":
        colours, shapes = {str(t.colour) for t in things}, {str(t.shape) for t in things}
        words = text.removesuffix("?").split()[3:]
        if "object" in words:
            there = words[0] in colours
        elif len(words) == 1:
            there = words[0] in shapes
        else:
            there = any(words == [t.colour, t.shape] for t in things)
        return {"yes" if there else "no"}
    if kind == "count":
        word = text.split()[2].removesuffix("s").removesuffix("se")
        counted = [t for t in things if word in ("object", t.colour) or str(t.shape) == word]
        counted += [t for t in things if word == "cros" and t.shape == "cross"]
        return {("zero", "one", "two", "three")[len(counted)]}
    if kind == "faster":
        speed = "fast" if "faster" in text else "slow"
        return {f"{t.colour} {t.shape}" for t in things if t.actions[0].speed == speed}
    if kind == "hit":
        assert reading.hit
        by = things[reading.hit.by]
        return {"yes" if f"the {by.colour} {by.shape} hit" in text else "no"}
    if kind == "cause":
        return (
            {"nothing"}
            if not reading.hit
            else {f"{things[reading.hit.by].colour} {things[reading.hit.by].shape}"}
        )
    if kind == "when":
        moments = [a.start for t in things for a in t.actions if a.start == a.end]
        moments += [reading.hit.at] if reading.hit else []
        return {f"{round(math.ceil(m * 23) / 8 * 2) / 2:.1f}" for m in moments}
    timeline = reading.timeline()
    flat = [(a.motion, f"{things[i].colour} {things[i].shape}") for i, a in timeline]
    full = {f"the {who} {motion}" for motion, who in flat}
    early = {i for i, (_, a) in enumerate(timeline) if a.middle < 0.5}
    late = set(range(len(timeline))) - early
    rows = early if kind in ("first", "before") else late
    chosen = {flat[i][0] for i in rows} | {flat[i][1] for i in rows}
    return chosen | {event for event in full if any(flat[i][1] in event for i in rows)}


def others(word: str, words: list[str]) -> list[str]:
    return [other for other in words if other != word]


def test_yes_and_no_are_balanced_and_chance_is_known() -> None:
    table = baselines(small("easy", num_frames=1, height=2, width=2), 600)
    assert 0.42 < table["question:exists"].majority < 0.58
    assert table["colour"].chance == pytest.approx(1 / 8)
    assert table["motion"].chance == pytest.approx(1 / 16) and table["motion"].majority < 0.12
    assert table["speed"].majority < 0.58 and table["question:shape"].num >= 600


def test_every_kind_of_scene_and_question_occurs() -> None:
    world = small("standard", num_frames=16, height=2, width=2)
    clips = [world[index] for index in range(250)]
    kinds = {str(clip.truth and clip.truth["kind"]) for clip in clips}
    assert kinds == {"single", "several", "race", "phases", "relay", "hit"}
    asked = {question.kind for clip in clips for question in clip.questions}
    assert asked >= {"count", "faster", "first", "last", "before", "after", "cause", "when", "hit"}
    assert set(SPLITS) == {"train", "heldout", "unseen"}


def test_digits_join_the_shapes(tmp_path) -> None:
    luck = np.random.default_rng(0)
    path = tmp_path / "digits.csv.gz"
    with gzip.open(path, "wt") as file:
        for row in range(120):
            image = np.zeros((8, 8), dtype=int)
            image[2:6, 1 + row % 3 : 5] = luck.integers(8, 17, (4, 4 - row % 3))
            file.write(",".join(map(str, [*image.ravel(), row // 12])) + "\n")
    world = small("standard", num_frames=16, digits_from=path)
    plain = small("standard", num_frames=16)
    assert (plain.fingerprint, world.fingerprint) == (
        "seed 0, 16x16x16 at 8 fps, 20 questions",
        "seed 0, 16x16x16 at 8 fps, 20 questions, digits",
    )
    seen = set()
    for index in range(40):
        clip = world[index]
        assert clip.truth
        seen |= {item["shape"] for item in clip.truth["objects"]}
        assert all(score_caption(text, clip.truth).exact for text in clip.captions)
        with_digits = any(item["shape"] in DIGITS for item in clip.truth["objects"])
        assert torch.equal(clip.frames, plain[index].frames) != with_digits
    assert len(seen & set(DIGITS)) > 4 and seen & set(SHAPES)
    with pytest.raises(FileNotFoundError, match="mnist_5k"):
        small(digits_from=tmp_path / "none.csv.gz")
    (tmp_path / "text.csv.gz").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"text.csv.gz: not a gzipped table"):
        small(digits_from=tmp_path / "text.csv.gz")


@pytest.mark.parametrize("difficulty", ["standard", "hard"])
def test_a_label_does_not_tell_in_which_order_a_plan_lists_what_happens_at_once(
    difficulty: str,
) -> None:
    """Nobody could see it."""
    together = 0
    for number in range(300):
        plan = make_plan(0, "train", difficulty, number)
        if plan.kind not in ("several", "race", "double"):
            continue
        turned = replace(plan.reading, things=plan.reading.things[::-1])
        label = action_label(plan)
        assert action_label(replace(plan, reading=turned)) == label
        together += " and " in label
    assert together > 30
