"""The world `babyai`: reading missions without the simulator, and episodes with it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from data.babyai import ENVIRONMENTS, KINDS, SLOTS, VERBS, film_babyai, make_babyai, parse_caption

simulator = pytest.mark.skipif(find_spec("minigrid") is None, reason="needs the extra `worlds`")


@pytest.mark.parametrize(
    ("mission", "slots"),
    [
        ("go to the grey ball", ("go to", "grey", "ball", "none", "none")),
        ("pick up a key", ("pick up", "any", "key", "none", "none")),
        ("pick up a yellow object", ("pick up", "yellow", "any", "none", "none")),
        ("open a door on your left", ("open", "any", "door", "none", "none")),
        (
            "put the red ball next to the grey key",
            ("put next to", "red", "ball", "grey", "key"),
        ),
        ("open the red door, then open the blue door", ("open", "red", "door", "none", "none")),
        ("nonsense", ("", "", "", "none", "none")),
    ],
)
def test_missions_are_read(mission: str, slots: tuple[str, ...]) -> None:
    assert parse_caption(mission) == dict(zip(SLOTS, slots, strict=True))


def test_splits_share_no_environment() -> None:
    train, heldout = (
        {n for v in ENVIRONMENTS[s].values() for n in v} for s in ("train", "heldout")
    )
    assert not train & heldout
    assert all(set(ENVIRONMENTS[split]) == set(VERBS) for split in ENVIRONMENTS)


def test_bad_sizes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_frames=1"):
        make_babyai(4, tmp_path, num_frames=1)
    with pytest.raises(ValueError, match="8x64"):
        make_babyai(4, tmp_path, height=8)


def test_a_missing_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "minigrid", None)
    with pytest.raises(ValueError, match=r"kinolex\[worlds\]"):
        make_babyai(4, tmp_path / "out")


@simulator
@pytest.mark.worlds
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pygame and gymnasium, on import
def test_episodes_end_in_success_and_repeat(tmp_path: Path) -> None:
    for split in ENVIRONMENTS:
        for index in range(4):
            clip = film_babyai(split, index)
            assert torch.equal(clip.frames, film_babyai(split, index).frames)
            assert clip.truth and parse_caption(clip.caption) == clip.truth["slots"]
            slots = clip.truth["slots"]
            assert slots["verb"] in VERBS and slots["kind"] in (*KINDS, "any")
            assert clip.labels == {"action": slots["verb"], **slots}
            assert clip.frames.shape == (16, 3, 64, 64)
            assert (clip.frames[0] != clip.frames[-1]).any()
            assert all(question.answer in question.choices for question in clip.questions)
    report = make_babyai(3, tmp_path / "out", heldout_share=0.34)
    assert report.clips == {"train": 2, "heldout": 1}
    assert make_babyai(3, tmp_path / "out", heldout_share=0.34).made == 0
