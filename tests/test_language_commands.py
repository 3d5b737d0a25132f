"""The language model's commands, as functions, on files."""

import json
from pathlib import Path

import pytest

from data.clip import Clip
from data.writing import write_video
from kinolex import main
from lm import commands, evaluate_command, film_commands
from lm.show_command import show_sequence
from lm.tasks import Model
from tokenizer.records import MAGIC


@pytest.fixture(scope="module")
def saved(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    model.save(folder)
    return folder


@pytest.fixture
def video(clips: list[Clip], tmp_path: Path) -> Path:
    path = tmp_path / "clip.gif"
    write_video(clips[0], path)
    return path


def test_caption(saved: Path, video: Path, model: Model) -> None:
    plain = commands.caption([video, video], saved)
    assert [c.video for c in plain] == [str(video)] * 2
    assert plain[0].caption == plain[1].caption == model.caption(video)
    assert str(plain[0]) == f"{video}: {plain[0].caption}"
    assert len(commands.caption([video], saved, samples=3)) == 3
    with pytest.raises(ValueError, match="samples=0"):
        commands.caption([video], saved, samples=0)


@pytest.mark.filterwarnings("always:left out")
def test_a_file_that_cannot_be_read_does_not_take_the_others_along(
    saved: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    words = ["--model", str(saved), "--json"]
    for order in (["bad.mp4", "clip.gif"], ["clip.gif", "bad.mp4"]):
        assert main(["caption", *(str(tmp_path / name) for name in order), *words]) == 2
        shown = capsys.readouterr()
        found = {Path(item["video"]).name: item for item in json.loads(shown.out)}
        assert list(found) == order and found["clip.gif"]["caption"]
        assert "bad.mp4: cannot be" in found["bad.mp4"]["error"]
        assert "kinolex: warning: left out" in shown.err and "bad.mp4: cannot be" in shown.err
    assert main(["caption", str(tmp_path / "bad.mp4"), *words]) == 2
    error = capsys.readouterr().err
    assert "bad.mp4" in error and error.count("\n") == 1
    (tmp_path / "clip.kvt").write_bytes(MAGIC + bytes(50))
    assert main(["caption", str(tmp_path / "clip.kvt"), *words]) == 2
    assert "is a token file; `kinolex decode` makes a video of it" in capsys.readouterr().err
    assert main(["caption", str(video), str(tmp_path / "none.mp4"), *words]) == 2
    assert "none.mp4: no such file" in capsys.readouterr().err


def test_ask_and_recognize(saved: Path, video: Path) -> None:
    answer = commands.ask(video, "what colour is it?", saved, choices="red, blue ,green")
    assert answer.answer in ("red", "blue", "green")
    ranked = commands.recognize(video, "falls,rises", saved)
    assert sum(score.probability for score in ranked.labels) == pytest.approx(1)
    assert len(str(ranked).splitlines()) == 2
    with pytest.raises(ValueError, match="separate the choices"):
        commands.recognize(video, " , ", saved)


def test_every_rate_is_read(saved: Path, video: Path, model: Model) -> None:
    few = model.encode(video, 1.0)
    assert model.caption(few) != model.caption(video)
    assert model.ask(few, "what?") != model.ask(video, "what?")
    (said,) = commands.caption([video], saved, tokens_per_frame=1.0)
    assert str(said) == f"{video}: {model.caption(few)}"
    answer = commands.ask(video, "what?", saved, tokens_per_frame=1.0)
    assert str(answer) == model.ask(few, "what?")
    found = commands.recognize(video, "red,blue", saved, tokens_per_frame=1.0)
    assert found.labels == model.recognize(few, ["red", "blue"])
    shown = show_sequence(video, saved, tokens_per_frame=1.0)
    assert shown.text.count("<block>") == 2 and "<tokens> <2>" in shown.text
    assert str(shown).startswith("4 frames of 24x16, 1 s at 4 fps, 1 tokens a frame\n")
    with pytest.raises(ValueError, match="tokens_per_frame=1 with long=chunks"):
        commands.caption([video], saved, long="chunks", tokens_per_frame=1.0)
    with pytest.raises(ValueError, match="tokens_per_frame=1 with long=window"):
        commands.ask(video, "what?", saved, long="window", tokens_per_frame=1.0)


def test_generate(saved: Path, tmp_path: Path) -> None:
    film = film_commands.generate(tmp_path / "out.gif", saved, "a red ball", seed=2)
    assert (film.num_frames, film.height, film.width, film.seconds) == (4, 16, 24, 1.0)
    again = film_commands.generate(tmp_path / "again.gif", saved, "a red ball", seed=2)
    assert (tmp_path / "out.gif").read_bytes() == Path(again.out).read_bytes()


def test_evaluate_writes_its_figures(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "figures.json"
    found = evaluate_command.evaluate("scenes:easy", saved, num_clips=2, num_films=1, out=out)
    assert found.value("caption_exact") in (0.0, 0.5, 1.0)
    assert out.is_file() and found.protocol["source"].startswith("scenes:easy")


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    nobody = tmp_path / "nobody"
    with pytest.raises(ValueError, match="suffix '.avi'"):
        film_commands.generate(tmp_path / "a.avi", nobody, "a ball")
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        evaluate_command.evaluate("scenes:easy", nobody, out=tmp_path)


def test_missing_files_are_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match="nothing.mp4"):
        commands.caption([tmp_path / "nothing.mp4"], saved)
    with pytest.raises(FileNotFoundError, match="no such directory"):
        commands.caption([tmp_path / "nothing.mp4"], tmp_path / "nobody")
