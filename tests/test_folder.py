"""Folders of clips: layout, metadata and its errors, what is left out, windows, the cache."""

import csv
import json
import pickle
import shutil
import warnings

import pytest
import torch

from data.clip import Clip, Question
from data.errors import VideoError, VideoWarning
from data.folder import Folder, num_written, write_folder
from data.layout import divided
from data.metadata import Row
from data.source import Source, open_source
from data.writing import write_video


def make_clip(seed, num_frames=6, fps=8.0, **fields):
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num_frames, 3, 3, 4, generator=draw)
    frames = torch.nn.functional.interpolate(coarse, (16, 24), mode="bicubic").clamp(0, 1)
    return Clip.from_frames((frames * 255).to(torch.uint8), fps, **fields)


def told(seed):
    return make_clip(
        seed,
        captions=(f"clip {seed}", "anders gesagt"),
        questions=(Question("which?", str(seed), "number", ("0", "1", "2", str(seed))),),
        labels={"action": "jump"},
        truth={"seed": seed, "parts": [1, 2]},
    )


@pytest.fixture
def folder(tmp_path):
    write_folder([told(i) for i in range(3)], tmp_path / "f" / "train", suffix=".mkv")
    return tmp_path / "f"


def rewrite(folder, change):
    file = folder / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("\n".join(json.dumps(row) for row in change(rows)))


def test_written_folder_reads_back(folder):
    source = Folder(folder)
    assert isinstance(source, Source) and len(source) == 3 and not source.skipped
    for clip, want in zip(source, [told(i) for i in range(3)], strict=True):
        assert (clip.frames == want.frames).all() and clip.source.endswith(".mkv")
        assert torch.allclose(clip.timestamps, want.timestamps, atol=1e-3)
        assert clip.captions == want.captions and clip.questions == want.questions
        assert clip.labels == want.labels and clip.truth == want.truth
    with pytest.raises(IndexError):
        source[3]


def test_datasets_reads_the_same_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # datasets' own imports
        from datasets import Video, load_dataset

        rows = load_dataset(
            "videofolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "c")
        ).cast_column("video", Video(decode=False))
    assert len(rows) == 3 and rows[1]["text"] == ["clip 1", "anders gesagt"]


def test_csv(folder):
    rows = [json.loads(x) for x in (folder / "train" / "metadata.jsonl").read_text().splitlines()]
    (folder / "train" / "metadata.jsonl").unlink()
    with open(folder / "train" / "metadata.csv", "w", newline="") as file:
        writer = csv.DictWriter(
            file, ["file_name", "text", "questions", "labels", "start", "truth"]
        )
        writer.writeheader()
        for row in rows:
            packed = {k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()}
            writer.writerow({**packed, "start": "0.25"})
    clip = Folder(folder)[2]
    assert clip.captions == told(2).captions and clip.questions == told(2).questions
    assert clip.timestamps.tolist() == [0.25, 0.375, 0.5, 0.625]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"file_name": "gone.mp4"}, r"jsonl:2: no file 'gone.mp4'"),
        ({"file_name": "clip-000000.mkv"}, r"jsonl:2: 'clip-000000.mkv' is already in .*jsonl:1"),
        ({"caption": "x"}, r"jsonl:2: unknown key 'caption'; .*known: file_name, text"),
        ({"txet": "x"}, r"did you mean 'text'"),
        ({"file_name": "../x.mp4"}, r"inside the folder"),
        ({"file_name": None}, r"give the clip's file name"),
        ({"start": "soon"}, r"start='soon'; give seconds"),
        ({"start": 2, "end": 1}, r"end must come after start"),
        ({"labels": "jump"}, r"labels='jump'; give a dict"),
        ({"text": 3}, r"text=3; give a string"),
        ({"truth": 3}, r"truth=3; give a dict"),
        ({"questions": [{"question": "q"}]}, r"give it a question and an answer"),
        ({"questions": [{"question": "q", "answer": "a", "choices": ["b"]}]}, r"not in choices"),
        ({"questions": [{"question": "q", "answer": "a", "choices": 5}]}, r"choices=5; give a"),
        ({"questions": [{"question": "q", "answer": "a", "choices": "abc"}]}, r"give a list of"),
        ({"questions": [{"question": "q", "answer": "a", "hint": ""}]}, r"unknown key 'hint'"),
    ],
)
def test_wrong_metadata_names_line_and_remedy(folder, change, message):
    rewrite(folder, lambda rows: [rows[0], {**rows[1], **change}, rows[2]])
    with pytest.raises(ValueError, match=message) as error:
        Folder(folder)
    assert "\n" not in str(error.value)


