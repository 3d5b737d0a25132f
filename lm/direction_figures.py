"""Figures of what else a model can be asked: choices, talks, and films and documents of its own.

What it makes of its own choice has no truth to be held against; whether its words and its pictures
agree can be told, by the world's oracle. Knows tasks and judges. Knows no pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from data.clip import Clip, Question
from lm.document import Text, Video
from lm.drawing import Sampling
from lm.figures import Figure
from lm.interleaving import written_items
from lm.judging import Tally, can_judge_films, judge_answer, judge_film
from lm.prompting import about_video
from lm.ranking import rank
from tokenizer.tokens import VideoTokens

if TYPE_CHECKING:
    from lm.tasks import Model


def direction_figures(
    model: Model,
    clips: Sequence[Clip],
    tokens: Sequence[VideoTokens],
    num_films: int,
    films: Sampling,
    seed: int,
    tokens_per_frame: float | None = None,
) -> list[Figure]:
    """`choice`, `talk_first` and `talk_second`, `unconditional_*` and `document_*`.

    Args:
        model: The model.
        clips: Clips it was not trained on.
        tokens: The same as the model reads them.
        num_films: Talks, unconditional films and documents, each; the latter two only where an
            oracle can read films.
        films: How to draw.
        seed: Of the first; the others count on.
        tokens_per_frame: Of unconditional films; None: as trained.
    """
    tally, chances = Tally(), Tally()
    _choices(model, clips, tokens, tally, chances)
    free = replace(films, guidance=1.0)
    if "talk" in model.taught:
        _talks(model, clips[: 2 * num_films], tokens, tally)
    if can_judge_films(clips) and num_films:
        _unconditional(model, num_films, free, seed, tokens_per_frame, tally)
        if "talk" in model.taught:
            _documents(model, num_films, free, seed, tally)
    return [
        tally.figure(name, chance=chances.share(name) if name in chances.totals else None)
        for name in sorted(tally.totals)
    ]


def _choices(
    model: Model,
    clips: Sequence[Clip],
    tokens: Sequence[VideoTokens],
    tally: Tally,
    chances: Tally,
) -> None:
    """Whether the likeliest of a question's choices is its answer."""
    asked = [
        (i, question)
        for i, clip in enumerate(clips)
        for question in clip.questions
        if len(question.choices) > 1
    ]
    for choices in sorted({question.choices for _, question in asked}):
        rows = [(i, question) for i, question in asked if question.choices == choices]
        prompts = [
            about_video(model.vocabulary, tokens[i], "answer", question.question)
            for i, question in rows
        ]
        for (_, question), ranked in zip(rows, rank(model, prompts, choices, False), strict=True):
            tally.add("choice", _is_right(ranked[0].label, question))
            chances.add("choice", 1 / len(choices))


def _talks(
    model: Model, clips: Sequence[Clip], tokens: Sequence[VideoTokens], tally: Tally
) -> None:
    """A question about a clip, then one about a second clip that is shown after the answer."""
    told = [(clip, seen) for clip, seen in zip(clips, tokens, strict=False) if clip.questions]
    for first, second in zip(told[::2], told[1::2], strict=False):
        talk = model.chat()
        for name, (clip, seen) in (("talk_first", first), ("talk_second", second)):
            try:
                talk.show(seen)
            except ValueError:  # both do not fit the context
                break
            question = clip.questions[0]
            tally.add(name, _is_right(talk.ask(question.question), question))


def _is_right(answer: str, question: Question) -> float:
    own = Tally()
    judge_answer(answer, question, own, "answer")
    return own.rights["answer/all"][0]


def _unconditional(
    model: Model,
    number: int,
    films: Sampling,
    seed: int,
    tokens_per_frame: float | None,
    tally: Tally,
) -> None:
    """Films of nothing, held against what the model's own captions say of them."""
    seeds = [seed + i for i in range(number)]
    made = model.generate_batch(
        [None] * number, None, seeds, films, tokens_per_frame=tokens_per_frame
    )
    said = model.caption_batch(model.encode_batch(made, tokens_per_frame))
    for film, caption in zip(made, said, strict=True):
        _agree(film, caption, tally, "unconditional")


def _documents(model: Model, number: int, films: Sampling, seed: int, tally: Tally) -> None:
    """Documents of the model's own: how many hold a clip, and whether it is what a caption says.

    A clip's caption is the one right before it or, without that, right after it.
    """
    seeds = [seed + i for i in range(number)]
    for items in written_items(model, [[]] * number, seeds, films, None):
        tally.add("document_clips", any(isinstance(item, Video) for item in items))
        for place, item in enumerate(items):
            if not isinstance(item, Video):
                continue
            beside = [*items[max(place - 1, 0) : place], *items[place + 1 : place + 2]]
            told = [it for it in beside if isinstance(it, Text) and it.role == "caption"]
            if told:
                _agree(model.codec.decode(item.tokens), told[0].text, tally, "document")


def _agree(film: Clip, caption: str, tally: Tally, name: str) -> None:
    """Count as shown what a caption says of a film; one that names no thing is not shown."""
    own = Tally()
    judge_film(film.frames, caption, own, name)
    names_things = f"{name}/motion" in own.totals or f"{name}/colour" in own.totals
    tally.add(f"{name}/exact", names_things and own.rights[f"{name}/exact"][0])
    if names_things:
        slots = f"{name}/slots"
        tally.add(slots, own.rights[slots][0], own.totals[slots][0])
