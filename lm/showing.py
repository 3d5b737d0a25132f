"""The demo's page: what to show of its models, laid out by `lm.report`.

It knows the demo's folder and picks clips, prompts and curves; figures come from results.json.
"""

from __future__ import annotations

import csv
from pathlib import Path

from torch import Tensor

from data.clip import Clip
from data.scenes import score_answer, score_caption
from data.writing import encode_gif
from lm.demo import demo_source, protocol_of, read_figures
from lm.judging import Tally, judge_film
from lm.report import Card, Film, Gallery, write_report
from lm.tasks import Model
from tokenizer.charts import Chart, Line

SHOWN = 8  # clips in each gallery: the first of their split, not picked
SCALE = 5  # screen pixels per pixel


def write_page(out: Path, world: str, minutes: float, seed: int) -> None:
    """Write OUT/report.html from OUT/model and OUT/results.json."""
    model = Model.load(out / "model")
    heldout = [c for c in _first(model, world, "heldout", seed)]
    unseen = [c for c in _first(model, world, "unseen", seed)]
    galleries = [
        Gallery(
            "What the codec keeps",
            "Held-out clips: the original beside what its tokens decode to, at the full rate and "
            "at a quarter of it, from one checkpoint. The first clips of the split, not picked.",
            _reconstructions(model, heldout),
        ),
        Gallery(
            "Captions and answers",
            "Clips of combinations never trained on. Green is right, red is wrong, as a parser of "
            "meaning judges it.",
            _captions(model, unseen),
        ),
        Gallery(
            "Generated from prompts",
            "Prompts of combinations never trained on: a clip that the world draws for the prompt, "
            "beside two that the model makes of it. Their places and sizes need not agree. The "
            "judgement is the classical oracle's, which sees only pixels.",
            _generations(model, unseen),
        ),
    ]
    curves = [
        *_curves(out / "codec" / "metrics.csv", {"val/psnr": "Codec: held-out PSNR (dB)"}),
        *_curves(
            out / "lm" / "metrics.csv",
            {
                "train/text": "Language model: text loss (nats a token)",
                "train/video": "Language model: video loss (nats a code)",
            },
        ),
    ]
    protocol = protocol_of(out / "results.json")
    write_report(
        out / "report.html",
        title="Kinolex demo",
        summary=f"A codec and a language model trained from scratch in {minutes:g} minutes on "
        f"{world}: clips become tokens, and one model captions, answers and generates.",
        figures=read_figures(out / "results.json"),
        protocol=f"`{protocol['command']}`. {protocol['data']}. {protocol['splits']}. "
        "Intervals: 95 % bootstrap over clips. Chance of generation: the same network untrained. "
        "Ceiling: the oracle on the codec's own reconstructions. The majority column of PSNR is "
        "the first frame held still.",
        galleries=galleries,
        curves=curves,
    )


def _first(model: Model, world: str, split: str, seed: int) -> list[Clip]:
    source = demo_source(model.codec, world, split, SHOWN, seed)
    return [source[i] for i in range(SHOWN)]


def _film(frames: Tensor, fps: float | None, label: str) -> Film:
    return Film(encode_gif(frames, fps or 8.0, scale=SCALE), label)


def _reconstructions(model: Model, clips: list[Clip]) -> list[Card]:
    full = [model.codec.encode(clip) for clip in clips]
    quarter = [tokens.keep(max(1, len(tokens.codes[0]) // 4)) for tokens in full]
    cards = []
    for clip, rates in zip(clips, zip(full, quarter, strict=True), strict=True):
        films = [_film(clip.frames, clip.fps, "original")]
        for tokens in rates:
            label = f"{tokens.tokens_per_frame:g} tokens a frame"
            films.append(_film(model.codec.decode(tokens).frames, clip.fps, label))
        cards.append(Card(films, []))
    return cards


def _captions(model: Model, clips: list[Clip]) -> list[Card]:
    cards = []
    for clip, caption in zip(clips, model.caption_batch(clips), strict=True):
        right = bool(score_caption(caption, clip.truth or {}).exact)
        lines: list[tuple[str, str, bool | None]] = [
            ("truth", clip.caption, None),
            ("model", caption, right),
        ]
        asked = clip.questions[:3]
        answers = model.ask_batch([clip] * len(asked), [q.question for q in asked])
        for question, answer in zip(asked, answers, strict=True):
            lines.append((question.question, answer, score_answer(answer, question)))
        cards.append(Card([_film(clip.frames, clip.fps, "the clip")], lines))
    return cards


def _generations(model: Model, clips: list[Clip]) -> list[Card]:
    prompts = [clip.caption for clip in clips for _ in range(2)]
    made = model.generate_batch(prompts, seeds=list(range(len(prompts))))
    cards = []
    for number, clip in enumerate(clips):
        pair = made[2 * number : 2 * number + 2]
        films = [_film(clip.frames, clip.fps, "drawn by the world")]
        films += [
            _film(c.frames, c.fps, f"generated, seed {2 * number + k}") for k, c in enumerate(pair)
        ]
        right = [_is_exact(c, clip.caption) for c in pair]
        verdict = f"{sum(right)} of {len(right)} show all of it"
        cards.append(Card(films, [("prompt", clip.caption, None), ("oracle", verdict, all(right))]))
    return cards


def _is_exact(clip: Clip, prompt: str) -> bool:
    tally = Tally()
    judge_film(clip.frames, prompt, tally, "film")
    return tally.share("film/exact") == 1.0


def _curves(path: Path, titles: dict[str, str]) -> list[Chart]:
    """The columns of a CSV log that were asked for, against steps."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    curves = []
    for column, title in titles.items():
        points = [(float(r["step"]), float(r[column])) for r in rows if r.get(column)]
        if points:
            curves.append(Chart(title, "steps", [Line(title, points)]))
    return curves
