"""Settings of drawing: the same ones mean the same in every command, in Python and in requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data.clip import Clip
from data.reading import read_clip
from data.writing import write_video
from kinolex import main
from lm import commands
from lm.completing import search
from lm.drawing import Draw, Sampling
from lm.engine import open_engine
from lm.model import Decoder
from lm.prompting import about_video
from lm.requests import run_requests
from lm.tasks import Model

GREEDY_BY = [("--top-k", "1"), ("--top-p", "1e-9")]


@pytest.fixture(scope="module")
def taught(model: Model) -> Model:
    decoder = Decoder(replace(model.decoder.config, context=300), model.decoder.code_features)
    decoder.load_state_dict(model.decoder.state_dict())
    return Model(decoder, model.vocabulary, model.codec, ("fill",))


@pytest.fixture(scope="module")
def folder(taught: Model, clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("settings")
    taught.save(made / "m")
    write_video(clips[0], made / "clip.mkv")
    for i, time in enumerate((0, 3)):
        write_video(clips[0].at(torch.tensor([time])), made / f"{i}.png")
    return made


def inputs(task: str, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """What a film is made of, as words and as a request."""
    clip, stills = str(folder / "clip.mkv"), [str(folder / f"{i}.png") for i in range(2)]
    return {
        "generate": (["a red ball"], {"prompt": "a red ball"}),
        "continue": (
            [clip, "--seconds", "0.5", "--prompt", "a red ball"],
            {"video": clip, "seconds": 0.5, "prompt": "a red ball"},
        ),
        "infill": (
            [*stills, "--prompt", "a red ball", "--context-guidance", "1"],
            {"stills": stills, "prompt": "a red ball", "context_guidance": 1.0},
        ),
    }[task]


def filmed(task: str, folder: Path, out: Path, options: Sequence[str]) -> Tensor:
    """What the command makes; the same as requests with the same settings do."""
    words, request = inputs(task, folder)
    by_command, by_request = str(out / "a.mkv"), str(out / "b.mkv")
    ends = ["--model", str(folder / "m"), "--seed", "3"]
    assert main([task, *words, *options, *ends, "--out", by_command]) == 0
    names = [option[2:].replace("-", "_") for option in options[::2]]
    settings = {
        name: text if name == "negative" else json.loads(text)
        for name, text in zip(names, options[1::2], strict=True)
    }
    (out / "in").write_text(json.dumps({**request, **settings, "seed": 3, "out": by_request}))
    (out / "out").unlink(missing_ok=True)
    assert run_requests(task, out / "in", out / "out", folder / "m").answered == 1
    made = read_clip(by_command).frames
    assert torch.equal(read_clip(by_request).frames, made)
    return made


@pytest.mark.parametrize("task", ["generate", "continue", "infill"])
def test_cut_offs_of_films(folder: Path, task: str, tmp_path: Path) -> None:
    greedy = filmed(task, folder, tmp_path, ["--temperature", "0"])
    for cut in GREEDY_BY:
        hot = ["--temperature", "2", "--min-p", "0", *cut]
        assert torch.equal(filmed(task, folder, tmp_path, hot), greedy)
    hot = ["--temperature", "2", "--min-p", "0"]
    assert not torch.equal(filmed(task, folder, tmp_path, hot), greedy)


@pytest.mark.parametrize("task", ["generate", "continue", "infill"])
def test_what_guidance_leads_away_from_and_how_far(folder: Path, task: str, tmp_path: Path) -> None:
    def made(*options: str) -> Tensor:
        return filmed(task, folder, tmp_path, ["--min-p", "0", *options])

    plain, unguided = made("--guidance", "6"), made("--guidance", "1")
    assert not torch.equal(plain, unguided)
    assert not torch.equal(made("--guidance", "6", "--rescale", "1"), plain)
    away = ["--guidance", "6", "--negative"]
    assert not torch.equal(made(*away, "it rises"), plain)
    assert torch.equal(made(*away, "a red ball"), unguided)  # away from itself leads nowhere


def test_rescaling_is_that_of_python(taught: Model, folder: Path, tmp_path: Path) -> None:
    options = ["--guidance", "6", "--rescale", "0.7"]
    film = taught.generate("a red ball", seed=3, guidance=6.0, rescale=0.7)
    assert torch.equal(filmed("generate", folder, tmp_path, options), film.frames)
    sampling = Sampling(guidance=6.0, rescale=0.7)
    film = taught.continue_video(folder / "clip.mkv", 0.5, "a red ball", 3, sampling)
    assert torch.equal(filmed("continue", folder, tmp_path, options), film.frames)


def test_settings_without_effect_are_told(taught: Model, clips: list[Clip]) -> None:
    stills = clips[0].at(torch.tensor([0, 3]))
    alone = Sampling(guidance=1.0, rescale=0.5)
    with pytest.warns(UserWarning, match="rescale=0.5 has no effect without guidance"):
        taught.continue_video(clips[0], 0.5, sampling=alone)
    with pytest.warns(UserWarning, match="negative='blue' has no effect without guidance"):
        taught.generate("red", guidance=1.0, negative="blue")
    with pytest.warns(UserWarning, match="negative='blue' has no effect without guidance"):
        taught.infill(stills, sampling=Sampling(), negative="blue")
    taught.infill(stills, sampling=replace(alone, context_guidance=2.0), negative="blue")
    with pytest.warns(UserWarning, match="top_k=2 has no effect at temperature=0"):
        taught.generate("red", temperature=0.0, top_k=2)
    with pytest.warns(UserWarning, match="top_p=0.5 has no effect at temperature=0"):
        taught.captions(clips[0], 2, temperature=0.0, top_p=0.5)


def test_bad_settings_are_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, message in (
        (["--top-k", "-1"], "top_k=-1: give 0 (all) or"),
        (["--top-p", "0"], "top_p=0.0: give a share above 0"),
        (["--rescale", "2"], "rescale=2.0: give a share from 0"),
        (["--negative", " "], "negative prompt is empty"),
    ):
        for task in ("generate", "continue", "infill"):
            words, _ = inputs(task, folder)
            ends = ["--model", str(folder / "m"), "--out", str(tmp_path / "a.mkv")]
            assert main([task, *words, *options, *ends]) == 2
            assert message in capsys.readouterr().err


def test_cut_offs_of_captions(
    taught: Model, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = folder / "clip.mkv"
    greedy = taught.caption(video, beams=1)
    words = ["caption", str(video), "--model", str(folder / "m"), "--json"]
    drawn = [*words, "--samples", "2", "--temperature", "2"]
    for cut in ([], *GREEDY_BY):
        assert main([*drawn, *cut]) == 0
        said = [item["caption"] for item in json.loads(capsys.readouterr().out)]
        assert (said == [greedy] * 2) == bool(cut)
    request = {"video": str(video), "samples": 2, "temperature": 2.0}
    asked = [{**request, "top_k": 1}, {**request, "top_p": 1e-9}, request]
    asked += [{"video": str(video), "top_k": 1}, {**request, "top_p": 0}]
    (tmp_path / "in").write_text("\n".join(map(json.dumps, asked)))
    assert run_requests("caption", tmp_path / "in", tmp_path / "out", folder / "m").failed == 2
    found = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [line.get("result") == [greedy] * 2 for line in found] == [True, True] + [False] * 3
    assert "top_k=1 is for captions that are drawn" in found[3]["error"]
    assert "top_p=0: give a share above 0" in found[4]["error"]
    for cut, message in (
        (["--top-k", "1"], "top_k=1 is for captions that are drawn: give samples=2"),
        (["--top-p", "0.5"], "top_p=0.5 is for captions that are drawn: give samples=2"),
        (["--temperature", "0.8"], "temperature=0.8 is for captions that are drawn"),
        (["--samples", "2", "--top-k", "-1"], "top_k=-1: give 0 (all)"),
    ):
        assert main([*words, *cut]) == 2
        assert message in capsys.readouterr().err


def test_more_beams_find_likelier_answers(
    taught: Model, clips: list[Clip], folder: Path, tmp_path: Path
) -> None:
    question, better = "what colour is it?", 0
    prompts = [
        about_video(taught.vocabulary, taught.encode(clip), "answer", question) for clip in clips
    ]
    wide, greedy = search(taught, prompts, 4), search(taught, prompts, 1)
    said = taught.ask_batch(clips, [question] * len(clips), beams=4)
    plain = taught.ask_batch(clips, [question] * len(clips))
    for clip, found, (word_by_word,), answer, first in zip(
        clips, wide, greedy, said, plain, strict=True
    ):
        assert answer == found[0].text.strip() == taught.ask(clip, question, beams=4)
        assert first == word_by_word.text.strip() == taught.ask(clip, question)
        assert found[0].score(0.6) >= word_by_word.score(0.6) - 1e-6
        better += answer != first
    assert better
    video = folder / "clip.mkv"
    expected = taught.ask(video, question, beams=4)
    assert str(commands.ask(video, question, folder / "m", beams=4)) == expected
    asked = {"video": str(video), "question": question, "beams": 4}
    (tmp_path / "in").write_text(json.dumps(asked) + "\n" + json.dumps({**asked, "beams": 65}))
    run_requests("ask", tmp_path / "in", tmp_path / "out", folder / "m")
    found = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert found[0]["result"] == expected and "beams=65: give 1" in found[1]["error"]


def test_beams_are_for_open_questions(
    taught: Model, clips: list[Clip], folder: Path, tmp_path: Path
) -> None:
    video, question = folder / "clip.mkv", "what?"
    others: list[dict[str, Any]] = [
        {"choices": "a,b"},
        {"long": "chunks"},
        {"engine": "torch:int8"},
    ]
    for other in others:
        with pytest.raises(ValueError, match="beams=2 goes with neither choices, long nor an eng"):
            commands.ask(video, question, folder / "m", beams=2, **other)
    with pytest.raises(ValueError, match="beams=2 goes with neither"):
        taught.ask(clips[0], question, ["a", "b"], beams=2)
    for beams in (0, 65):
        with pytest.raises(ValueError, match=f"beams={beams}: give 1 .greedy. to 64"):
            taught.ask(clips[0], question, beams=beams)
    taught.decoder.engine = open_engine("torch:bf16", taught.decoder, taught.vocabulary)
    try:
        assert isinstance(taught.ask(clips[0], question), str)
        with pytest.raises(ValueError, match="beams=2 goes with neither"):
            taught.ask_batch([clips[0]], [question], beams=2)
    finally:
        taught.decoder.engine = None


def test_draws_that_cut_nothing_are_quiet() -> None:
    Draw(0.0).warn_of_idle()
    Draw(1.0, 2, 0.5).warn_of_idle()
