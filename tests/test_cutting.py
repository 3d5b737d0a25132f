"""Cutting: clips are a file's own frames in order, files stay in one split, errors name values."""

import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.cutting import _stretches, cut
from data.errors import VideoWarning
from data.folder import Folder
from data.metadata import Row
from data.reading import read_clip
from data.source import open_source
from data.writing import write_video
from tests.test_folder import make_clip

NAMES = ("a.mkv", "b.mkv", "c.mkv")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for seed, name in enumerate(NAMES):
        write_video(make_clip(seed, num_frames=9), folder / name)
    rows = [{"file_name": name, "text": f"film {name}", "labels": {"n": name}} for name in NAMES]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@settings(max_examples=25)
@given(frames=st.integers(1, 9), step=st.integers(1, 12), begin=st.integers(0, 5))
def test_clips_are_the_stretches_of_the_file(films, frames, step, begin):
    whole = read_clip(films / "a.mkv").frames
    row = Row("a.mkv", start=begin / 8)
    begins = range(begin, 9 - frames + 1, step)
    if not begins:
        with pytest.warns(UserWarning, match="a.mkv has fewer than"):
            assert not list(_stretches(films, row, frames, step, None, (None, None, "cover")))
        return
    found = list(_stretches(films, row, frames, step, None, (None, None, "cover")))
    assert len(found) == len(begins)
    for clip, start in zip(found, begins, strict=True):
        assert torch.equal(clip.frames, whole[start : start + frames])
        assert clip.timestamps[0] == 0


def test_every_second_frame_at_half_the_frame_rate(films):
    whole = read_clip(films / "a.mkv").frames  # 8 frames a second
    (clip,) = _stretches(films, Row("a.mkv"), 5, 5, 4.0, (None, None, "cover"))
    assert torch.equal(clip.frames, whole[::2])


def test_a_folder_to_train_on_whose_splits_share_no_file(films, tmp_path):
    out = tmp_path / "clips"
    report = cut(films, out, frames=4, heldout=["b.mkv"], height=8, width=8)
    assert report.clips == {"train": 4, "heldout": 2}
    assert report.files == {"train": ["a.mkv", "c.mkv"], "heldout": ["b.mkv"]}
    held = open_source(str(out), split="heldout")
    assert [clip.captions for clip in (held[0], held[1])] == [("film b.mkv",)] * 2
    assert held[0].labels == {"n": "b.mkv"}
    assert held[0].frames.shape == (4, 3, 8, 8)
    written = sorted((out / "train").iterdir())
    before = [file.stat().st_mtime_ns for file in written]
    assert cut(films, out, frames=4, heldout=["b.mkv"], height=8, width=8) == report
    assert [file.stat().st_mtime_ns for file in written] == before
    with pytest.raises(ValueError, match="was made with frames=4, not 3"):
        cut(films, out, frames=3, heldout=["b.mkv"], height=8, width=8)


def test_training_clips_may_overlap_and_held_out_ones_never_do(films, tmp_path):
    report = cut(films, tmp_path / "clips", frames=4, every=1, heldout=["b.mkv"])
    assert report.clips == {"train": 2 * 6, "heldout": 2}


def test_the_source_s_own_split_is_kept(films, tmp_path):
    with pytest.warns(UserWarning, match="no splits"):
        report = cut(films, tmp_path / "clips", frames=9)
        same = Folder(films, "heldout")
    assert report.files["heldout"] == [clip.labels["n"] for clip in (same[0],)]


def test_a_film_that_breaks_off_gives_the_clips_before(films, tmp_path):
    content = (films / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[: len(content) * 2 // 3])
    with pytest.warns(VideoWarning, match="a.mkv: ends after .* cut off"):
        found = list(_stretches(tmp_path, Row("a.mkv"), 2, 2, None, (None, None, "cover")))
    whole = read_clip(films / "a.mkv").frames
    assert 1 <= len(found) < 4
    assert torch.equal(found[0].frames, whole[:2])


def test_what_is_no_film_is_told_and_the_others_go_on(films, tmp_path):
    shutil.copytree(films, tmp_path / "films")
    (tmp_path / "films" / "c.mkv").write_text("no film")
    with pytest.warns(UserWarning, match="c.mkv"):
        report = cut(tmp_path / "films", tmp_path / "clips", frames=9, heldout=["b.mkv"])
    assert report.clips == {"train": 1, "heldout": 1}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"frames": 0}, "frames=0"),
        ({"every": 0}, "every=0"),
        ({"fps": -1.0}, "fps=-1"),
        ({"heldout": ["d.mkv"]}, "'d.mkv' is no file of .*a.mkv, b.mkv, c.mkv"),
        ({"heldout": list(NAMES)}, "leaves nothing for train"),
    ],
)
def test_errors_name_the_value(films, tmp_path, wrong, says):
    with pytest.raises(ValueError, match=says):
        cut(films, tmp_path / "clips", **wrong)


def test_a_folder_of_other_files_is_left_alone(films, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="holds other files"):
        cut(films, tmp_path, frames=4, heldout=["a.mkv"])


def test_a_split_without_a_clip_is_told_before_the_work(films, tmp_path):
    write_video(make_clip(5, num_frames=2), tmp_path / "films" / "short.mkv")
    shutil.copy(films / "a.mkv", tmp_path / "films")
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="short.mkv: no clip of 4 frames for heldout"),
    ):
        cut(tmp_path / "films", tmp_path / "clips", frames=4, heldout=["short.mkv"])
    assert not (tmp_path / "clips").exists()
