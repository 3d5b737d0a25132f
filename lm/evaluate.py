"""Evaluation of a model on clips it never saw, each score beside guessing and the codec's ceiling.

Knows tasks and judges. Knows no trainer and no command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from data.clip import Clip
from lm.batches import pad
from lm.corpus import label_of
from lm.direction_figures import direction_figures
from lm.document import Document, Item, Nothing, Task, Text, Video
from lm.drawing import Sampling
from lm.figures import Evaluation, Figure
from lm.forced_figures import judge_forced
from lm.frame_figures import frame_figures
from lm.judging import (
    Tally,
    can_judge_films,
    guesses,
    judge_answer,
    judge_caption,
    judge_film,
)
from lm.learning import make_decoder
from lm.loss import language_loss
from lm.model import Sizes
from lm.sequence import write
from lm.tasks import Model
from lm.time_figures import time_figures
from lm.video_reader import BEAMS
from tokenizer.progress import RunningCount
from tokenizer.tokens import VideoTokens

Progress = Callable[[int, int], None]  # done, in all
Told = Callable[[int], None]  # how many more are done
FILMS = Sampling(guidance=2.0)  # as `Model.generate` by default
CANDIDATES = 4  # films of a prompt of which the model picks one, measured beside single ones
BEST = "generation_best_of_"
UNTRAINED = 32  # films of a model with fresh weights, for the score of chance
ROWS = 32


def evaluate(
    model: Model,
    clips: Sequence[Clip],
    *,
    num_films: int = 64,
    films: Sampling = FILMS,
    seed: int = 0,
    tokens_per_frame: float | None = None,
    candidates: int = CANDIDATES,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model.

    Args:
        model: The model.
        clips: Clips it was not trained on, with captions, questions, labels or a world's truth;
            what is missing is not measured.
        num_films: Prompts to film, the first captions of the first clips; only where an oracle
            can read films.
        films: How to draw them.
        seed: Of films.
        tokens_per_frame: At most so many, of clips and of films; None: as trained.
        candidates: Films of a prompt, of which the one that the model's own captions fit best is
            measured beside single ones; 1: none.
        progress: Told the answers done and in all.
    """
    if not clips:
        raise ValueError("no clips to evaluate on: give a source that holds some")
    if candidates < 1:
        raise ValueError(f"candidates={candidates}: give 1 (no choice among films) or more")
    count = RunningCount(progress, _amount(clips, num_films, 1 + (candidates > 1)))
    tokens = model.encode_batch(clips, tokens_per_frame)
    tally, bounds = Tally(), Tally()
    _captions(model, clips, tokens, tally, count)
    _answers(model, clips, tokens, tally, count)
    _labels(model, clips, tokens, tally, count)
    filmed = can_judge_films(clips) and num_films > 0
    table: dict[str, tuple[float | None, float | None]] = dict(guesses(clips))
    if filmed:
        _ceilings(model, clips, tokens, bounds)
        shown = [clip for clip in clips if clip.captions][:num_films]
        drawn = _Drawn(films, seed, tokens_per_frame)
        plain = replace(drawn, sampling=replace(films, guidance=1.0))
        _films(model, shown, drawn, tally, count)
        _films(model, shown, plain, tally, None, name="generation_unguided")
        if candidates > 1:
            _films(model, shown, drawn, tally, count, candidates, f"{BEST}{candidates}")
        judge_forced(model, shown, model.encode_batch(shown, tokens_per_frame), tally)
        table |= _untrained(model, shown[:UNTRAINED], drawn)
    figures = [_figure(name, tally, bounds, table) for name in sorted(tally.totals)]
    figures += likelihoods(model, clips, tokens)
    figures += time_figures(model, clips, tokens)
    figures += direction_figures(model, clips, tokens, num_films, films, seed, tokens_per_frame)
    if num_films:
        figures += frame_figures(model, clips[:num_films], seed, films, tokens_per_frame)
    protocol = {
        "clips": len(clips),
        "format": str(model.framing.main),
        "captions": "greedy" if model.decoder.engine else f"{BEAMS} beams",
        **({} if tokens_per_frame is None else {"tokens_per_frame": f"{tokens_per_frame:g}"}),
        "films": f"T {films.video.temperature:g}, top-p {films.video.top_p:g}, "
        f"min-p {films.video.min_p:g}, "
        f"guidance {films.guidance:g}"
        + (f", {films.parallel} codes a step" if films.parallel > 1 else "")
        + (" not exactly" if films.parallel > 1 and not films.exact else ""),
        "majority": "commonest of the evaluated clips",
        "seed": seed,
    }
    return Evaluation(figures, protocol)


def _figure(
    name: str, tally: Tally, bounds: Tally, table: dict[str, tuple[float | None, float | None]]
) -> Figure:
    chance, majority = table.get(name, (None, None))
    bound = name.replace("caption/", "generation/")
    if name.startswith(BEST):
        bound = f"generation/{name.split('/')[1]}"
        chance, majority = table.get(bound, (None, None))
    ceiling = bounds.share(bound) if bound in bounds.totals else None
    return tally.figure(name, chance=chance, majority=majority, ceiling=ceiling)


def _amount(clips: Sequence[Clip], num_films: int, times: int) -> int:
    answers = sum(len(clip.questions) for clip in clips)
    labels = sum(bool(clip.labels) for clip in clips)
    films = min(num_films, len(clips)) if can_judge_films(clips) else 0
    return len(clips) + answers + labels + times * films


