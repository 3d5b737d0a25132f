"""Requests in a file: all answered, errors kept apart, a stopped run gone on with."""

from __future__ import annotations

import json
import os
import resource
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.clip import Clip
from data.reading import read_clip
from data.writing import write_video
from kinolex import COMMANDS, main
from lm import requests as lm_requests
from lm import write_command
from lm.drawing import Draw, Sampling
from lm.model import Decoder
from lm.requests import TASKS, run_requests
from lm.tasks import Model


@pytest.fixture(scope="module")
def folder(model: Model, clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("requests")
    decoder = Decoder(replace(model.decoder.config, context=900), model.decoder.code_features)
    decoder.load_state_dict(model.decoder.state_dict())
    Model(decoder, model.vocabulary, model.codec, ("events", "fill", "talk")).save(made / "m")
    for i, clip in enumerate(clips[:3]):
        write_video(clip, made / f"{i}.gif")
        write_video(clip.at(torch.tensor([0])), made / f"{i}.png")
    return made


def written(path: Path, requests: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    return path


def results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_direction_takes_requests() -> None:
    assert {name for name, c in COMMANDS.items() if c.takes_requests} == set(TASKS)


def requests_of(folder: Path, out: Path) -> dict[str, list[dict[str, Any]]]:
    clip = str(folder / "0.gif")
    return {
        "caption": [{"video": clip}, {"video": clip, "long": "chunks=2"}],
        "ask": [
            {"video": clip, "question": "what?"},
            {"video": clip, "question": "what?", "choices": ["red", "blue"]},
            {"video": clip, "question": "what?", "choices": ["red", "blue"], "long": "window=2"},
        ],
        "chat": [{"videos": [clip], "questions": ["what?", "and then?"]}],
        "recognize": [{"video": clip, "labels": ["falls", "rises"], "normalise": True}],
        "locate": [
            {"video": clip, "event": "it stops"},
            {"video": clip, "event": "it stops", "long": "chunks"},
            {"video": clip, "event": "it stops", "tokens_per_frame": 1.0},
        ],
        "events": [
            {"video": clip},
            {"video": clip, "start": 0.0, "end": 0.5},
            {"video": clip, "long": "chunks"},
            {"video": clip, "tokens_per_frame": 1.0},
        ],
        "generate": [
            {"prompt": "red", "out": str(out / "g.mkv"), "seed": 2, "negative": "blue"},
            {"out": str(out / "any.mkv"), "seed": 3},
        ],
        "continue": [
            {"video": clip, "seconds": 0.5, "out": str(out / "c.mkv")},
            {"video": clip, "seconds": 0.5, "out": str(out / "d.mkv"), "temperature": 0.0}
            | {"guidance": 3.0, "prompt": "red", "min_p": 0.0},
        ],
        "infill": [{"stills": [str(folder / "0.png")], "out": str(out / "i.gif"), "seed": 1}],
        "write": [
            {"out": str(out / "w"), "videos": [clip], "prompt": "red", "suffix": "mkv", "seed": 4}
            | {"text_temperature": 1.0, "max_new": 60},
        ],
    }


@pytest.mark.parametrize("task", TASKS)
def test_requests_are_answered_as_the_command_does(folder: Path, task: str, tmp_path: Path) -> None:
    asked = requests_of(folder, tmp_path)[task]
    out = tmp_path / "out.jsonl"
    report = run_requests(task, written(tmp_path / "in.jsonl", asked), out, folder / "m")
    found = results(out)
    assert [line["request"] for line in found] == asked
    assert all("result" in line for line in found), found
    assert (report.answered, report.failed, report.requests) == (len(asked), 0, len(asked))
    model, clip = Model.load(folder / "m"), folder / "0.gif"
    if task == "caption":
        assert found[0]["result"] == model.caption(clip)
        told = model.caption(clip, long="chunks=2")
        assert found[1]["result"] == json.loads(json.dumps(asdict(told)))
    elif task == "ask":
        assert found[1]["result"] == model.ask(clip, "what?", ["red", "blue"])
        told = model.ask(clip, "what?", ["red", "blue"], long="window=2")
        assert found[2]["result"] == json.loads(json.dumps(asdict(told)))
        assert found[2]["result"]["readings"] == 2
    elif task == "locate":
        assert found[0]["result"] == asdict(model.locate(clip, "it stops"))
        told = model.locate_long(clip, "it stops")
        assert found[1]["result"] == json.loads(json.dumps(asdict(told)))
        assert found[2]["result"] == asdict(model.locate(clip, "it stops", 1.0))
    elif task == "events":
        assert found[0]["result"] == [asdict(event) for event in model.events(clip)]
        assert found[1]["result"] == model.describe(clip, 0.0, 0.5)
        told = model.events_long(clip)
        assert found[2]["result"] == json.loads(json.dumps(asdict(told)))
        assert found[3]["result"] == [asdict(event) for event in model.events(clip, 1.0)]
    elif task == "generate":
        expected = model.generate("red", seed=2, negative="blue"), model.generate(None, seed=3)
        for request, film in zip(asked, expected, strict=True):
            assert torch.equal(read_clip(request["out"]).frames, film.frames)
    elif task == "continue":
        greedy = Sampling(video=Draw(0.0), guidance=3.0)
        expected = model.continue_video(clip, 0.5, "red", 0, greedy)
        assert torch.equal(read_clip(asked[1]["out"]).frames, expected.frames)
    elif task == "infill":
        assert len(read_clip(asked[0]["out"])) == 4
    elif task == "write":
        told = write_command.write(
            tmp_path / "again",
            folder / "m",
            [clip],
            "red",
            seed=4,
            max_new=60,
            text_temperature=1.0,
            suffix="mkv",
        )
        parts = [dict(part) for part in found[0]["result"]]
        assert parts and len(parts) == len(told)
        for part, expected in zip(parts, map(asdict, told), strict=True):
            made = part.pop("clip", None), expected.pop("clip", None)
            assert part == expected and all(made) == any(made)
            if made[0]:
                assert Path(made[0]).parent == tmp_path / "w"
                assert torch.equal(*(read_clip(path).frames for path in made))


def mixed(folder: Path, out: Path) -> dict[str, list[dict[str, Any]]]:
    """Requests of several settings in turn, one of which cannot be answered."""
    clips = [str(folder / f"{i}.gif") for i in range(3)]
    stills = [str(folder / f"{i}.png") for i in range(3)]
    films = [{"seed": 5 + i % 3, "out": str(out / f"{i}.mkv")} for i in range(6)]
    words = [{"prompt": "red"}, {}, {"prompt": "it falls"}]
    ways = [{}, {"guidance": 4.0, "negative": "blue", "temperature": 0.7}]
    asked = [{**film, **words[i % 3], **ways[i // 2 % 2]} for i, film in enumerate(films)]
    wrong = {"out": str(out / "wrong.mkv"), "prompt": " "}
    labels = [["falls", "rises and falls"], "falls, rises"]
    recognized = [{"video": clips[i % 3], "labels": labels[i // 2 % 2]} for i in range(6)]
    recognized += [{**recognized[0], "tokens_per_frame": 1.0}, {**recognized[1], "normalise": True}]
    infilled = [{**each, "stills": [stills[i % 3]]} for i, each in enumerate(asked)]
    infilled[2] |= {"stills": [stills[0], stills[2]], "times": [0.25, 0.5]}
    asked_of = [["what?"], ["what?", "and then?"], ["who?", "what?", "why?"]]
    talks = [{"videos": clips[i : i + 1], "questions": asked_of[i]} for i in range(3)]
    told = [{"out": str(out / f"{i}"), "suffix": "mkv", "max_new": 60, "seed": i} for i in range(4)]
    told = [{**each, "text_temperature": 1.0 + i // 3} for i, each in enumerate(told)]
    told[1] |= {"videos": clips[1:2]}
    told[2] |= {"prompt": "red"}
    return {
        "chat": [*talks, {"videos": clips[:1], "questions": ["what?", " "]}],
        "write": [*told, {**told[0], "out": str(out / "wrong"), "prompt": " "}],
        "recognize": [*recognized, {**recognized[0], "video": "none.gif"}],
        "generate": [*asked, wrong],
        "continue": [
            {**each, "video": clips[i % 3], "seconds": 0.5}
            for i, each in enumerate([*asked[:3], wrong, *asked[3:]])
        ],
        "infill": [*infilled, {**wrong, "stills": stills[:1]}],
    }


@pytest.mark.filterwarnings("ignore:the model ended at once")
@pytest.mark.parametrize("task", ["chat", "recognize", "generate", "continue", "infill", "write"])
def test_requests_side_by_side_are_answered_as_one_by_one(
    folder: Path, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def answers(name: str) -> dict[str, Any]:
        (tmp_path / name).mkdir()
        asked = mixed(folder, tmp_path / name)[task]
        source, out = written(tmp_path / f"{name}.in", asked), tmp_path / f"{name}.out"
        assert run_requests(task, source, out, folder / "m").failed == 1
        lines = results(out)
        assert [line["request"] for line in lines] == asked
        assert [line["line"] for line in lines] == list(range(1, len(asked) + 1))
        return {json.dumps(line["request"]).replace(name, ""): line for line in lines}

    known = TASKS[task]

    def watched(model: Model, requests: Any) -> list[Any]:
        found = known.answer(model, requests)
        sizes.append(len(requests))
        return found

    monkeypatch.setitem(TASKS, task, replace(known, answer=watched))
    together = answers("together")
    assert max(sizes) > 1
    sizes.clear()
    monkeypatch.setitem(TASKS, task, replace(known, answer=watched, rows=1))
    alone = answers("alone")
    assert any(line.get("result") for line in alone.values())
    assert max(sizes) == 1 and together.keys() == alone.keys()
    for line, other in zip(together.values(), alone.values(), strict=True):
        assert line.get("error") == other.get("error")
        if task in ("chat", "write") and "result" in line:
            for one, by_itself in zip(line["result"], other["result"], strict=True):
                if "clip" in one:
                    paths = one.pop("clip"), by_itself.pop("clip")
                    assert torch.equal(*(read_clip(path).frames for path in paths))
                assert one == by_itself
        elif task != "recognize" and "result" in line:
            assert line["result"] == line["request"]["out"]
            assert torch.equal(*(read_clip(each["result"]).frames for each in (line, other)))
        elif "result" in line:
            for one, by_itself in zip(line["result"], other["result"], strict=True):
                assert one == {
                    **by_itself,
                    **{
                        key: pytest.approx(by_itself[key], abs=1e-4)
                        for key in ("probability", "log_likelihood")
                    },
                }


def test_films_are_made_in_parts_that_can_be_held(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counted(name: str) -> None:
        made = getattr(Model, name)

        def watched(model: Model, given: list[Any], *rest: Any, **more: Any) -> Any:
            sizes.append(len(given))
            return made(model, given, *rest, **more)

        monkeypatch.setattr(Model, name, watched)

    counted("generate_batch")
    counted("continue_batch")
    monkeypatch.setattr("lm.film_requests.MAX_FRAMES", 16)  # four films of 4 frames
    outs = [str(tmp_path / f"{i}.mkv") for i in range(5)]
    clip = str(folder / "0.gif")
    for task, request, expected in (
        ("generate", {}, [4, 1]),
        ("generate", {"prompt": "red", "candidates": 2}, [2, 2, 1]),
        ("continue", {"video": clip, "seconds": 0.5}, [2, 2, 1]),
    ):
        source = written(tmp_path / "in", [{**request, "out": out} for out in outs])
        sizes.clear()
        (tmp_path / "out").unlink(missing_ok=True)
        assert run_requests(task, source, tmp_path / "out", folder / "m").answered == 5
        assert sizes == expected


def test_a_request_may_read_what_one_before_it_wrote(folder: Path, tmp_path: Path) -> None:
    first, second, clip = tmp_path / "a.mkv", tmp_path / "b.mkv", str(folder / "0.gif")
    first.write_bytes((folder / "1.gif").read_bytes())  # of a run before
    asked = [{"video": clip, "seconds": 0.5, "out": str(first)}]
    asked += [{"video": str(first), "seconds": 0.5, "out": str(second)}]
    source = written(tmp_path / "in.jsonl", asked)
    assert run_requests("continue", source, tmp_path / "out.jsonl", folder / "m").answered == 2
    model = Model.load(folder / "m")
    longer = model.continue_video(model.continue_video(clip, 0.5), 0.5)
    assert torch.equal(read_clip(second).frames, longer.frames)


@pytest.mark.parametrize("task", ["continue", "infill"])
def test_what_a_request_reads_is_not_written_over(folder: Path, task: str, tmp_path: Path) -> None:
    for name in ("0.gif", "0.png"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    clip, still = str(tmp_path / "0.gif"), str(tmp_path / "0.png")
    asked = {
        "continue": {"video": clip, "seconds": 0.5, "out": clip},
        "infill": {"stills": [still], "out": still},
    }[task]
    source = written(tmp_path / "in.jsonl", [asked])
    with pytest.raises(ValueError, match="in.jsonl:1: .* is what line 1 reads: give another"):
        run_requests(task, source, tmp_path / "out.jsonl", folder / "m")
    for name in ("0.gif", "0.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_requests_may_name_a_rate(folder: Path, tmp_path: Path) -> None:
    clip, asked = str(folder / "0.gif"), {}
    rated = {"video": clip, "tokens_per_frame": 1.0}
    asked["caption"] = [
        {"video": clip},
        rated,
        {**rated, "samples": 2},
        {**rated, "long": "chunks"},
    ]
    asked["ask"] = [{**rated, "question": "what?"}, {"video": clip, "question": "what?"}]
    asked["recognize"] = [{**rated, "labels": ["red", "blue"]}]
    found = {}
    for task, lines in asked.items():
        out = tmp_path / f"{task}.out"
        run_requests(task, written(tmp_path / f"{task}.in", lines), out, folder / "m")
        found[task] = [line.get("result", line.get("error")) for line in results(out)]
    model = Model.load(folder / "m")
    few = model.encode(clip, 1.0)
    assert few.num_tokens < model.encode(clip).num_tokens
    assert found["caption"][:3] == [model.caption(clip), model.caption(few), model.captions(few, 2)]
    assert "tokens_per_frame=1 with long=chunks" in found["caption"][3]
    assert found["ask"] == [model.ask(few, "what?"), model.ask(clip, "what?")]
    ranked = [asdict(score) for score in model.recognize(few, ["red", "blue"])]
    assert found["recognize"] == [ranked]


def test_one_bad_request_does_not_keep_others_from_being_answered(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [{"video": str(folder / f"{name}.gif")} for name in ("0", "none", "1")]
    written(tmp_path / "in.jsonl", asked)
    words = ["--jsonl", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    assert main(["caption", *words, "--model", str(folder / "m"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["failed"] == 1
    found = results(tmp_path / "out.jsonl")
    assert [line["line"] for line in found] == [1, 2, 3]
    assert "none.gif" in found[1]["error"] and "result" in found[0] and "result" in found[2]


def test_a_strategy_that_is_none_spoils_its_own_request_alone(folder: Path, tmp_path: Path) -> None:
    clip = str(folder / "0.gif")
    asked = [{"video": clip, "long": long} for long in ("chunks", "some")] + [{"video": clip}]
    report = run_requests(
        "caption", written(tmp_path / "in.jsonl", asked), tmp_path / "out.jsonl", folder / "m"
    )
    assert (report.answered, report.failed) == (2, 1)
    found = results(tmp_path / "out.jsonl")
    assert "choose one of chunks" in found[1]["error"]
    assert found[0]["result"]["readings"] == 1 and isinstance(found[2]["result"], str)


@pytest.mark.parametrize(
    ("task", "number", "code"), [("caption", signal.SIGINT, 130), ("ask", signal.SIGTERM, 143)]
)
def test_an_interrupted_run_leaves_whole_lines_and_goes_on(
    folder: Path,
    tmp_path: Path,
    task: str,
    number: signal.Signals,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[dict[str, Any]] = [{"video": str(folder / f"{i % 3}.gif")} for i in range(5)]
    if task == "ask":
        asked = [{**request, "question": f"what is {i}?"} for i, request in enumerate(asked)]
    monkeypatch.setitem(TASKS, task, replace(TASKS[task], rows=2))
    source, out, whole = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "whole.jsonl"))
    written(source, asked)
    words = [task, "--jsonl", str(source), "--model", str(folder / "m")]
    answer, calls = lm_requests._answer, []

    def stopping(*given: Any) -> list[dict[str, Any]]:
        calls.append(given)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return answer(*given)

    with monkeypatch.context() as patch:
        patch.setattr(lm_requests, "_answer", stopping)
        assert main([*words, "--out", str(out)]) == code
    assert f"interrupted; 2 of 5 results are in {out}" in capsys.readouterr().err
    assert [line["line"] for line in results(out)] == [1, 2] and out.read_bytes()[-1:] == b"\n"
    assert main([*words, "--out", str(out)]) == main([*words, "--out", str(whole)]) == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_stopped_run_goes_on(folder: Path, tmp_path: Path) -> None:
    asked = [{"video": str(folder / f"{i % 3}.gif")} for i in range(5)]
    source, out = written(tmp_path / "in.jsonl", asked), tmp_path / "out.jsonl"
    run_requests("caption", source, out, folder / "m")
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:2]) + lines[2][:7])  # killed in the middle of a line
    assert run_requests("caption", source, out, folder / "m").resumed_at == 2
    assert out.read_bytes() == whole
    assert run_requests("caption", source, out, folder / "m").resumed_at == 5
    out.write_bytes(whole + b"my notes")
    with pytest.raises(ValueError, match="holds other things"):
        run_requests("caption", source, out, folder / "m")
    out.write_bytes(whole)
    written(source, asked[::-1])
    with pytest.raises(ValueError, match="holds other things"):
        run_requests("caption", source, out, folder / "m")
    assert out.read_bytes() == whole


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[]", "give an object"),
        ('{"video": "a", "qestion": "b"}', "did you mean 'question'"),
        ('{"video": "a"}', "no question; add it"),
        ('{"video": 1, "question": "b"}', "video=1: give a path"),
        ('{"video": " ", "question": "b"}', "video=' ': give a path"),
        ('{"video": null, "question": "b"}', "video=None: give a path"),
        ('{"video": "a", "question": "b", "choices": [1]}', "choices=.* a list of texts"),
        ('{"video": "a", "question": "\\ud800"}', "half of a surrogate pair"),
        ('{"video": "a", "question": "b", "video": "c"}', "key 'video' stands there twice; drop"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_lines_that_are_no_requests_are_named(
    folder: Path, tmp_path: Path, line: str, message: str
) -> None:
    (tmp_path / "in.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=message) as error:
        run_requests("ask", tmp_path / "in.jsonl", tmp_path / "out.jsonl", folder / "m")
    assert "in.jsonl:1" in str(error.value)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("continue", {"video": "a", "seconds": "1", "out": "b.mp4"}, "seconds='1': give a number"),
        ("generate", {"out": 5}, "out=5: give a path"),
        ("generate", {"out": "a.mp4", "seed": 1.5}, "seed=1.5: give a whole number"),
        ("generate", {"out": "a.mp4", "seed": True}, "seed=True: give a whole number"),
        ("generate", {"out": "a.mp4", "guidance": float("nan")}, "guidance=nan: give a number"),
        ("generate", {"out": "a.mp4", "top_p": 10**400}, "top_p=1000"),
        ("events", {"video": "a", "start": "1"}, "start='1': give a number"),
        ("locate", {"video": "a", "event": ["b"]}, "event=.* give a text"),
        ("chat", {"videos": ["a"], "questions": "ab"}, "questions='ab': give a list of texts"),
        ("infill", {"stills": [], "out": "a.mp4"}, "stills=.* a list of texts"),
    ],
)
def test_settings_of_another_kind_are_named(
    folder: Path, tmp_path: Path, task: str, line: dict[str, Any], message: str
) -> None:
    written(tmp_path / "in.jsonl", [line])
    with pytest.raises(ValueError, match=message):
        run_requests(task, tmp_path / "in.jsonl", tmp_path / "out.jsonl", folder / "m")


def test_failed_requests_are_asked_again_once_their_lines_are_gone(
    folder: Path, tmp_path: Path
) -> None:
    late = tmp_path / "late.gif"
    asked = [{"video": str(folder / "0.gif")}, {"video": str(late)}]
    asked += [{"video": str(folder / f"{name}.gif")} for name in (1, 2)]
    source, out = written(tmp_path / "in.jsonl", asked), tmp_path / "out.jsonl"
    assert run_requests("caption", source, out, folder / "m").failed == 1
    late.write_bytes((folder / "2.gif").read_bytes())
    again = run_requests("caption", source, out, folder / "m")
    assert (again.failed, again.resumed_at) == (1, 4)
    lines = out.read_bytes().splitlines(keepends=True)
    for rest in (b"", lines[1][:90]):  # killed as it is asked again
        out.write_bytes(lines[0] + lines[2] + lines[3] + rest)
        again = run_requests("caption", source, out, folder / "m")
        assert (again.answered, again.failed, again.resumed_at) == (4, 0, 3)
        found = results(out)
        assert [line["line"] for line in found] == [1, 3, 4, 2]
        assert found[3]["request"] == asked[1] and found[3]["result"] == found[2]["result"]
    others = lines[0] + lines[2] + lines[3]
    for wrong in (lines[0] * 2, lines[0].replace(b": 1,", b": 5,"), others + b'{"line": 4'):
        out.write_bytes(wrong)
        with pytest.raises(ValueError, match="holds other things"):
            run_requests("caption", source, out, folder / "m")
        assert out.read_bytes() == wrong


def test_results_of_another_model_or_task_are_not_gone_on_with(
    folder: Path, tmp_path: Path, model: Model
) -> None:
    model.save(tmp_path / "other")
    Model.load(folder / "m").save(tmp_path / "copy")
    asked = [{"video": str(folder / f"{i}.gif")} for i in range(2)]
    source, out = written(tmp_path / "in.jsonl", asked), tmp_path / "out.jsonl"
    run_requests("caption", source, out, folder / "m")
    assert run_requests("caption", source, out, tmp_path / "copy").resumed_at == 2
    first = out.read_bytes().splitlines(keepends=True)[0]
    out.write_bytes(first)
    other = Model.load(tmp_path / "other")
    with torch.no_grad():
        next(other.decoder.parameters()).add_(0.01)
    other.save(tmp_path / "other")
    with pytest.raises(ValueError, match="results of a model .*, this is .*: give another --out"):
        run_requests("caption", source, out, tmp_path / "other")
    with pytest.raises(ValueError, match="results of a task caption, this is events: give another"):
        run_requests("events", source, out, folder / "m")
    assert out.read_bytes() == first
    old = {key: value for key, value in json.loads(first).items() if key not in ("task", "model")}
    written(out, [old])
    with pytest.raises(ValueError, match="that it does not name, this is .*: give another --out"):
        run_requests("caption", source, out, folder / "m")
    assert results(out) == [old]


def test_requests_that_write_one_file_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    outs = ("a.mkv", "b.mkv", "link/a.mkv")
    asked = [{"out": str(tmp_path / out), "seed": seed} for seed, out in enumerate(outs)]
    source, out = written(tmp_path / "in.jsonl", asked), tmp_path / "out.jsonl"
    message = r"in.jsonl:3: out='.*link/a.mkv' is taken by line 1: give another"
    with pytest.raises(ValueError, match=message):
        run_requests("generate", source, out, folder / "m")
    for name, by in (("out.jsonl", "--out"), ("in.jsonl", "the requests' file")):
        written(source, [{"out": str(tmp_path / "link" / name)}])
        with pytest.raises(ValueError, match=f"in.jsonl:1: .* is taken by {by}: give another"):
            run_requests("generate", source, out, folder / "m")
    assert not out.exists() and not (tmp_path / "a.mkv").exists()


@pytest.mark.parametrize("kind", ["device", "fifo", "folder"])
def test_results_go_to_a_regular_file(folder: Path, tmp_path: Path, kind: str) -> None:
    source, out = written(tmp_path / "in.jsonl", [{"video": "a"}]), tmp_path / "out"
    if kind == "device":
        out = Path("/dev/null")
    elif kind == "fifo":
        os.mkfifo(out)
    else:
        out.mkdir()
    with pytest.raises(ValueError, match=f"{out} is no regular file: give another --out"):
        run_requests("caption", source, out, folder / "m")


@pytest.mark.parametrize("precious", [b"my notes", b"my notes\n", b"one\ntwo", b"\x00\xff", b'{"l'])
def test_other_files_are_not_written_over(folder: Path, tmp_path: Path, precious: bytes) -> None:
    source = written(tmp_path / "in.jsonl", [{"video": str(folder / "0.gif")}])
    out = tmp_path / "out.jsonl"
    out.write_bytes(precious)
    if precious == b'{"l':  # as a result begins
        assert run_requests("caption", source, out, folder / "m").answered == 1
        return
    with pytest.raises(ValueError, match="holds other things"):
        run_requests("caption", source, out, folder / "m")
    assert out.read_bytes() == precious
    with pytest.raises(ValueError, match="holds the requests"):
        run_requests("caption", source, source, folder / "m")


def test_lines_end_at_line_feeds_alone(folder: Path, tmp_path: Path) -> None:
    question = "what\u2028is\x85it?"
    asked = [{"video": str(folder / "0.gif"), "question": question}] * 2
    source = tmp_path / "in.jsonl"
    text = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in asked)
    source.write_bytes(("\ufeff" + text).encode())
    out = tmp_path / "out.jsonl"
    assert run_requests("ask", source, out, folder / "m").answered == 2
    assert run_requests("ask", source, out, folder / "m").resumed_at == 2
    source.write_bytes(b'{"video": "\xff", "question": "a"}')
    with pytest.raises(ValueError, match=r"in.jsonl:1: not UTF-8 \(byte 12\)"):
        run_requests("ask", source, out, folder / "m")


def test_settings_of_captions(folder: Path, tmp_path: Path) -> None:
    clip = str(folder / "0.gif")
    asked = [
        {"video": clip, "samples": 3, "seed": 5},
        {"video": clip, "beams": 2},
        {"video": clip, "beams": 2, "samples": 2},
        {"video": clip, "long": None},
    ]
    source = written(tmp_path / "in.jsonl", asked)
    report = run_requests("caption", source, tmp_path / "out.jsonl", folder / "m")
    found, model = results(tmp_path / "out.jsonl"), Model.load(folder / "m")
    assert (report.answered, report.failed) == (3, 1)
    assert found[0]["result"] == model.captions(clip, 3, seed=5)
    assert found[1]["result"] == model.best_captions(clip, 2)[0].text
    assert "one at a time" in found[2]["error"]
    assert found[3]["result"] == model.caption(clip)


def test_names_may_stand_in_one_text(folder: Path, tmp_path: Path) -> None:
    clip = str(folder / "0.gif")
    asked = [
        {"video": clip, "labels": "falls, rises"},
        {"video": clip, "labels": ["falls", "rises"]},
    ]
    source = written(tmp_path / "in.jsonl", asked)
    run_requests("recognize", source, tmp_path / "out.jsonl", folder / "m")
    first, second = (line["result"] for line in results(tmp_path / "out.jsonl"))
    assert first == second and {score["label"] for score in first} == {"falls", "rises"}


def test_results_that_do_not_fit_name_their_file(folder: Path, tmp_path: Path) -> None:
    asked = requests_of(folder, tmp_path)["caption"][:1]
    lines, out = written(tmp_path / "in.jsonl", asked), tmp_path / "out.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # as a full disk
    try:
        with pytest.raises(OSError) as raised:
            run_requests("caption", lines, out, folder / "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.filename == str(out)
    assert run_requests("caption", lines, out, folder / "m").answered == 1


def test_what_a_line_before_reads_is_not_written(folder: Path, tmp_path: Path) -> None:
    """A later line may read what an earlier one writes, but no line writes a source."""
    clip, new = tmp_path / "clip.mkv", tmp_path / "new.mkv"
    clip.write_bytes((folder / "0.gif").read_bytes())
    kept = clip.read_bytes()
    first = {"video": str(clip), "seconds": 0.5, "out": str(new)}
    back = {"video": str(new), "seconds": 0.5, "out": str(clip)}
    out = tmp_path / "out.jsonl"
    with pytest.raises(ValueError, match=r"in.jsonl:2: out='.*clip.mkv' is what line 1 reads"):
        run_requests("continue", written(tmp_path / "in.jsonl", [first, back]), out, folder / "m")
    assert clip.read_bytes() == kept and not new.exists()
