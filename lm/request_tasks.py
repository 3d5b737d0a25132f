"""What can be asked in a line of JSON: for each command its settings and what answers them.

Knows which method serves which command, not how, and no files of requests.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lm.chatting import ask_all
from lm.commands import drawn_by, split
from lm.document import Time
from lm.film_requests import (
    FILMS,
    Request,
    continue_films,
    generate_films,
    infill_films,
    write_documents,
)
from lm.locating import describe, list_events, locate
from lm.long.answer import LongAnswer
from lm.long.asking import check_rate
from lm.tasks import Model
from tokenizer.tokens import VideoTokens

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
PATH = Kind("a path", lambda value: _is_text(value) and bool(value.strip()))
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
    """A command's settings, and what answers a list of requests that are `alike`."""

    needed: Mapping[str, Kind]
    optional: Mapping[str, Kind]
    answer: Answer
    rows: int = 1  # requests at a time
    own: tuple[str, ...] = ()  # settings that may differ among requests answered side by side

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

    def alike(self, requests: Sequence[Request]) -> list[list[int]]:
        """Which requests may be answered side by side: their places, each set in order.

        Those that read what another one writes come one by one.
        """
        if _are_chained(requests):
            return [[place] for place in range(len(requests))]
        sets: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            same = {key: value for key, value in request.items() if key not in self.own}
            sets.setdefault(json.dumps(same, sort_keys=True), []).append(place)
        return list(sets.values())


def _are_chained(requests: Sequence[Request]) -> bool:
    """Whether one of them reads a file, or one in a folder, that another one writes."""
    written = [os.path.realpath(r["out"]) for r in requests if "out" in r]
    read = [path for request in requests for path in sources_of(request)]
    return bool(written) and any(
        os.path.commonpath([out, source]) == source
        for source in map(os.path.realpath, read)
        for out in written
    )


def sources_of(request: Request) -> list[str]:
    """The files that a request for a film reads."""
    video = request.get("video")
    return [*([] if video is None else [video]), *(request.get("stills") or ())]


def _caption(model: Model, requests: Sequence[Request]) -> list[Any]:
    if set(requests[0]) <= {"video", RATE, "beams"}:
        return model.caption_batch(_seen(model, requests), beams=requests[0].get("beams"))
    return [_captions(model, **request) for request in requests]