def test_metadata_that_is_no_metadata(folder):
    file = folder / "train" / "metadata.jsonl"
    for content, message in (
        ('{"file_name": "a"', "jsonl:1: not JSON"),
        ("[1]", "give a JSON object"),
        ("\n", "lists no clips"),
        ("[" * 100_000, "jsonl:1: not JSON"),
        ('\n{"file_name": "é"}', "jsonl:2: not UTF-8 text"),
    ):
        file.write_bytes(content.encode("latin-1"))
        with pytest.raises(ValueError, match=message):
            Folder(folder)
    (folder / "train" / "metadata.csv").write_text("file_name\n")
    with pytest.raises(ValueError, match="remove one of them"):
        Folder(folder)
    file.unlink()
    (folder / "train" / "metadata.csv").write_text("file_name,text\nclip-000000.mkv,a,b\n")
    with pytest.raises(ValueError, match="csv:2: not 2 fields"):
        Folder(folder)
    (folder / "train" / "metadata.csv").write_bytes(b"file_name,text\nclip-000000.mkv,\xe9\n")
    with pytest.raises(ValueError, match="csv:2: not UTF-8 text"):
        Folder(folder)


def test_splits(folder):
    shutil.copytree(folder / "train", folder / "test")
    assert len(Folder(folder, "heldout")) == 3  # an alias
    with pytest.raises(ValueError, match="no split 'unseen': its splits are train, test"):
        Folder(folder, "unseen")
    assert len(Folder(folder / "train")) == 3
    with pytest.raises(ValueError, match="no split 'unseen': it has no splits and is divided"):
        Folder(folder / "train", "unseen")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Folder(folder / "nowhere")


@pytest.mark.filterwarnings("ignore:.*has no splits")
def test_a_folder_without_splits_is_divided_by_file(folder):
    plain = folder / "plain"
    shutil.copytree(folder / "train", plain)
    with pytest.warns(UserWarning, match="1 of its 3 files are held out"):
        parts = [Folder(plain, split) for split in ("train", "val", "all")]
    names = [{part[i].source for i in range(len(part))} for part in parts]
    assert [len(part) for part in parts] == [2, 1, 3]
    assert names[0] | names[1] == names[2] and not names[0] & names[1]
    rows = [Row(f"{n}.mp4", start=s) for n in range(40) for s in (0.0, 1.0)]
    train, heldout = (divided(plain, rows, split) for split in ("train", "heldout"))
    assert sorted(train + heldout, key=rows.index) == rows and len(heldout) == 8
    assert not {row.file_name for row in train} & {row.file_name for row in heldout}
    assert divided(folder, rows[::-1], "heldout") == heldout[::-1]  # nor where, nor in what order
    with pytest.raises(ValueError, match="nothing can be held out"):
        divided(plain, rows[:2], "train")


def test_metadata_above_the_splits(folder):
    rewrite(folder, lambda rows: [{**r, "file_name": f"train/{r['file_name']}"} for r in rows])
    shutil.move(folder / "train" / "metadata.jsonl", folder / "metadata.jsonl")
    assert Folder(folder)[1].captions == told(1).captions


def test_parts_of_one_file(folder):
    name = "clip-000000.mkv"
    rows = [{"file_name": name, "end": 0.25}, {"file_name": name, "start": 0.25, "text": "rest"}]
    rewrite(folder, lambda _: rows)
    with pytest.warns(UserWarning, match="2 videos are not in its metadata"):
        source = Folder(folder)
    assert [len(clip) for clip in source] == [2, 4]
    assert float(source[1].timestamps[0]) == 0.25  # the file's own time
    rewrite(folder, lambda _: [{**rows[0], "start": 9, "end": 10}, *rows])
    with pytest.warns(UserWarning) as caught:
        assert len(Folder(folder)) == 2
    assert any("has no frame from 9.0 s to 10.0 s" in str(w.message) for w in caught)


def test_without_metadata(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "stills").mkdir()
    (tmp_path / ".hidden").mkdir()
    for place in ("cat/b.gif", "a.mp4", ".hidden/c.mp4"):
        write_video(make_clip(0), tmp_path / place)
    for i in range(3):
        write_video(make_clip(i, 1), tmp_path / "stills" / f"{i}.png")
    with pytest.warns(UserWarning, match="no captions"):
        source = Folder(tmp_path, "all")
    assert [(clip.labels, len(clip)) for clip in source] == [
        ({}, 6),
        ({"label": "cat"}, 6),
        ({}, 3),
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="neither metadata.jsonl nor videos"):
        Folder(tmp_path / "empty")
    with pytest.warns(UserWarning, match="no captions"):
        assert len(Folder(tmp_path / "stills", "all")) == 3  # images alone are clips of one frame


def test_bad_files_are_left_out_by_name_or_stop(folder):
    (folder / "train" / "clip-000001.mkv").write_bytes(b"")
    with pytest.warns(VideoWarning, match=r"left out 1 of 3 clips: clip-000001.mkv is empty"):
        source = Folder(folder)
    assert [clip.captions[0] for clip in source] == ["clip 0", "clip 2"]
    assert [(s.path, s.reason) for s in source.skipped] == [
        ("clip-000001.mkv", "is empty (0 bytes)")
    ]
    with pytest.raises(VideoError, match="clip-000001.mkv: is empty"):
        Folder(folder, strict=True)
    with pytest.raises(ValueError, match="left out 3 of 3 .* no clip remains"):
        Folder(folder, num_frames=7, fps=8.0)


