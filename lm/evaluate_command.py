"""`kinolex lm evaluate`: clips from a source, a model from a folder, figures into a file.

Knows sources and files, not how anything is measured.
"""

from __future__ import annotations

from pathlib import Path

from data.atomic import check_writable
from lm.drawing import MIN_P, Draw, Sampling
from lm.evaluate import CANDIDATES
from lm.evaluate import evaluate as evaluate_model
from lm.figures import Evaluation, write_results
from lm.parallel import check
from lm.tasks import Model
from lm.watching import open_known
from tokenizer.progress import progress_bar


def evaluate(
    source: str,
    model: Path,
    split: str = "heldout",
    num_clips: int = 200,
    num_films: int = 64,
    guidance: float = 2.0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    min_p: float = MIN_P,
    seed: int = 0,
    out: Path | None = None,
    strict: bool = False,
    engine: str = "torch",
    tokens_per_frame: float | None = None,
    parallel: int = 1,
    exact: bool = True,
    candidates: int = CANDIDATES,
) -> Evaluation:
    """Measure captions, answers, recognition and generation beside guessing and the ceiling.

    Clips are taken in the format the model was trained on.

    Example: kinolex lm evaluate --source scenes:easy --model runs/demo/model

    Args:
        source: A folder of clips, scenes:easy|standard|hard, or hub:NAME.
        model: Folder of a model.
        split: Which part of the source: heldout, unseen (scenes), or a folder's own.
        num_clips: At most so many clips.
        num_films: Prompts to film (made scenes only: nothing else has an oracle).
        guidance: Of films.
        temperature: Of films.
        top_p: Of films.
        min_p: Of films.
        seed: Of clips of made worlds and of films.
        out: JSON file to write the figures to as well.
        strict: Stop at the first clip that cannot be read.
        engine: What writes texts and films: torch, torch:int8, llama.cpp or llama.cpp:q8_0.
        tokens_per_frame: At most so many, of clips and of films; the trained rate if left out.
        parallel: Codes of a block to draw in one step; the model must have been trained with
            --model.sizes.ahead of as many.
        exact: With parallel above 1, keep only codes that one by one would be as likely.
        candidates: Films of a prompt, of which the one that the model's own captions fit best is
            measured, too; 1: single films alone.
    """
    if num_films < 0:
        raise ValueError(f"num_films={num_films}: give 0 or more")
    draw = Draw(temperature, top_p=top_p, min_p=min_p)
    films = Sampling(video=draw, guidance=guidance, parallel=parallel, exact=exact)
    if out is not None:
        check_writable(out)
    loaded = Model.load(model, engine)
    if parallel > 1:
        check(loaded.decoder, parallel)  # now, and not after all captions
    clips = open_known(
        loaded.framing, source, split=split, num_clips=num_clips, strict=strict, seed=seed
    )
    chosen = [clips[i] for i in range(min(num_clips, len(clips)))]
    with progress_bar("evaluating") as progress:
        found = evaluate_model(
            loaded,
            chosen,
            num_films=num_films,
            films=films,
            seed=seed,
            tokens_per_frame=tokens_per_frame,
            candidates=candidates,
            progress=progress,
        )
    found = Evaluation(found.figures, {"source": f"{clips.name} {split}", **found.protocol})
    if out is not None:
        write_results(out, found.figures, found.protocol)
    return found
