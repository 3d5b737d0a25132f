"""Requests: many questions to one model from a JSONL file, their results in another.

A line of requests is an object of a command's own options, such as {"video": ..., "question": ...};
a line of results is the request's number, the request, and its result or its error. A run that was
stopped goes on where it was. Knows files and which method serves which command, not how.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lm.completing import chunks
from lm.document import Time
from lm.infilling import read_stills
from lm.locating import describe, list_events, locate
from lm.long.answer import LongAnswer
from lm.sampling import Draw, Sampling
from lm.tasks import Model
from tokenizer.progress import progress_bar

Request = dict[str, Any]
ROWS = 32  # requests answered side by side


@dataclass(frozen=True)
class Requested:
    """What became of the requests of a file."""

    out: str  # file of results, a line each
    requests: int
    answered: int  # in all
    failed: int  # in all
    resumed_at: int  # results that were there before


@dataclass(frozen=True)
class _Task:
    """What requests of a command hold, and what answers a list of them."""

    needed: tuple[str, ...]
    optional: tuple[str, ...]
    answer: Callable[[Model, Sequence[Request]], list[Any]]


def run_requests(task: str, jsonl: Path, out: Path, model: Path) -> Requested:
    """Answer every line of a file of requests; run again, go on where it stopped.

    Args:
        task: A command's name, one of `TASKS`.
        jsonl: The file of requests.
        out: The file of results; lines that are there are not asked again.
        model: Folder of a model.

    Raises:
        FileNotFoundError: No such file of requests, or no model.
        ValueError: A line that is no request, named by its number; or `out` holds other results.
    """
    asked = list(_read(jsonl, TASKS[task]))
    done = _resume(out, asked)
    loaded, failed = Model.load(model), sum("error" in line for line in done)
    with out.open("a") as file, progress_bar(task) as progress:
        for part in chunks(list(enumerate(asked))[len(done) :], ROWS):
            for (number, request), found in zip(part, _answer(task, loaded, part), strict=True):
                failed += "error" in found
                line = {"line": number + 1, "request": request, **found}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            progress(part[-1][0] + 1, len(asked))
    return Requested(str(out), len(asked), len(asked) - failed, failed, len(done))


def _answer(task: str, model: Model, part: Sequence[tuple[int, Request]]) -> list[Request]:
    """Results of some requests: together, or one by one where one of them cannot be answered."""
    requests = [request for _, request in part]
    try:
        return [{"result": result} for result in TASKS[task].answer(model, requests)]
    except (ValueError, OSError) as error:
        if len(part) > 1:
            return [found for one in part for found in _answer(task, model, [one])]
        return [{"error": " ".join(str(error).split())}]


def _read(path: Path, task: _Task) -> Iterator[Request]:
    known = (*task.needed, *task.optional)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            request = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: not JSON ({error}); mend the line") from None
        if not isinstance(request, dict):
            raise ValueError(f"{path}:{number}: give an object such as {{{', '.join(known)}}}")
        for key in request:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean '{close[0]}'?" if close else "drop it;"
                raise ValueError(
                    f"{path}:{number}: unknown key '{key}'; {hint} known: {', '.join(known)}"
                )
        missing = [key for key in task.needed if key not in request]
        if missing:
            raise ValueError(f"{path}:{number}: no {' and no '.join(missing)}; add it")
        yield request


def _resume(out: Path, asked: Sequence[Request]) -> list[Request]:
    """The results that are there, checked; a last line that was cut short is taken away."""
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        return []
    content = out.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with out.open("r+b") as file:
            file.truncate(len(whole))
    other = f"{out} holds other results: give another --out, or remove it"
    try:
        done = [json.loads(line) for line in whole.decode().splitlines()]
        same = [line["request"] for line in done] == list(asked[: len(done)])
    except (ValueError, KeyError, TypeError):
        raise ValueError(other) from None
    if not same:
        raise ValueError(other)
    return done


def _caption(model: Model, requests: Sequence[Request]) -> list[Any]:
    if any("long" in r for r in requests):
        return [_said(model.caption(r["video"], r.get("long"))) for r in requests]
    return model.caption_batch([r["video"] for r in requests])


def _ask(model: Model, requests: Sequence[Request]) -> list[Any]:
    if any(r.get("choices") or "long" in r for r in requests):
        return [
            _said(model.ask(r["video"], r["question"], r.get("choices") or (), r.get("long")))
            for r in requests
        ]
    return model.ask_batch([r["video"] for r in requests], [r["question"] for r in requests])


def _said(answer: str | LongAnswer) -> Any:
    """A text as it is; what was read off a long video with what it took."""
    return asdict(answer) if isinstance(answer, LongAnswer) else answer


def _chat(model: Model, requests: Sequence[Request]) -> list[Any]:
    answers = []
    for request in requests:
        talk = model.chat(request["video"])
        answers.append([talk.ask(question) for question in request["questions"]])
    return answers


def _recognize(model: Model, requests: Sequence[Request]) -> list[Any]:
    ranked = [
        model.recognize(r["video"], r["labels"], normalise=r.get("normalise", False))
        for r in requests
    ]
    return [[asdict(score) for score in scores] for scores in ranked]


def _locate(model: Model, requests: Sequence[Request]) -> list[Any]:
    found = locate(model, [r["video"] for r in requests], [r["event"] for r in requests])
    return [asdict(time) for time in found]


def _events(model: Model, requests: Sequence[Request]) -> list[Any]:
    found: list[Any] = [None] * len(requests)
    for asks in (False, True):
        rows = [i for i, r in enumerate(requests) if ("start" in r) == asks]
        videos = [requests[i]["video"] for i in rows]
        if asks:
            times = [Time(requests[i]["start"], requests[i].get("end")) for i in rows]
            said: list[Any] = list(describe(model, videos, times))
        else:
            said = [[asdict(event) for event in events] for events in list_events(model, videos)]
        for i, each in zip(rows, said, strict=True):
            found[i] = each
    return found


def _generate(model: Model, requests: Sequence[Request]) -> list[Any]:
    from data.writing import check_target, write_video

    for request in requests:
        check_target(Path(request["out"]))
    made = []
    for r in requests:
        options = {key: r[key] for key in r if key not in ("prompt", "out")}
        made.append(model.generate(r.get("prompt"), **options))
    for clip, request in zip(made, requests, strict=True):
        write_video(clip, Path(request["out"]))
    return [request["out"] for request in requests]


def _continue(model: Model, requests: Sequence[Request]) -> list[Any]:
    from data.writing import check_target, write_video

    for r in requests:
        check_target(Path(r["out"]))
        draw = Draw(r.get("temperature", 1.0), min_p=r.get("min_p", 0.2))
        way = Sampling(video=draw, guidance=r.get("guidance", 2.0))
        clip = model.continue_video(
            r["video"], r["seconds"], r.get("prompt"), r.get("seed", 0), way, r.get("overlap")
        )
        write_video(clip, Path(r["out"]))
    return [r["out"] for r in requests]


def _infill(model: Model, requests: Sequence[Request]) -> list[Any]:
    from data.writing import check_target, write_video

    for r in requests:
        check_target(Path(r["out"]))
        stills = read_stills(model, [Path(p) for p in r["stills"]], r.get("times"))
        way = Sampling(video=Draw(min_p=0.2), guidance=r.get("guidance", 2.0), context_guidance=1.5)
        clip = model.infill(stills, r.get("prompt"), r.get("seed", 0), way)
        write_video(clip, Path(r["out"]))
    return [r["out"] for r in requests]


_DRAWS = ("seconds", "seed", "guidance", "temperature", "top_k", "top_p", "min_p")
TASKS = {
    "caption": _Task(("video",), ("long",), _caption),
    "ask": _Task(("video", "question"), ("choices", "long"), _ask),
    "chat": _Task(("video", "questions"), (), _chat),
    "recognize": _Task(("video", "labels"), ("normalise",), _recognize),
    "locate": _Task(("video", "event"), (), _locate),
    "events": _Task(("video",), ("start", "end"), _events),
    "generate": _Task(
        ("out",),
        ("prompt", *_DRAWS, "tokens_per_frame", "candidates", "negative", "overlap"),
        _generate,
    ),
    "continue": _Task(
        ("video", "seconds", "out"),
        ("prompt", "seed", "guidance", "temperature", "min_p", "overlap"),
        _continue,
    ),
    "infill": _Task(("stills", "out"), ("times", "prompt", "seed", "guidance"), _infill),
}