def _captions(
    model: Model,
    clips: Sequence[Clip],
    tokens: list[VideoTokens],
    tally: Tally,
    count: Told,
) -> None:
    chosen = [i for i, clip in enumerate(clips) if clip.captions]
    said = model.caption_batch([tokens[i] for i in chosen], progress=count)
    searched = model.decoder.engine is None
    greedy = model.caption_batch([tokens[i] for i in chosen], beams=1) if searched else said
    for i, text, word_by_word in zip(chosen, said, greedy, strict=True):
        judge_caption(text, clips[i], tally, "caption")
        own = Tally()
        judge_caption(word_by_word, clips[i], own, "caption")
        tally.add("caption/exact_greedy", own.rights["caption/exact"][0])


def _answers(
    model: Model,
    clips: Sequence[Clip],
    tokens: list[VideoTokens],
    tally: Tally,
    count: Told,
) -> None:
    asked = [(i, question) for i, clip in enumerate(clips) for question in clip.questions]
    answers = model.ask_batch(
        [tokens[i] for i, _ in asked], [q.question for _, q in asked], progress=count
    )
    for (_, question), answer in zip(asked, answers, strict=True):
        judge_answer(answer, question, tally, "answer")


def _labels(
    model: Model,
    clips: Sequence[Clip],
    tokens: list[VideoTokens],
    tally: Tally,
    count: Told,
) -> None:
    truths = [label_of(clip.labels) for clip in clips]
    labels = sorted({truth for truth in truths if truth})
    chosen = [i for i, truth in enumerate(truths) if truth]
    if len(labels) < 2:
        return
    ranked = model.recognize_batch([tokens[i] for i in chosen], labels, progress=count)
    for i, scores in zip(chosen, ranked, strict=True):
        tally.add("recognition", scores[0].label == truths[i])


def _ceilings(model: Model, clips: Sequence[Clip], tokens: list[VideoTokens], tally: Tally) -> None:
    """The oracle on reconstructions: no film and no caption can be expected to do better."""
    for again, clip in zip(model.codec.decode_batch(tokens), clips, strict=True):
        judge_film(again.frames, clip.caption, tally, "generation")


@dataclass(frozen=True)
class _Drawn:
    """How films are drawn: the first with `seed`, the others counting on."""

    sampling: Sampling
    seed: int
    tokens_per_frame: float | None


def _films(
    model: Model,
    clips: Sequence[Clip],
    drawn: _Drawn,
    tally: Tally,
    count: Told | None,
    candidates: int = 1,
    name: str = "generation",
    beams: int | None = None,
) -> None:
    """Films of the clips' captions, read by the oracle and by the model's own captions."""
    prompts = [clip.caption for clip in clips]
    made = model.generate_batch(
        prompts,
        None,
        [drawn.seed + i for i in range(len(clips))],
        drawn.sampling,
        tokens_per_frame=drawn.tokens_per_frame,
        candidates=candidates,
        progress=count,
    )
    for film, prompt in zip(made, prompts, strict=True):
        judge_film(film.frames, prompt, tally, name)
    seen = model.encode_batch(made, drawn.tokens_per_frame)
    for said, clip in zip(model.caption_batch(seen, beams=beams), clips, strict=True):
        own = Tally()
        judge_caption(said, clip, own, name)
        tally.add(f"{name}/by_own_captions", own.rights[f"{name}/exact"][0])


def _untrained(
    model: Model, clips: Sequence[Clip], drawn: _Drawn
) -> dict[str, tuple[float | None, float | None]]:
    """What films of a model with fresh weights score: the chance of generation."""
    names = Sizes.__dataclass_fields__
    sizes = Sizes(**{name: getattr(model.decoder.config, name) for name in names})
    decoder = make_decoder(model.vocabulary, model.decoder.code_features, sizes, drawn.seed)
    tally = Tally()
    untrained = Model(decoder, model.vocabulary, model.codec)
    _films(untrained, clips, drawn, tally, None, beams=1)  # its texts have no end
    return {name: (tally.share(name), None) for name in tally.totals}


@torch.inference_mode()
def likelihoods(model: Model, clips: Sequence[Clip], tokens: Sequence[VideoTokens]) -> list[Figure]:
    """Teacher-forced costs: bits per byte of a caption after its video, bits per frame of a video
    after its caption and after nothing. Independent of the pieces and of the rate."""
    told = [(c, t) for c, t in zip(clips, tokens, strict=True) if c.captions]
    figures = []
    if told:
        pairs = [(Task("watch"), Video(t), Text("caption", c.caption)) for c, t in told]
        size = sum(len(c.caption.encode()) for c, _ in told)
        figures.append(_cost(model, "caption_cost", pairs, "text", size, "bits a byte"))
        pairs = [(Task("film"), Text("caption", c.caption), Video(t)) for c, t in told]
        frames = sum(t.num_frames for _, t in told)
        figures.append(_cost(model, "video_cost", pairs, "video", frames, "bits a frame"))
    pairs = [(Task("film"), Nothing(), Video(t)) for t in tokens]
    frames = sum(t.num_frames for t in tokens)
    figures.append(_cost(model, "video_cost_unprompted", pairs, "video", frames, "bits a frame"))
    return figures


def _cost(
    model: Model,
    name: str,
    documents: Sequence[tuple[Item, ...]],
    kind: str,
    size: int,
    unit: str,
) -> Figure:
    """Bits of the last item of each document after the others, over `size`."""
    nats = 0.0
    for first in range(0, len(documents), ROWS):
        part = [Document.of(*items) for items in documents[first : first + ROWS]]
        rows = [write(document, model.vocabulary, weights=[0, 0, 1]) for document in part]
        loss = language_loss(model.decoder, [pad(rows, model.vocabulary)])
        value, count = {"text": (loss.text, 1), "video": (loss.video, 2)}[kind]
        nats += float(value) * loss.tokens[count]
    return Figure(name, nats / math.log(2) / size, n=len(documents), unit=unit)
