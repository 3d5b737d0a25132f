"""`kinolex write`: texts, times and clips in order, the clips in files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.clip import Clip
from data.reading import read_clip
from data.writing import write_video
from kinolex import COMMANDS, main
from lm.document import Item, Nothing, Task, Text, Time, Video
from lm.drawing import Draw, Sampling
from lm.model import Decoder
from lm.tasks import Model
from lm.write_command import Writing, WrittenClip, WrittenText, WrittenTime, write
from tokenizer.command_line import build_parser


@pytest.fixture(scope="module")
def taught(model: Model) -> Model:
    decoder = Decoder(replace(model.decoder.config, context=400), model.decoder.code_features)
    decoder.load_state_dict(model.decoder.state_dict())
    return Model(decoder, model.vocabulary, model.codec, ("talk",))


@pytest.fixture(scope="module")
def saved(taught: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    taught.save(folder)
    return folder


class Ended:
    def __init__(self, items: list[Item]) -> None:
        self.items = items


@pytest.fixture
def told(taught: Model, clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What comes of a document of every kind of item."""
    videos = [taught.encode(clip) for clip in clips[:2]]
    items = [Text("caption", "a red ball"), Video(videos[0]), Time(0.25, 0.75)]
    items += [Text("event", " it falls"), Nothing(), Time(0.5), Video(videos[1])]
    monkeypatch.setattr(
        "lm.interleaving.continue_streams", lambda *_, **__: [Ended([Task("talk"), *items])]
    )
    clips = taught.codec.decode_batch(videos)
    return ["a red ball", clips[0], Time(0.25, 0.75), " it falls", Time(0.5), clips[1]]


def test_times_are_among_what_is_written(taught: Model, told: list[Any]) -> None:
    said = taught.write()
    assert [type(part) for part in said] == [type(part) for part in told]
    for part, expected in zip(said, told, strict=True):
        if isinstance(part, Clip):
            assert torch.equal(part.frames, expected.frames)
        else:
            assert part == expected


def test_texts_are_printed_and_clips_are_files(
    saved: Path, told: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "told"
    words = ["write", "--out", str(out), "--model", str(saved), "--suffix", "mkv"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    files = [str(out / "clip-1.mkv"), str(out / "clip-2.mkv")]
    assert lines == ["a red ball", files[0], "0.25 to 0.75 s", "it falls", "0.5 s", files[1]]
    for path, clip in zip(files, (told[1], told[5]), strict=True):
        assert torch.equal(read_clip(path).frames, clip.frames)
    assert sorted(path.name for path in out.iterdir()) == ["clip-1.mkv", "clip-2.mkv"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    size = {"num_frames": 4, "height": 16, "width": 24, "seconds": 1.0}
    assert found == [
        {"text": "a red ball"},
        {"clip": files[0], **size},
        {"start": 0.25, "end": 0.75},
        {"text": "it falls"},
        {"start": 0.5, "end": None},
        {"clip": files[1], **size},
    ]


@pytest.mark.filterwarnings("ignore:.*ended at once")
def test_the_command_writes_what_the_method_says(
    taught: Model, saved: Path, clips: list[Clip], tmp_path: Path
) -> None:
    write_video(clips[0], tmp_path / "a.gif")
    kinds = set()
    for seed in range(8):
        video = [tmp_path / "a.gif"] if seed % 2 else []
        found = write(
            tmp_path / str(seed),
            saved,
            video,
            "red",
            seed,
            60,
            0.9,
            5,
            0.8,
            0.05,
            1.0,
            suffix="mkv",
        )
        items = [Video(taught.encode(path)) for path in video] + [Text("caption", "red")]
        sampling = Sampling(text=Draw(1.0), video=Draw(0.9, 5, 0.8, 0.05))
        said = taught.write(items, seed, sampling, 60)
        assert len(found) == len(said)
        for one, part in zip(found, said, strict=True):
            kinds.add(type(one))
            if isinstance(part, str):
                assert one == WrittenText(part)
            elif isinstance(part, Time):
                assert one == WrittenTime(part.start, part.end)
            else:
                assert isinstance(one, WrittenClip)
                assert torch.equal(read_clip(one.clip).frames, part.frames)
    assert kinds == {WrittenText, WrittenTime, WrittenClip}


@pytest.mark.parametrize("names", [[], ["a.gif"], ["a.gif", "b.gif"]])
def test_any_number_of_videos_stands_before_or_after_options(names: list[str]) -> None:
    options = ["--out", "o", "--model", "m"]
    for words in ([*names, *options], [*options, *names]):
        parsed = build_parser("write", COMMANDS["write"], write).parse_args(words)
        assert [str(name) for name in parsed.videos] == names


def test_rates_of_videos_are_read(
    taught: Model,
    saved: Path,
    told: list[Any],
    clips: list[Clip],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_video(clips[0], tmp_path / "a.gif")
    given: list[Any] = []
    monkeypatch.setattr(
        Model, "write_batch", lambda self, starts, *_: given.extend(starts[0]) or [["a"]]
    )
    write(tmp_path / "o", saved, [tmp_path / "a.gif"], tokens_per_frame=1.0)
    assert given == [Video(taught.encode(tmp_path / "a.gif", 1.0))]


def test_a_document_that_ends_at_once_is_told(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "lm.interleaving.continue_streams", lambda *_, **__: [Ended([Task("talk")])]
    )
    with pytest.warns(UserWarning, match="wrote nothing: give a prompt"):
        assert write(tmp_path / "o", saved) == []
    assert not (tmp_path / "o").exists()


def test_bad_settings_are_told_before_the_model_is_read(
    taught: Model, saved: Path, clips: list[Clip], tmp_path: Path
) -> None:
    nobody, out = tmp_path / "nobody", tmp_path / "o"
    with pytest.raises(ValueError, match="suffix='avi': use one of mp4 webm"):
        write(out, nobody, suffix="avi")
    assert Writing(out, suffix=".gif") != Writing(out, suffix="gif")
    with pytest.raises(ValueError, match=r"clip-3.mkv might be written over"):
        Writing(out, [out / "clip-3.mkv"], suffix=".mkv")
    with pytest.raises(ValueError, match="prompt is empty"):
        write(out, nobody, prompt=" ")
    with pytest.raises(ValueError, match="temperature=-1: give 0"):
        write(out, nobody, text_temperature=-1)
    with pytest.raises(ValueError, match="tokens_per_frame=2 without videos"):
        write(out, nobody, tokens_per_frame=2.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="give another place"):
        write(tmp_path / "file", nobody)
    with pytest.raises(FileNotFoundError, match="no such directory"):
        write(out, nobody)
    with pytest.raises(ValueError, match="max_new=1: give 2 tokens or more"):
        write(out, saved, max_new=1)
    write_video(clips[0], out / "clip-3.mkv")
    for other in (out / "clip-3.mkv", tmp_path / "o" / ".." / "o" / "clip-3.mkv"):
        with pytest.raises(ValueError, match="clip-3.mkv might be written over: give another"):
            write(out, nobody, [other], suffix="mkv")
    assert Writing(out, [out / "clip-3.mkv"], suffix="mp4").suffix == "mp4"
