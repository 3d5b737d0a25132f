"""Layouts: what stands in a training document, drawn from what is known of its clips.

`film` goes from words to a video, `fill` from words and stills, `watch` from a video to texts and
times, `talk` tells of several clips in turn. Every prompt of `lm.prompting` occurs in one of them.
Knows spans and what they weigh. Knows no ids and no batches.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lm.corpus import Spelled
from lm.sequence import Span

TAUGHT = ("events", "fill", "talk")
SHARES = ("generate", "drop_caption", "fill", "drop_stills", "talk", "branch", "corrupt")
COUNTS = ("captions", "questions", "events", "texts", "prompt_text", "prompt_video")


@dataclass(frozen=True)
class Mixture:
    """What documents are made of.

    generate: share of documents that go from caption to video; the others from video to texts.
    drop_caption: share of those whose caption is left out, for guidance.
    fill: share of those, where clips have stills, whose video comes after stills of it.
    drop_stills: share of these whose stills are left out, for guidance apart from the caption.
    talk: share of documents that tell of two clips, in turn, each in either direction.
    captions: most captions, differently worded, after a video.
    questions: most questions with answers after a video.
    events: most events after a video of which the time or, given the time, the words are told; and
        as often as one of them, all events in order of time.
    texts: most of all these and labels after a video.
    branch: share of documents whose texts after the video do not see each other, so that each is
        as hard as if it came first, while the video is read once.
    prompt_text: loss weight of captions, questions and events that stand as prompts.
    prompt_video: loss weight of the video that stands before its texts.
    rates: tokens a block at which clips are shown besides the full rate, each equally often.
    full: times as often as at one of `rates` that clips are shown at the full rate; 0: never.
    film_full: that of documents from caption to video: pictures take more to draw than to read;
        None: as often as the others.
    corrupt: share of codes that are read as random ones while the true ones are still predicted, so
        that a model learns to go on from its own mistakes. Only codes that no text with a loss
        comes after: what is said of a video is true of what was seen.
    """

    generate: float = 0.5
    drop_caption: float = 0.1
    fill: float = 0.0
    drop_stills: float = 0.1
    talk: float = 0.0
    captions: int = 1
    questions: int = 3
    events: int = 0
    texts: int = 5
    branch: float = 0.0
    prompt_text: float = 0.0
    prompt_video: float = 0.0
    rates: tuple[int, ...] = ()
    full: int = 1
    film_full: int | None = None
    corrupt: float = 0.0

    def __post_init__(self) -> None:
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"mixture.{name}={getattr(self, name)}: give a share, 0 to 1")
        for name in COUNTS:
            if getattr(self, name) < 0:
                raise ValueError(f"mixture.{name}={getattr(self, name)}: give 0 or more")
        for name in ("full", "film_full"):
            times = getattr(self, name)
            if name == "film_full" and times is None:
                continue
            if not isinstance(times, int) or isinstance(times, bool) or times < 0:
                raise ValueError(f"mixture.{name}={times}: give a whole number, 0 or more")
            if not (times or self.rates):
                raise ValueError(
                    f"mixture.{name}=0 without mixture.rates: give rates to show clips at"
                )
        changed = {"full": self.full != 1, "film_full": self.film_full is not None}
        for name in [name for name, is_set in changed.items() if is_set and not self.rates]:
            warnings.warn(
                f"mixture.{name}={getattr(self, name)} has no effect: there are no mixture.rates",
                stacklevel=3,
            )
        if any(rate < 1 for rate in self.rates):
            raise ValueError(f"mixture.rates={list(self.rates)}: give 1 token a block or more")

    @property
    def taught(self) -> tuple[str, ...]:
        """What a model learns of these that not every model does: `events`, `fill`, `talk`."""
        return tuple(name for name in TAUGHT if getattr(self, name))


@dataclass(frozen=True)
class Part:
    """An item of a document: its loss weight, and its branch (0 is the trunk)."""

    span: Span
    weight: float
    branch: int = 0


class Layouts:
    """Draws documents about clips.

    Args:
        mixture: How often what is drawn.
        marks: The spans of `Nothing` and of each task, by name.
    """

    def __init__(self, mixture: Mixture, marks: dict[str, Span]) -> None:
        self.mixture, self.marks = mixture, marks

    def film(self, clip: Spelled, video: Span, rng: np.random.Generator) -> list[Part]:
        """Words, or nothing, then the video; sometimes with stills between."""
        fill = bool(clip.stills) and rng.random() < self.mixture.fill
        parts = [self._task("fill" if fill else "film"), self._condition(clip, rng)]
        if fill and rng.random() >= self.mixture.drop_stills:
            chosen = np.sort(
                rng.permutation(len(clip.stills))[: rng.integers(len(clip.stills)) + 1]
            )
            parts += [Part(clip.stills[i], 0.0) for i in chosen]
        return [*parts, Part(video, 1.0)]

    def watch(self, clip: Spelled, video: Span, room: int, rng: np.random.Generator) -> list[Part]:
        """The video, then what is said of it, as much as fits `room` tokens."""
        parts = [self._task("watch"), Part(video, self.mixture.prompt_video)]
        tasks = self._tasks(clip, rng)
        apart = rng.random() < self.mixture.branch
        room -= sum(len(part.span.ids) for part in parts)
        for number, task in enumerate(tasks, 1):
            size = sum(len(span.ids) for span, _ in task)
            if size > room:
                continue
            room -= size
            parts += [Part(span, weight, number if apart else 0) for span, weight in task]
        return parts

    def talk(self, clips: Sequence[tuple[Spelled, Span]], rng: np.random.Generator) -> list[Part]:
        """Clips in turn: each after its caption, or before a question, its answer or a caption."""
        parts = [self._task("talk")]
        for clip, video in clips:
            if rng.random() < self.mixture.generate or not clip.has_texts:
                parts += [self._condition(clip, rng), Part(video, 1.0)]
                continue
            parts.append(Part(video, self.mixture.prompt_video))
            for task in self._tasks(clip, rng)[: 1 + int(rng.integers(2))]:
                parts += [Part(span, weight) for span, weight in task]
        return parts

    def _task(self, name: str) -> Part:
        return Part(self.marks[name], 0.0)

    def _condition(self, clip: Spelled, rng: np.random.Generator) -> Part:
        caption = self.marks["nothing"]
        if clip.captions and rng.random() >= self.mixture.drop_caption:
            caption = clip.captions[rng.integers(len(clip.captions))]
        return Part(caption, self.mixture.prompt_text)

    def _tasks(self, clip: Spelled, rng: np.random.Generator) -> list[list[tuple[Span, float]]]:
        """What is asked and said of a clip, each with its weights, in random order."""
        mixture, prompt = self.mixture, self.mixture.prompt_text
        tasks: list[list[tuple[Span, float]]] = []
        for i in rng.permutation(len(clip.captions))[: mixture.captions]:
            tasks.append([(clip.captions[i], 1.0)])
        for i in rng.permutation(len(clip.questions))[: mixture.questions]:
            question, answer = clip.questions[i]
            tasks.append([(question, prompt), (answer, 1.0)])
        if clip.label is not None:
            tasks.append([(clip.label, 1.0)])
        for i in rng.permutation(len(clip.events))[: mixture.events]:
            event, time = clip.events[i]
            told = [(event, prompt), (time, 1.0)], [(time, 0.0), (event, 1.0)]
            tasks.append(told[rng.integers(2)])
        if clip.events and mixture.events:
            listed = [(span, 1.0) for event, time in clip.events for span in (time, event)]
            tasks.append([*listed, (self.marks["nothing"], 1.0)])
        return [tasks[i] for i in rng.permutation(len(tasks))[: mixture.texts]]
