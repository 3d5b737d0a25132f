"""Datasets with a video column: files, bytes in Parquet, saved, streamed; always offline."""

import json
import os

import pytest
import torch

from data.clip import Clip, Question
from data.errors import VideoError, VideoWarning
from data.folder import write_folder
from data.hub import HubSource, stream_clips
from data.source import Source, open_source

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of datasets' imports


def make_clip(seed, **fields):
    draw = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (5, 3, 8, 8), generator=draw, dtype=torch.uint8)
    return Clip.from_frames(frames, 4.0, **fields)


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("data.hub._DOWNLOADS", tmp_path / "downloads")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture
def folder(tmp_path):
    clips = [make_clip(i, captions=(f"clip {i}",)) for i in range(3)]
    write_folder(clips, tmp_path / "f" / "train", suffix=".mkv")
    return tmp_path / "f"


def table(folder, **columns):
    from datasets import Dataset

    files = sorted((folder / "train").glob("*.mkv"))
    videos = [{"bytes": file.read_bytes(), "path": None} for file in files]
    return Dataset.from_dict({"video": videos, **columns})


def check(source, captions=True):
    assert isinstance(source, Source) and len(source) == 3
    for i, clip in enumerate(source):
        assert (clip.frames == make_clip(i).frames).all()
        assert clip.timestamps.tolist() == [0, 0.25, 0.5, 0.75, 1.0]
        assert clip.caption == (f"clip {i}" if captions else "")


def test_videofolder(folder):
    check(HubSource(folder))
    check(HubSource(folder, streaming=True, num_clips=3))
    assert [clip.caption for clip in stream_clips(folder)] == ["clip 0", "clip 1", "clip 2"]
    check(open_source(f"hub:{folder}"))
    clip = open_source(f"hub:{folder}", num_frames=2, height=4, width=4, fps=2.0, num_clips=2)[1]
    assert clip.frames.shape == (2, 3, 4, 4) and clip.source.endswith("clip-000001.mkv")


def test_bytes_in_parquet_and_saved(folder, tmp_path):
    rows = table(folder, caption=["clip 0", "clip 1", "clip 2"], junk=[1, 2, 3])
    (tmp_path / "p" / "data").mkdir(parents=True)
    file = tmp_path / "p" / "data" / "validation-00000-of-00001.parquet"
    rows.to_parquet(str(file))
    check(HubSource(tmp_path / "p", "heldout"))
    check(HubSource(file))
    check(HubSource(tmp_path / "p", "heldout", streaming=True, num_clips=3))
    rows.save_to_disk(str(tmp_path / "saved"))
    check(HubSource(tmp_path / "saved"))
    assert len(list(stream_clips(tmp_path / "saved"))) == 3
    check(HubSource(rows))
    with pytest.raises(ValueError, match="no split 'unseen': its splits are validation"):
        HubSource(tmp_path / "p", "unseen")
    with pytest.raises(ValueError, match="has no length: give num_clips"):
        HubSource(tmp_path / "saved", streaming=True)


def test_columns(folder):
    from datasets import ClassLabel

    questions = [[{"question": "q", "answer": str(i), "kind": "k"}] for i in range(3)]
    rows = table(
        folder,
        text=[["a", "b"], ["c"], []],
        questions=questions,
        label=[0, 1, 1],
        start=[None, 0.5, None],
        truth=[json.dumps({"i": i}) for i in range(3)],
    ).cast_column("label", ClassLabel(names=["cat", "dog"]))
    source = HubSource(rows)
    assert [clip.captions for clip in source] == [("a", "b"), ("c",), ()]
    assert source[1].questions == (Question("q", "1", "k"),)
    assert source[1].labels == {"label": "dog"} and source[1].truth == {"i": 1}
    assert source[1].timestamps.tolist() == [0.5, 0.75, 1.0]
    rows = table(folder, question=["q"] * 3, answer=["a"] * 3).rename_column("video", "film")
    assert HubSource(rows, video_column="film")[0].questions == (Question("q", "a"),)
    with pytest.raises(ValueError, match="no column 'video': name the video column of"):
        HubSource(rows)


def test_bad_rows(folder, tmp_path):
    from datasets import Dataset

    good = (folder / "train" / "clip-000000.mkv").read_bytes()
    videos = [{"bytes": b"", "path": None}, {"bytes": good, "path": None}]
    videos += [{"bytes": b"not a video" * 9, "path": None}, {"bytes": None, "path": "/gone.mp4"}]
    rows = Dataset.from_dict({"video": videos})
    with pytest.warns(VideoWarning, match=r"left out 3 of 4 clips: dataset\[0\] .*dataset\[2\]"):
        source = HubSource(rows)
    assert len(source) == 1 and len(source.skipped) == 3
    with pytest.raises(VideoError, match=r"dataset\[0\]"):
        HubSource(rows, strict=True)
    with pytest.warns(VideoWarning) as caught:
        assert len(list(stream_clips(rows))) == 1
    assert [str(w.message)[:21] for w in caught] == [f"left out dataset[{i}]: " for i in (0, 2, 3)]
    with pytest.raises(FileNotFoundError, match="no dataset 'nobody/nothing' here.*allow"):
        HubSource("nobody/nothing")
    with pytest.raises(ValueError, match="give .parquet"):
        HubSource(folder / "train" / "clip-000000.mkv")
    assert os.environ["HF_HUB_OFFLINE"] == "1"
