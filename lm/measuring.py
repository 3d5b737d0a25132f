"""The demo's figures: codec, captions, answers, recognition, films, on clips it never saw.

It asks the evaluations of codec and language model and puts their figures into one list. It knows
the demo's folder, not how anything is scored.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm.demo import demo_source
from lm.evaluate import evaluate
from lm.figures import Figure
from lm.tasks import Model
from tokenizer.evaluate import CodecReport
from tokenizer.evaluate import evaluate as evaluate_codec
from tokenizer.progress import progress_bar

CLIPS_PER_MINUTE = 15  # of budget, for each split
FILMS_PER_MINUTE = 8
SHARES = (1.0, 0.5, 0.25, 0.125)  # of the full rate, at which the codec is measured


def measure(
    out: Path, world: str, minutes: float, seed: int
) -> tuple[list[Figure], dict[str, Any]]:
    """Measure the demo's model and leave it in OUT/model.

    Args:
        out: The demo's folder, with both trainings done.
        world: The made world it was trained on, `scenes:...`.
        minutes: The demo's budget; more minutes, more clips.
        seed: The demo's; the clips are of other splits, so the same seed shares none.

    Returns:
        Figures, and the protocol they were taken by.
    """
    shutil.copytree(out / "lm" / "model", out / "model", dirs_exist_ok=True)
    model = Model.load(out / "model")
    num_clips = round(min(400, max(12, minutes * CLIPS_PER_MINUTE)))
    num_films = round(min(200, max(6, minutes * FILMS_PER_MINUTE)))
    heldout = demo_source(model.codec, world, "heldout", num_clips, seed)
    top = model.codec.max_tokens_per_frame(*(model.codec.trained_size or (32, 32)))
    with progress_bar("codec") as progress:
        codec = evaluate_codec(
            model.codec, heldout, [top * share for share in SHARES[1:]], progress=progress
        )
    figures = codec_figures(codec)
    protocol: dict[str, Any] = {
        "command": f"kinolex demo --minutes {minutes:g} --difficulty {world[7:]} --seed {seed}",
        "data": f"{world}, clips of {model.framing.main}",
        "splits": "heldout: other clips of combinations trained on; unseen: combinations of "
        "colour, shape and motion that training never showed",
        "codec": codec.protocol,
        "codec_id": codec.codec_id,
    }
    for split in ("unseen", "heldout"):
        clips = demo_source(model.codec, world, split, num_clips, seed)
        with progress_bar(f"{split} clips") as progress:
            found = evaluate(
                model,
                [clips[i] for i in range(num_clips)],
                num_films=num_films if split == "unseen" else 0,
                seed=seed,
                progress=progress,
            )
        figures += [replace(f, name=f"{split}/{f.name}") for f in found.figures]
        protocol[split] = found.protocol
    return figures, protocol


def codec_figures(report: CodecReport) -> list[Figure]:
    """PSNR at each rate beside a still of the first frame, SSIM and use of the codebook."""
    figures = []
    still = report.baselines["first frame"].psnr
    for rate in report.rates:
        name = f"codec/psnr_at_{rate.tokens_per_frame:g}_tokens_a_frame"
        figures.append(Figure(name, rate.score.psnr, report.num_clips, majority=still, unit="dB"))
    full = report.rates[0]
    if full.score.ssim is not None:
        figures.append(Figure("codec/ssim", full.score.ssim, report.num_clips))
    figures.append(Figure("codec/used_codes", full.used_codes, report.num_clips))
    figures.append(Figure("codec/perplexity", full.perplexity, report.num_clips, unit="codes"))
    return figures