def test_shape_and_windows(folder):
    source = Folder(folder, num_frames=3, height=8, width=8, fps=8.0)
    whole = Folder(folder)
    clip = source[0]
    assert clip.frames.shape == (3, 3, 8, 8)
    assert clip.timestamps.tolist() == [0.125, 0.25, 0.375]  # the middle
    draw = torch.Generator().manual_seed(0)
    starts = {float(source.window(0, draw).timestamps[0]) for _ in range(40)}
    assert starts == {0.0, 0.125, 0.25, 0.375}
    assert len(whole.window(0)) == 6
    assert Folder(folder, fps=4.0)[0].timestamps.tolist() == [0.0, 0.25, 0.5]
    assert Folder(folder, fps=100.0)[0].timestamps.tolist() == whole[0].timestamps.tolist()
    assert len(Folder(folder, num_clips=2)) == 2
    for wrong in ({"num_frames": 0}, {"height": 0}, {"fps": 0.0}, {"num_clips": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Folder(folder, **wrong)


def test_cache_gives_the_same_and_is_used(folder, tmp_path):
    shape = {"num_frames": 3, "height": 8, "width": 12, "fps": 4.0}
    plain = Folder(folder, **shape)
    cached = Folder(folder, **shape, cache=True, cache_dir=tmp_path / "cache")
    for _ in range(2):
        for a, b in zip(plain, cached, strict=True):
            assert (a.frames == b.frames).all() and (a.timestamps == b.timestamps).all()
            assert a.captions == b.captions and a.source == b.source
    kept = sorted((tmp_path / "cache").rglob("*.npy"))
    assert len(kept) == 3
    assert not list((tmp_path / "cache").rglob("*.partial*"))
    write_video(make_clip(9), folder / "train" / "clip-000000.mkv")
    assert (cached[0].frames == Folder(folder, **shape)[0].frames).all()  # a changed file is seen


def test_sources_go_to_loader_workers(folder):
    source = Folder(folder, num_frames=3, height=8, width=8, cache=False)
    again = pickle.loads(pickle.dumps(source))
    assert (again[1].frames == source[1].frames).all() and again.name == source.name


def test_changed_file_is_noticed(folder):
    source = Folder(folder)
    write_video(make_clip(0, 9), folder / "train" / "clip-000000.mkv")
    with pytest.raises(VideoError, match="has 9 good frames, not 6"):
        source[0]


def test_writing_resumes(tmp_path):
    made = []

    def clips(count):
        for i in range(count):
            made.append(i)
            if i == 2 and len(made) == 3:
                raise KeyboardInterrupt
            yield told(i)

    lossless = {"suffix": ".mkv"}  # of tiny clips x264 does not always write the same bytes
    with pytest.raises(KeyboardInterrupt):
        write_folder(clips(4), tmp_path / "f", **lossless)
    assert num_written(tmp_path / "f") == 2
    with pytest.raises(ValueError, match="is unfinished"):
        Folder(tmp_path / "f")
    partial = tmp_path / "f" / ".metadata.partial.jsonl"
    partial.write_text(partial.read_text() + '{"file_name": "clip-0')  # a line cut by a kill
    assert write_folder(clips(4), tmp_path / "f", **lossless) == 4
    write_folder([told(i) for i in range(4)], tmp_path / "whole", **lossless)
    for file in sorted((tmp_path / "whole").iterdir()):
        assert (tmp_path / "f" / file.name).read_bytes() == file.read_bytes()
    assert len(Folder(tmp_path / "f", "all")) == 4
    assert write_folder([], tmp_path / "f") == 4  # finished: left as it is
    with pytest.raises(ValueError, match="already holds 4 clips"):
        write_folder([told(0)], tmp_path / "f", resume=False)
    with pytest.raises(ValueError, match="no clips to write"):
        write_folder([], tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(ValueError, match="holds other files"):
        write_folder([told(0)], tmp_path / "other")


def test_open_source(folder):
    source = open_source(folder, num_frames=4, height=8, width=8)
    assert len(source) == 3 and source[0].frames.shape == (4, 3, 8, 8)
    with pytest.raises(FileNotFoundError, match="no source 'nowhere'"):
        open_source("nowhere")
    for nothing in ("", "hub:"):
        with pytest.raises(ValueError, match="give a folder of clips"):
            open_source(nothing)
    with pytest.raises(ValueError, match="is a file"):
        open_source(folder / "train" / "metadata.jsonl")


@pytest.mark.filterwarnings("ignore:.*has no metadata")
def test_held_out_files_that_all_fail_say_how_to_choose_others(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").write_bytes(b"no video")
    with (
        pytest.warns(UserWarning, match="has no splits"),
        pytest.raises(ValueError, match="no clip remains, .* make the folders .*train and .*held"),
    ):
        Folder(tmp_path, "heldout")
