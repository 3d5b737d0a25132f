"""The language model's commands as plain functions: their docstrings are the commands' help.

They return results and print nothing but progress. They know files and tasks, not prompts or ids.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import VideoError
from lm.beams import check_beams
from lm.drawing import Draw
from lm.long.answer import LongAnswer
from lm.long.asking import Long, check_rate
from lm.ranking import LabelScore
from lm.tasks import Model
from tokenizer.progress import progress_bar


@dataclass(frozen=True)
class Caption:
    """A caption of a video."""

    video: str
    caption: str

    def __str__(self) -> str:
        return f"{self.video}: {self.caption}"


@dataclass(frozen=True)
class Unread:
    """A video that could not be read, beside others that could."""

    video: str
    error: str

    def __str__(self) -> str:
        return f"{self.video}: not read"  # why was told at once, on standard error


@dataclass(frozen=True)
class Answer:
    """An answer to a question about a video."""

    video: str
    question: str
    answer: str

    def __str__(self) -> str:
        return self.answer


@dataclass(frozen=True)
class Recognition:
    """Labels by how well they fit a video, the best first."""

    video: str
    labels: list[LabelScore]

    def __str__(self) -> str:
        return "\n".join(f"{score.probability:6.1%}  {score.label}" for score in self.labels)


@dataclass(frozen=True)
class Turn:
    """A question of a talk and its answer."""

    question: str
    answer: str

    def __str__(self) -> str:
        return self.answer


def caption(
    videos: list[Path],
    model: Path,
    samples: int = 1,
    temperature: float | None = None,
    seed: int = 0,
    beams: int | None = None,
    long: str | None = None,
    engine: str = "torch",
    tokens_per_frame: float | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
) -> list[Caption | LongAnswer | Unread]:
    """Say what happens in videos.

    Of several videos those that cannot be read are named, and the exit code is 2; a path where
    nothing is stops all of it before the first.

    Example: kinolex caption clip.mp4 --model runs/demo/model

    Args:
        videos: Videos, GIFs, images or folders of images.
        model: Folder of a model.
        samples: Captions of each; more than one are drawn at random.
        temperature: How varied drawn captions are, 0.8 if left out; 0 for the likeliest.
        seed: Of drawn captions.
        beams: Captions kept side by side while the likeliest one for its length is looked for; 1
            takes the likeliest word at each step. If left out 4, or 1 with long or an engine.
        long: Captions with seconds, of a video of any length: chunks, keyframes, memory, window
            or aggregate=4, see docs/long-video.md.
        engine: What computes: torch, torch:bf16, torch:int8, llama.cpp, llama.cpp:q8_0.
        tokens_per_frame: Read at most so many; the rate the model was trained at if left out.
        top_k: Likeliest word pieces that captions are drawn from; 0 for all.
        top_p: Probability mass of the likeliest pieces they are drawn from; 1 for all.
    """
    if beams is not None and beams < 1:
        raise ValueError(f"beams={beams}: give 1 (the likeliest word at each step) or more")
    if samples < 1:
        raise ValueError(f"samples={samples}: at least one caption of each video")
    if (beams or 1) > 1 and (samples > 1 or long is not None or engine != "torch"):
        raise ValueError(f"beams={beams} goes with neither samples, long nor engine: leave it out")
    if long is not None and samples > 1:
        raise ValueError(f"samples={samples} with long={long}: leave one of them out")
    drawn = drawn_by(samples, temperature, top_k, top_p)
    check_rate(long, tokens_per_frame)
    loaded, results = Model.load(model, engine), []
    for video in videos:
        if not video.exists():
            raise FileNotFoundError(f"{video}: no such file; check the path")
    with progress_bar("captioning") as progress:
        for done, video in enumerate(videos, 1):
            try:
                if long is not None:
                    results.append(loaded.caption(video, long))
                    progress(done, len(videos))
                    continue
                seen = loaded.encode(video, tokens_per_frame)
                if samples == 1:
                    texts = [loaded.caption(seen, beams=beams)]
                else:
                    texts = loaded.captions(seen, samples, seed=seed, **drawn)
            except VideoError as error:
                if len(videos) == 1:
                    raise
                warnings.warn(f"left out {error}", stacklevel=2)
                results.append(Unread(str(video), str(error)))
                continue
            results += [Caption(str(video), text) for text in texts]
            progress(done, len(videos))
    return results


def drawn_by(samples: int, temperature: float | None, top_k: int, top_p: float) -> dict[str, Any]:
    """How `captions` draws: what is said of it.

    Raises:
        ValueError: something is said and nothing is drawn, or it is no way to draw.
    """
    said = {"temperature": temperature is not None, "top_k": top_k > 0, "top_p": top_p < 1}
    values = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    drawn = {name: value for name, value in values.items() if value is not None}
    Draw(**drawn)
    for name, is_said in said.items():
        if is_said and samples == 1:
            raise ValueError(
                f"{name}={values[name]:g} is for captions that are drawn: give samples=2 or more, "
                "or leave it out"
            )
    return drawn


def ask(
    video: Path,
    question: str,
    model: Path,
    choices: str | None = None,
    long: str | None = None,
    engine: str = "torch",
    tokens_per_frame: float | None = None,
    beams: int = 1,
) -> Answer | LongAnswer:
    """Answer a question about a video.

    Example: kinolex ask clip.mp4 "what colour is it?" --model runs/demo/model

    Args:
        video: A video, GIF, image or folder of images.
        question: What to ask.
        model: Folder of a model.
        choices: Possible answers, separated by commas: the likeliest is given.
        long: How to read a video of any length: chunks, keyframes, hierarchy, window, memory,
            recall, summary or aggregate=4, see docs/long-video.md.
        engine: What computes: torch, torch:bf16, torch:int8, llama.cpp, llama.cpp:q8_0; choices are
            always weighed in torch.
        tokens_per_frame: Read at most so many; the rate the model was trained at if left out.
        beams: Answers kept side by side while the likeliest one for its length is looked for; 1
            takes the likeliest word at each step. For open questions.
    """
    check_beams(beams, choices=choices is not None, long=long, engine=engine != "torch")
    options = split(choices) if choices is not None else []
    if long is not None:
        Long.parse(long)  # before the model is read
        check_rate(long, tokens_per_frame)
        return Model.load(model, engine).ask(video, question, options, long=long)
    loaded = Model.load(model, engine)
    seen = loaded.encode(video, tokens_per_frame)
    return Answer(str(video), question, loaded.ask(seen, question, options, beams=beams))


def recognize(
    video: Path,
    labels: str,
    model: Path,
    normalise: bool = False,
    tokens_per_frame: float | None = None,
) -> Recognition:
    """Rank labels by their likelihood after a video.

    Example: kinolex recognize clip.mp4 --labels "rises,falls" --model runs/demo/model

    Args:
        video: A video, GIF, image or folder of images.
        labels: What it might show, separated by commas.
        model: Folder of a model.
        normalise: Compare mean likelihoods a token, so that long labels do not lose.
        tokens_per_frame: Read at most so many; the rate the model was trained at if left out.
    """
    loaded = Model.load(model)
    seen = loaded.encode(video, tokens_per_frame)
    ranked = loaded.recognize(seen, split(labels), normalise=normalise)
    return Recognition(str(video), ranked)


def chat(videos: list[Path], model: Path, tokens_per_frame: float | None = None) -> Iterator[Turn]:
    """Talk about videos: a question a line, from the keyboard or a pipe, an answer a line.

    What was shown and said stays in mind, as much as the model's context holds, until `/forget`;
    `/show FILE` shows a video more; an empty line or the end of input ends it.

    Example: kinolex chat clip.mp4 --model runs/demo/model

    Args:
        videos: Videos to begin with.
        model: Folder of a model.
        tokens_per_frame: Read at most so many, so that more videos fit; the rate the model was
            trained at if left out.
    """
    talk = Model.load(model).chat()
    for video in videos:
        talk.show(video, tokens_per_frame)
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return
        if not line:
            return
        try:
            if line == "/forget":
                talk.forget()
            elif line.startswith("/show "):
                talk.show(Path(line.removeprefix("/show ").strip()), tokens_per_frame)
            elif line.startswith("/"):
                print(f"{line.split()[0]}: there are /show FILE and /forget", file=sys.stderr)
            else:
                said = talk.ask(line)
                yield Turn(line, said)
        except (ValueError, OSError) as error:  # the talk goes on
            print(f"kinolex chat: {' '.join(str(error).split())}", file=sys.stderr)


def split(words: str) -> list[str]:
    """Names that commas separate, at least one."""
    found = [word.strip() for word in words.split(",") if word.strip()]
    if not found:
        raise ValueError(f"{words!r} names nothing: separate the choices by commas")
    return found
