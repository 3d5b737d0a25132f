"""Requests: many questions to one model from a JSONL file, their results in another.

A line of requests is an object of a command's own settings, such as {"video": ..., "question":
...}; a line of results is the request's number, the task and the model that answered, the request,
and its result or its error. A run that was stopped goes on with what has no line yet. Knows files,
not what is asked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.atomic import full_disk_named
from data.interrupts import CutShort, undivided
from lm.completing import chunks
from lm.request_tasks import TASKS, Request, RequestTask, sources_of
from lm.tasks import Model
from tokenizer.identity import weights_hash
from tokenizer.progress import progress_bar


@dataclass(frozen=True)
class Requested:
    """What became of the requests of a file."""

    out: str  # file of results, a line each
    requests: int
    answered: int  # in all
    failed: int  # in all
    resumed_at: int  # results that were there before


def run_requests(task: str, jsonl: Path, out: Path, model: Path) -> Requested:
    """Answer every line of a file of requests; run again, go on where it stopped.

    Args:
        task: A command's name, one of `TASKS`.
        jsonl: The file of requests.
        out: The file of results; requests that have a line there, be it of an error, are not asked
            again.
        model: Folder of a model.

    Raises:
        FileNotFoundError: No such file of requests, or no model.
        ValueError: A line that is no request or writes what another writes, named by its number; or
            `out` is no regular file, or holds something else or results of another task or model.
        CutShort: Ctrl-C. `out` holds whole lines.
    """
    if out.exists() and not out.is_file():
        raise ValueError(f"{out} is no regular file: give another --out")
    if out.exists() and jsonl.exists() and out.samefile(jsonl):
        raise ValueError(f"{out} holds the requests: give another --out")
    taken = {os.path.realpath(jsonl): "the requests' file", os.path.realpath(out): "--out"}
    asked = dict(enumerate(_read(jsonl, TASKS[task], taken), 1))
    loaded = Model.load(model)
    by = {"task": task, "model": weights_hash(loaded.decoder, loaded.codec.codec_id)[:12]}
    done = _resume(out, asked, by)
    left = [(number, request) for number, request in asked.items() if number not in done]
    failed, written = sum("error" in line for line in done.values()), len(done)
    try:
        with full_disk_named(out), out.open("ab") as file, progress_bar(task) as progress:
            for part in chunks(left, TASKS[task].rows):
                answers = _answer(TASKS[task], loaded, [request for _, request in part])
                with undivided():  # lines stay whole
                    for (number, request), found in zip(part, answers, strict=True):
                        failed += "error" in found
                        file.write(_line(number, by, request, found))
                    file.flush()
                    written += len(part)
                progress(part[-1][0], len(asked))
    except KeyboardInterrupt:
        raise CutShort(
            f"interrupted; {written} of {len(asked)} results are in {out}, the same command goes on"
        ) from None
    return Requested(str(out), len(asked), len(asked) - failed, failed, len(done))


def _line(number: int, by: Mapping[str, str], request: Request, found: Request) -> bytes:
    line = {"line": number, **by, "request": request, **found}
    return (json.dumps(line, ensure_ascii=False) + "\n").encode()


def _answer(task: RequestTask, model: Model, requests: Sequence[Request]) -> list[Request]:
    """Results of some requests, in their order; those that are alike are answered together."""
    given = [{key: value for key, value in r.items() if value is not None} for r in requests]
    found: dict[int, Request] = {}
    for places in task.alike(given):
        results = _together(task, model, [given[place] for place in places])
        found |= zip(places, results, strict=True)
    return [found[place] for place in range(len(given))]


def _together(task: RequestTask, model: Model, requests: Sequence[Request]) -> list[Request]:
    """Results of requests that are alike, in ever smaller parts where one cannot be answered."""
    try:
        return [{"result": result} for result in task.answer(model, requests)]
    except (ValueError, OSError) as error:
        if len(requests) > 1:
            half = len(requests) // 2
            parts = requests[:half], requests[half:]
            return [found for part in parts for found in _together(task, model, part)]
        return [{"error": " ".join(str(error).split())}]


def _read(path: Path, task: RequestTask, taken: dict[str, str]) -> Iterator[Request]:
    """Requests, none of which writes a file that is taken; what each takes is put down there."""
    lines, read = path.read_bytes().split(b"\n"), dict[str, int]()  # by which line first
    for number, line in enumerate(lines[:-1] if not lines[-1].strip() else lines, 1):
        try:
            request = _parsed(line)
            task.check(request)
            if "out" in request:
                by = taken.setdefault(os.path.realpath(request["out"]), mine := f"line {number}")
                if by != mine:
                    raise ValueError(f"out={request['out']!r} is taken by {by}: give another")
            for source in sources_of(request):
                read.setdefault(os.path.realpath(source), number)
            if "out" in request and (before := read.get(os.path.realpath(request["out"]))):
                raise ValueError(
                    f"out={request['out']!r} is what line {before} reads: give another"
                )
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
        yield request


def _parsed(line: bytes) -> Request:
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from None
    try:
        request = json.loads(text, object_pairs_hook=_object)
    except KeyError as error:
        raise ValueError(f"key {error} stands there twice; drop one") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error}); mend the line") from None
    try:
        json.dumps(request, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair, which is no text; drop it") from None
    return request


def _object(pairs: list[tuple[str, Any]]) -> Request:
    """An object of JSON whose keys differ; KeyError: the one that stands there twice."""
    found: Request = {}
    for key, value in pairs:
        if key in found:
            raise KeyError(key)
        found[key] = value
    return found


def _resume(out: Path, asked: Mapping[int, Request], by: Mapping[str, str]) -> dict[int, Request]:
    """The results that are there, checked; a last line that was cut short is taken away."""
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        return {}
    content = out.read_bytes()
    *lines, rest = content.split(b"\n")
    try:
        results = [json.loads(line) for line in lines]
        done = {line["line"]: line for line in results}
        same = len(done) == len(results)
        same = same and all(line["request"] == asked[number] for number, line in done.items())
    except (ValueError, KeyError, TypeError, RecursionError):
        same, done = False, {}
    for line in done.values() if same else ():
        for key, ours in by.items():
            if line.get(key) != ours:
                theirs = line.get(key, "that it does not name")
                raise ValueError(
                    f"{out} holds results of a {key} {theirs}, this is {ours}: give another --out"
                )
    if same and rest:  # the next result, cut short, or something of the user's
        number = next((number for number in asked if number not in done), 0)
        whole = _line(number, by, asked.get(number, {}), {})[:-2]
        same = rest.startswith(whole) if len(rest) > len(whole) else whole.startswith(rest)
    if not same:
        raise ValueError(f"{out} holds other things: give another --out, or remove it")
    if rest:
        with out.open("r+b") as file:
            file.truncate(len(content) - len(rest))
    return done
