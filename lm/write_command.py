"""`kinolex write`: texts, times and clips of a model's own choice; the clips become files.

Knows files, and documents by their items. Knows no prompts or ids.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.clip import Clip
from data.writing import SUFFIXES, check_target, write_video
from lm.document import Item, Text, Time, Video
from lm.drawing import MIN_P, Draw, Sampling
from lm.tasks import Model
from lm.time_commands import stretch


@dataclass(frozen=True)
class WrittenText:
    """A text of a document."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class WrittenTime:
    """A time of a document, in the video before it as the model saw it."""

    start: float  # seconds
    end: float | None  # seconds; None for a moment

    def __str__(self) -> str:
        return stretch(self.start, self.end)


@dataclass(frozen=True)
class WrittenClip:
    """A clip of a document, in a file."""

    clip: str
    num_frames: int
    height: int  # pixels
    width: int  # pixels
    seconds: float  # 0 for an image

    def __str__(self) -> str:
        return self.clip


Written = WrittenText | WrittenTime | WrittenClip


@dataclass(frozen=True)
class Writing:
    """What to go on from, how to draw and where clips go: the settings of `write`."""

    out: Path
    videos: Sequence[Path] = ()
    prompt: str | None = None
    seed: int = 0
    max_new: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = MIN_P
    text_temperature: float = 0.0
    tokens_per_frame: float | None = None
    suffix: str = "mp4"

    def __post_init__(self) -> None:
        if f".{self._suffix.lower()}" not in SUFFIXES:
            known = " ".join(suffix.removeprefix(".") for suffix in SUFFIXES)
            raise ValueError(f"suffix={self.suffix!r}: use one of {known}")
        check_target(self._path(1))
        assert self.sampling  # refuses what cannot be drawn by
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError("the prompt is empty: say what comes first, or leave it out")
        if self.tokens_per_frame is not None and not self.videos:
            raise ValueError(
                f"tokens_per_frame={self.tokens_per_frame:g} without videos: they are read at it; "
                "leave it out"
            )
        for video in self.videos:
            named = re.fullmatch(rf"clip-\d+\.{re.escape(self._suffix)}", video.name)
            if named and video.absolute().parent.resolve() == self.out.resolve():
                raise ValueError(f"{video} might be written over: give another --out")

    @property
    def _suffix(self) -> str:
        return self.suffix.removeprefix(".")

    @property
    def sampling(self) -> Sampling:
        video = Draw(self.temperature, self.top_k, self.top_p, self.min_p)
        return Sampling(text=Draw(self.text_temperature), video=video)

    def _path(self, number: int) -> Path:
        return self.out / f"clip-{number}.{self._suffix}"

    def items(self, model: Model) -> list[Item]:
        """What is there before the model writes."""
        items: list[Item] = [
            Video(tokens) for tokens in model.encode_batch(list(self.videos), self.tokens_per_frame)
        ]
        if self.prompt is not None:
            items.append(Text("caption", self.prompt))
        return items

    def keep(self, said: Sequence[str | Time | Clip]) -> list[Written]:
        """What the model wrote, its clips in files."""
        if not said:
            warnings.warn(
                "the model ended at once and wrote nothing: give a prompt, a video or "
                "text_temperature=1",
                stacklevel=2,
            )
        found: list[Written] = []
        clips = 0
        for part in said:
            if isinstance(part, str):
                found.append(WrittenText(part.strip()))  # one that was cut begins with a space
            elif isinstance(part, Time):
                found.append(WrittenTime(part.start, part.end))
            else:
                clips += 1
                found.append(_in_file(part, self._path(clips)))
        return found


def write_all(model: Model, writings: Sequence[Writing]) -> list[list[Written]]:
    """Have documents written side by side that differ in videos, prompt, seed and `out` alone."""
    first = writings[0]
    first.sampling.video.warn_of_idle()
    said = model.write_batch(
        [writing.items(model) for writing in writings],
        [writing.seed for writing in writings],
        first.sampling,
        first.max_new,
    )
    return [writing.keep(found) for writing, found in zip(writings, said, strict=True)]


def _in_file(clip: Clip, path: Path) -> WrittenClip:
    write_video(clip, path)
    length = len(clip) / clip.fps if clip.fps else 0.0
    return WrittenClip(str(path), len(clip), clip.height, clip.width, length)


def write(
    out: Path,
    model: Path,
    videos: Sequence[Path] = (),
    prompt: str | None = None,
    seed: int = 0,
    max_new: int | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = MIN_P,
    text_temperature: float = 0.0,
    tokens_per_frame: float | None = None,
    suffix: str = "mp4",
    engine: str = "torch",
) -> list[Written]:
    """Let the model say and show what it wants, after videos and a prompt or after nothing.

    Texts are printed in order, and in place of each clip the file it was written to. The model
    must have been taught to: `--data.mixture.talk 0.2`.

    Example: kinolex write --prompt "a red circle" --out told --model runs/model

    Args:
        out: Folder for the clips: clip-1.mp4, clip-2.mp4, ...
        model: Folder of a model.
        videos: Videos, GIFs, images or folders of images that come first.
        prompt: A caption that comes next; what it says may be shown.
        seed: The same seed gives the same texts and clips.
        max_new: Most new tokens, 2 or more; what the model's context leaves if left out.
        temperature: How varied clips are; 0 for the likeliest codes.
        top_k: Likeliest codes to draw from; 0 for all.
        top_p: Probability mass of the likeliest codes to draw from; 1 for all.
        min_p: Codes less likely than this share of the likeliest are not drawn; 0 for all.
        text_temperature: How varied words are, and what comes after what; 0 for the likeliest.
        tokens_per_frame: Read the videos at most so many; the rate the model was trained at if
            left out.
        suffix: Format of the clips: mp4, webm, mkv, gif, apng or png.
        engine: What computes: torch, torch:bf16, torch:int8, llama.cpp, llama.cpp:q8_0.
    """
    writing = Writing(
        out=out,
        videos=videos,
        prompt=prompt,
        seed=seed,
        max_new=max_new,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        text_temperature=text_temperature,
        tokens_per_frame=tokens_per_frame,
        suffix=suffix,
    )
    (written,) = write_all(Model.load(model, engine), [writing])
    return written