def _captions(
    model: Model,
    video: str,
    samples: int = 1,
    temperature: float | None = None,
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
    drawn = drawn_by(samples, temperature, top_k, top_p)
    if long is not None:
        check_rate(long, tokens_per_frame)
        return _said(model.caption(video, long))
    seen = model.encode(video, tokens_per_frame)
    if samples > 1:
        return model.captions(seen, samples, seed=seed, **drawn)
    return model.caption(seen, beams=beams)


def _seen(model: Model, requests: Sequence[Request]) -> list[VideoTokens]:
    """The videos of requests, at their rate."""
    return model.encode_batch([r["video"] for r in requests], requests[0].get(RATE))


def _ask(model: Model, requests: Sequence[Request]) -> list[Any]:
    first = requests[0]
    long, beams = first.get("long"), first.get("beams", 1)
    check_rate(long, first.get(RATE))
    choices = _names(first["choices"]) if "choices" in first else []
    seen: list[Any] = [r["video"] for r in requests] if long else _seen(model, requests)
    questions = [r["question"] for r in requests]
    if long is None and not choices:
        return model.ask_batch(seen, questions, beams=beams)
    return [
        _said(model.ask(video, question, choices, long, beams))
        for video, question in zip(seen, questions, strict=True)
    ]


def _said(answer: str | LongAnswer) -> Any:
    """A text as it is; what was read off a long video with what it took."""
    return asdict(answer) if isinstance(answer, LongAnswer) else answer


def _names(value: str | list[str]) -> list[str]:
    """Names as a list; those of one text are split at its commas."""
    return split(value) if isinstance(value, str) else value


def _chat(model: Model, requests: Sequence[Request]) -> list[list[str]]:
    shown = [r["videos"] if isinstance(r["videos"], list) else [r["videos"]] for r in requests]
    return ask_all([model.chat(*videos) for videos in shown], [r["questions"] for r in requests])


def _recognize(model: Model, requests: Sequence[Request]) -> list[Any]:
    labels, normalise = _names(requests[0]["labels"]), requests[0].get("normalise", False)
    ranked = model.recognize_batch(_seen(model, requests), labels, normalise=normalise)
    return [[asdict(score) for score in scores] for scores in ranked]


def _locate(model: Model, requests: Sequence[Request]) -> list[Any]:
    rate, long = requests[0].get(RATE), requests[0].get("long")
    check_rate(long, rate)
    if long is not None:
        return [asdict(model.locate_long(r["video"], r["event"], long)) for r in requests]
    videos, events = ([r[key] for r in requests] for key in ("video", "event"))
    return [asdict(time) for time in locate(model, videos, events, None, rate)]


def _events(model: Model, requests: Sequence[Request]) -> list[Any]:
    rate, long = requests[0].get(RATE), requests[0].get("long")
    check_rate(long, rate)
    for request in requests:
        if "end" in request and "start" not in request:
            raise ValueError("end without a start: give both, or neither")
        if "start" in request and long is not None:
            raise ValueError(f"start={request['start']:g} with long={long}: leave one of them out")
    if long is not None:
        return [asdict(model.events_long(request["video"], long)) for request in requests]
    found: list[Any] = [None] * len(requests)
    listing = [i for i, request in enumerate(requests) if "start" not in request]
    lists = list_events(model, [requests[i]["video"] for i in listing], None, rate)
    for i, events in zip(listing, lists, strict=True):
        found[i] = [asdict(event) for event in events]
    asking = [i for i, request in enumerate(requests) if "start" in request]
    times = [Time(requests[i]["start"], requests[i].get("end")) for i in asking]
    said = describe(model, [requests[i]["video"] for i in asking], times, None, rate)
    for i, text in zip(asking, said, strict=True):
        found[i] = text
    return found


_DRAWN = {"seed": WHOLE, "guidance": NUMBER, "temperature": NUMBER, "min_p": NUMBER}
_DRAWN |= {"parallel": WHOLE, "exact": FLAG, "top_k": WHOLE, "top_p": NUMBER, "rescale": NUMBER}
_DRAWN |= {"negative": TEXT}
TASKS = {
    "caption": RequestTask(
        {"video": PATH},
        {"samples": WHOLE, "temperature": NUMBER, "seed": WHOLE, "beams": WHOLE, "long": TEXT}
        | {RATE: NUMBER, "top_k": WHOLE, "top_p": NUMBER},
        _caption,
        ROWS,
        ("video",),
    ),
    "ask": RequestTask(
        {"video": PATH, "question": TEXT},
        {"choices": NAMES, "long": TEXT, RATE: NUMBER, "beams": WHOLE},
        _ask,
        ROWS,
        ("video", "question"),
    ),
    "chat": RequestTask(
        {"videos": NAMES, "questions": TEXTS}, {}, _chat, ROWS, ("videos", "questions")
    ),
    "recognize": RequestTask(
        {"video": PATH, "labels": NAMES},
        {"normalise": FLAG, RATE: NUMBER},
        _recognize,
        ROWS,
        ("video",),
    ),
    "locate": RequestTask(
        {"video": PATH, "event": TEXT},
        {RATE: NUMBER, "long": TEXT},
        _locate,
        ROWS,
        ("video", "event"),
    ),
    "events": RequestTask(
        {"video": PATH},
        {"start": NUMBER, "end": NUMBER, RATE: NUMBER, "long": TEXT},
        _events,
        ROWS,
        ("video", "start", "end"),
    ),
    "generate": RequestTask(
        {"out": PATH},
        {"prompt": TEXT, "seconds": NUMBER, **_DRAWN, RATE: NUMBER, "candidates": WHOLE}
        | {"overlap": WHOLE},
        generate_films,
        FILMS,
        ("prompt", "seed", "out"),
    ),
    "continue": RequestTask(
        {"video": PATH, "seconds": NUMBER, "out": PATH},
        {"prompt": TEXT, **_DRAWN, "overlap": WHOLE, RATE: NUMBER},
        continue_films,
        FILMS,
        ("video", "prompt", "seed", "out"),
    ),
    "infill": RequestTask(
        {"stills": TEXTS, "out": PATH},
        {"times": NUMBERS, "prompt": TEXT, **_DRAWN, "context_guidance": NUMBER, RATE: NUMBER}
        | {"candidates": WHOLE},
        infill_films,
        FILMS,
        ("stills", "times", "prompt", "seed", "out"),
    ),
    "write": RequestTask(
        {"out": PATH},
        {"videos": TEXTS, "prompt": TEXT, "seed": WHOLE, "max_new": WHOLE, "temperature": NUMBER}
        | {"top_k": WHOLE, "top_p": NUMBER, "min_p": NUMBER, "text_temperature": NUMBER}
        | {RATE: NUMBER, "suffix": TEXT},
        write_documents,
        FILMS,
        ("out", "videos", "prompt", "seed"),
    ),
}
