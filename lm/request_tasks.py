"""What can be asked in a line of JSON: for each command its settings and what answers them.

Knows which method serves which command, not how, and no files of requests.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.clip import Clip
from lm.commands import check_drawn
from lm.document import Time
from lm.drawing import MIN_P, Draw, Sampling
from lm.infilling import read_stills
from lm.locating import describe, list_events, locate
from lm.long.answer import LongAnswer
from lm.long.asking import check_rate
from lm.tasks import Model
from lm.watching import Seen
from lm.write_command import Writing

Request = dict[str, Any]
Answer = Callable[[Model, Sequence[Request]], list[Any]]
ROWS = 32  # requests that are answered side by side
LARGEST = 1e300  # of numbers
RATE = "tokens_per_frame"


@dataclass(frozen=True)
class Kind:
    """What a setting's value has to be."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < LARGEST


def _are(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


TEXT = Kind("a text", _is_text)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind("a number", _is_number)
WHOLE = Kind("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool))
TEXTS = Kind("a list of texts", _are(_is_text))
NUMBERS = Kind("a list of numbers", _are(_is_number))
NAMES = Kind(
    "a list of texts, or a text with commas between", lambda v: TEXT.fits(v) or TEXTS.fits(v)
)


@dataclass(frozen=True)
class RequestTask:
    """A command's settings, and what answers a list of requests."""

    needed: Mapping[str, Kind]
    optional: Mapping[str, Kind]
    answer: Answer
    rows: int = 1  # requests at a time

    def check(self, request: Any) -> None:
        """Refuse what is no request.

        Raises:
            ValueError: what is wrong with it, and how to mend it.
        """
        known = {**self.needed, **self.optional}
        names = ", ".join(known)
        if not isinstance(request, dict):
            raise ValueError(f"give an object such as {{{names}}}")
        for key, value in request.items():
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean '{close[0]}'?" if close else "drop it;"
                raise ValueError(f"unknown key '{key}'; {hint} known: {names}")
            if value is None and key in self.optional:
                continue
            if not known[key].fits(value):
                raise ValueError(f"{key}={value!r:.60}: give {known[key].words}")
        missing = [key for key in self.needed if key not in request]
        if missing:
            raise ValueError(f"no {' and no '.join(missing)}; add it")


def _each(answer: Callable[[Model, Request], Any]) -> Answer:
    return lambda model, requests: [answer(model, request) for request in requests]


def _caption(model: Model, requests: Sequence[Request]) -> list[Any]:
    if all(set(request) <= {"video", RATE} for request in requests):
        return model.caption_batch([_seen(model, request) for request in requests])
    return [_captions(model, **request) for request in requests]


def _captions(
    model: Model,
    video: str,
    samples: int = 1,
    temperature: float = 0.8,
    seed: int = 0,
    beams: int | None = None,
    long: str | None = None,
    tokens_per_frame: float | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
) -> Any:
    """A caption, or as many as `samples`; of a long video with what it took."""
    if samples < 1 or (beams is not None and beams < 1):
        raise ValueError(f"samples={samples}, beams={beams}: give 1 or more")
    if (samples > 1) + ((beams or 1) > 1) + (long is not None) > 1:
        raise ValueError("samples, beams and long go one at a time: leave the others out")
    check_drawn(samples, top_k, top_p)
    if long is not None:
        check_rate(long, tokens_per_frame)
        return _said(model.caption(video, long))
    seen = model.encode(video, tokens_per_frame)
    if samples > 1:
        drawn = {"temperature": temperature, "seed": seed, "top_k": top_k, "top_p": top_p}
        return model.captions(seen, samples, **drawn)
    return model.caption(seen, beams=beams)


def _seen(model: Model, request: Request) -> Seen:
    """The video of a request, encoded where it names a rate; others are encoded side by side."""
    rate = request.get(RATE)
    return request["video"] if rate is None else model.encode(request["video"], rate)


def _ask(model: Model, requests: Sequence[Request]) -> list[Any]:
    for request in requests:
        check_rate(request.get("long"), request.get(RATE))
    seen = [_seen(model, request) for request in requests]
    if all(set(request) <= {"video", "question", RATE} for request in requests):
        return model.ask_batch(seen, [r["question"] for r in requests])
    found: list[Any] = []
    for video, r in zip(seen, requests, strict=True):
        rest = _names(r.get("choices", [])), r.get("long"), r.get("beams", 1)
        found.append(_said(model.ask(video, r["question"], *rest)))
    return found


def _said(answer: str | LongAnswer) -> Any:
    """A text as it is; what was read off a long video with what it took."""
    return asdict(answer) if isinstance(answer, LongAnswer) else answer


def _names(value: str | list[str]) -> list[str]:
    if isinstance(value, str):
        value = [name for name in map(str.strip, value.split(",")) if name]
    return value


def _chat(model: Model, request: Request) -> list[str]:
    videos = request["videos"]
    talk = model.chat(*([videos] if isinstance(videos, str) else videos))
    return [talk.ask(question) for question in request["questions"]]


def _recognize(model: Model, request: Request) -> list[dict[str, Any]]:
    normalise = request.get("normalise", False)
    ranked = model.recognize(_seen(model, request), _names(request["labels"]), normalise=normalise)
    return [asdict(score) for score in ranked]


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
        elif any("end" in requests[i] for i in rows):
            raise ValueError("end without a start: give both, or neither")
        else:
            said = [[asdict(event) for event in events] for events in list_events(model, videos)]
        for i, each in zip(rows, said, strict=True):
            found[i] = each
    return found


def _generate(model: Model, request: Request) -> str:
    options = {key: value for key, value in request.items() if key not in ("prompt", "out")}
    return _filmed(request, lambda: model.generate(request.get("prompt"), **options))


def _continue(model: Model, request: Request) -> str:
    asked = request["video"], request["seconds"], request.get("prompt"), request.get("seed", 0)
    rest = {name: request.get(name) for name in ("overlap", "negative")}
    return _filmed(request, lambda: model.continue_video(*asked, _sampling(request), **rest))


def _infill(model: Model, request: Request) -> str:
    stills = read_stills(model, [Path(p) for p in request["stills"]], request.get("times"))
    asked = stills, request.get("prompt"), request.get("seed", 0), _sampling(request)
    return _filmed(request, lambda: model.infill(*asked, request.get("negative")))


def _write(model: Model, request: Request) -> list[dict[str, Any]]:
    paths = {"out": Path(request["out"]), "videos": [Path(v) for v in request.get("videos", ())]}
    return [asdict(item) for item in Writing(**{**request, **paths}).run(model)]


def _sampling(request: Request) -> Sampling:
    return Sampling(
        video=Draw(
            request.get("temperature", 1.0),
            request.get("top_k", 0),
            request.get("top_p", 1.0),
            request.get("min_p", MIN_P),
        ),
        guidance=request.get("guidance", 2.0),
        context_guidance=request.get("context_guidance", 1.5),
        rescale=request.get("rescale", 0.0),
        parallel=request.get("parallel", 1),
        exact=request.get("exact", True),
    )


def _filmed(request: Request, make: Callable[[], Clip]) -> str:
    from data.writing import check_target, write_video

    check_target(Path(request["out"]))
    write_video(make(), Path(request["out"]))
    return request["out"]


_DRAWN = {"seed": WHOLE, "guidance": NUMBER, "temperature": NUMBER, "min_p": NUMBER}
_DRAWN |= {"parallel": WHOLE, "exact": FLAG, "top_k": WHOLE, "top_p": NUMBER, "rescale": NUMBER}
_DRAWN |= {"negative": TEXT}
TASKS = {
    "caption": RequestTask(
        {"video": TEXT},
        {"samples": WHOLE, "temperature": NUMBER, "seed": WHOLE, "beams": WHOLE, "long": TEXT}
        | {RATE: NUMBER, "top_k": WHOLE, "top_p": NUMBER},
        _caption,
        ROWS,
    ),
    "ask": RequestTask(
        {"video": TEXT, "question": TEXT},
        {"choices": NAMES, "long": TEXT, RATE: NUMBER, "beams": WHOLE},
        _ask,
        ROWS,
    ),
    "chat": RequestTask({"videos": NAMES, "questions": TEXTS}, {}, _each(_chat)),
    "recognize": RequestTask(
        {"video": TEXT, "labels": NAMES}, {"normalise": FLAG, RATE: NUMBER}, _each(_recognize)
    ),
    "locate": RequestTask({"video": TEXT, "event": TEXT}, {}, _locate, ROWS),
    "events": RequestTask({"video": TEXT}, {"start": NUMBER, "end": NUMBER}, _events, ROWS),
    "generate": RequestTask(
        {"out": TEXT},
        {"prompt": TEXT, "seconds": NUMBER, **_DRAWN, RATE: NUMBER, "candidates": WHOLE}
        | {"overlap": WHOLE},
        _each(_generate),
    ),
    "continue": RequestTask(
        {"video": TEXT, "seconds": NUMBER, "out": TEXT},
        {"prompt": TEXT, **_DRAWN, "overlap": WHOLE},
        _each(_continue),
    ),
    "infill": RequestTask(
        {"stills": TEXTS, "out": TEXT},
        {"times": NUMBERS, "prompt": TEXT, **_DRAWN, "context_guidance": NUMBER},
        _each(_infill),
    ),
    "write": RequestTask(
        {"out": TEXT},
        {"videos": TEXTS, "prompt": TEXT, "seed": WHOLE, "max_new": WHOLE, "temperature": NUMBER}
        | {"top_k": WHOLE, "top_p": NUMBER, "min_p": NUMBER, "text_temperature": NUMBER}
        | {RATE: NUMBER, "suffix": TEXT},
        _each(_write),
    ),
}
