"""Judging: all slots together are those of each kind, whatever the world."""

import dataclasses

import pytest

from data.babyai import parse_caption
from data.clip import Clip
from data.source import open_source
from lm.judging import Tally, judge_caption


@pytest.fixture(scope="module")
def scenes() -> list[Clip]:
    source = open_source("scenes:standard", split="heldout", num_clips=8, height=32, width=32)
    return [source[i] for i in range(8)]


def kinds(tally: Tally) -> list[str]:
    return [name for name in tally.totals if name not in ("said/slots", "said/exact")]


def test_slots_are_the_sum_over_their_kinds(scenes: list[Clip]) -> None:
    tally = Tally()
    for clip, said in zip(scenes, [*scenes[4:], *scenes[:4]], strict=True):
        judge_caption(said.caption, clip, tally, "said")
    right = sum(sum(tally.rights[name]) for name in kinds(tally))
    assert sum(tally.rights["said/slots"]) == right
    assert tally.count("said/slots") == sum(tally.count(name) for name in kinds(tally))
    assert 0 < tally.share("said/slots") < 1


def test_true_captions_have_all_slots(scenes: list[Clip]) -> None:
    tally = Tally()
    for clip in scenes:
        judge_caption(clip.caption, clip, tally, "said")
    assert tally.share("said/slots") == tally.share("said/exact") == 1


def test_a_world_that_names_its_slots(scenes: list[Clip]) -> None:
    said = "go to the yellow ball"
    slots = dict(parse_caption(said))
    truth = {"world": "babyai", "slots": slots | {"another": "thing"}}
    tally = Tally()
    judge_caption(said, dataclasses.replace(scenes[0], truth=truth), tally, "said")
    assert tally.share("said/slots") == pytest.approx(len(slots) / (len(slots) + 1))
    assert tally.share("said/exact") == 0
