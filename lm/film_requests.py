"""Requests for films: those that differ in nothing but their clip, words and seed, side by side.

Knows which settings make a film, and how many may be held. Knows no files of requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.clip import Clip
from data.reading import MAX_FRAMES
from data.writing import check_target, write_video
from lm.completing import chunks
from lm.drawing import MIN_P, Draw, Sampling
from lm.film_commands import check_kept
from lm.infilling import infill, read_stills
from lm.watching import as_clip
from lm.write_command import Writing, write_all

if TYPE_CHECKING:
    from lm.tasks import Model

Request = dict[str, Any]
FILMS = 16  # made side by side, at most; a run that is stopped has them to make again


def generate_films(model: Model, requests: Sequence[Request]) -> list[str]:
    """Films of prompts; all settings but `prompt`, `seed` and `out` are those of the first."""
    first = requests[0]
    _check_outs(requests)
    candidates, seconds = first.get("candidates", 1), first.get("seconds")
    rest = {name: first.get(name) for name in ("tokens_per_frame", "negative", "overlap")}
    held = _frames(model, seconds) * max(1, candidates)
    for part in chunks(requests, max(1, int(MAX_FRAMES / held))):
        prompts, seeds = _words(part)
        way = _sampling(first)
        films = model.generate_batch(prompts, seconds, seeds, way, candidates=candidates, **rest)
        _write(films, part)
    return [request["out"] for request in requests]


def continue_films(model: Model, requests: Sequence[Request]) -> list[str]:
    """Videos gone on with; all settings but `video`, `prompt`, `seed` and `out` are the first's."""
    first = requests[0]
    _check_outs(requests)
    rest = {name: first.get(name) for name in ("overlap", "tokens_per_frame", "negative")}
    for part, clips in _read(model, requests, _frames(model, first["seconds"])):
        way = _sampling(first)
        films = model.continue_batch(clips, first["seconds"], *_words(part), way, **rest)
        _write(films, part)
    return [request["out"] for request in requests]


def infill_films(model: Model, requests: Sequence[Request]) -> list[str]:
    """Videos of stills; settings but `stills`, `times`, `prompt`, `seed` and `out` are the first's.

    They have the trained length, so that all may be held at once.
    """
    first = requests[0]
    _check_outs(requests)
    stills = [
        read_stills(model, [Path(path) for path in request["stills"]], request.get("times"))
        for request in requests
    ]
    way = _sampling(first)
    rest = first.get("tokens_per_frame"), first.get("candidates", 1), first.get("negative")
    films = infill(model, stills, *_words(requests), way, *rest)
    _write(films, requests)
    return [request["out"] for request in requests]


def write_documents(model: Model, requests: Sequence[Request]) -> list[list[dict[str, Any]]]:
    """Texts, times and clips of the model's own choice after `videos` and `prompt`.

    All settings but these, `seed` and `out` are those of the first.
    """
    writings = []
    for request in requests:
        videos = [Path(video) for video in request.get("videos", ())]
        writings.append(Writing(**{**request, "out": Path(request["out"]), "videos": videos}))
    return [[asdict(item) for item in written] for written in write_all(model, writings)]


def _frames(model: Model, seconds: float | None) -> float:
    """Frames of a film of so many seconds, at least as many as are made at once."""
    main = model.framing.main
    return max(main.num_frames, (seconds or 0.0) * float(main.fps or 0))


def _read(
    model: Model, requests: Sequence[Request], added: float
) -> Iterator[tuple[list[Request], list[Clip]]]:
    """Requests with their videos, as many at a time as may be held; `added`: frames to come."""
    part: list[Request] = []
    clips: list[Clip] = []
    held = 0.0
    for request in requests:
        clip = model.framing.at_rate(as_clip(request["video"]))  # small before the next is read
        if clips and held + len(clip) + added > MAX_FRAMES:
            yield part, clips
            part, clips, held = [], [], 0.0
        part.append(request)
        clips.append(clip)
        held += len(clip) + added
    yield part, clips


def _words(requests: Sequence[Request]) -> tuple[list[str | None], list[int]]:
    """The prompt and seed of each."""
    return [r.get("prompt") for r in requests], [r.get("seed", 0) for r in requests]


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


def _check_outs(requests: Sequence[Request]) -> None:
    """Refuse what cannot be written, or is what is read, before the work."""
    for request in requests:
        check_target(Path(request["out"]))
        sources = [request["video"]] if "video" in request else request.get("stills", [])
        check_kept(Path(request["out"]), [Path(source) for source in sources])


def _write(films: Sequence[Clip], requests: Sequence[Request]) -> None:
    for film, request in zip(films, requests, strict=True):
        write_video(film, Path(request["out"]))
