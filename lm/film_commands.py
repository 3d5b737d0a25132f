"""Commands that write videos, as plain functions: their docstrings are the commands' help.

They know files and tasks, not prompts or ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data import muxing
from data.clip import Clip
from data.interrupts import nothing_written
from data.writing import check_target, write_film, write_video
from lm.drawing import MIN_P, Draw, Sampling
from lm.infilling import read_stills
from lm.rolling import Take
from lm.tasks import Model


@dataclass(frozen=True)
class Film:
    """A generated video."""

    prompt: str
    out: str
    num_frames: int
    height: int  # pixels
    width: int  # pixels
    seconds: float
    seed: int


def generate(
    out: Path,
    model: Path,
    prompt: str | None = None,
    seconds: float | None = None,
    seed: int = 0,
    guidance: float = 2.0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = MIN_P,
    tokens_per_frame: float | None = None,
    candidates: int = 1,
    negative: str | None = None,
    overlap: int | None = None,
    parallel: int = 1,
    exact: bool = True,
    rescale: float = 0.0,
    engine: str = "torch",
) -> Film:
    """Make a video from a prompt, of any length.

    Frames are written as they are made and memory does not grow with the length; of several
    candidates, and for .gif and .png, all are held first.

    Example: kinolex generate "a red circle" --out clip.mp4 --model runs/demo/model

    Args:
        out: Video to write; its suffix (mp4, webm, mkv, gif, apng, png) chooses the format.
        model: Folder of a model.
        prompt: What it is to show; anything the model has seen if left out.
        seconds: Length; as trained if left out.
        seed: The same seed gives the same video.
        guidance: How much to heed the prompt; 1 for no guidance.
        temperature: How varied; 0 for the likeliest codes.
        top_k: Likeliest codes to draw from; 0 for all.
        top_p: Probability mass of the likeliest codes to draw from; 1 for all.
        min_p: Codes less likely than this share of the likeliest are not drawn; 0 for all.
        tokens_per_frame: At most so many; the trained rate if left out.
        candidates: Videos to make; the one that the model's own captions fit best is kept.
        negative: What it is not to show: guidance leads away from that.
        overlap: Blocks that each window of a longer video begins with, the last of the one before;
            half of those it was trained on if left out.
        parallel: Codes of a block to draw in one step; the model must have been trained with
            `--model.sizes.ahead` of as many.
        exact: Whether they are drawn as one by one they would be; false is quicker, and worse.
        rescale: Share, 0 to 1, of what guidance adds to the spread of scores that is taken back.
        engine: What computes: torch, torch:bf16, torch:int8, llama.cpp, llama.cpp:q8_0.
    """
    check_target(out)
    with nothing_written(out):
        loaded = Model.load(model, engine)
        video = Draw(temperature, top_k, top_p, min_p)
        sampling = Sampling(
            video=video, guidance=guidance, rescale=rescale, parallel=parallel, exact=exact
        )
        rest = {"tokens_per_frame": tokens_per_frame, "negative": negative, "overlap": overlap}
        if candidates == 1 and _streams(out):
            take = loaded.generate_stream(prompt, seconds, seed, sampling, **rest)
            return _rolled(take, out, prompt or "", seed)
        (clip,) = loaded.generate_batch(
            [prompt], seconds, [seed], sampling, candidates=candidates, **rest
        )
        return _written(clip, out, prompt or "", seed)


def continue_(
    video: Path,
    out: Path,
    model: Path,
    seconds: float,
    prompt: str | None = None,
    seed: int = 0,
    guidance: float = 2.0,
    temperature: float = 1.0,
    min_p: float = MIN_P,
    tokens_per_frame: float | None = None,
    overlap: int | None = None,
    parallel: int = 1,
    exact: bool = True,
    top_k: int = 0,
    top_p: float = 1.0,
    rescale: float = 0.0,
    negative: str | None = None,
    engine: str = "torch",
) -> Film:
    """Write a video with what comes after it, at the model's frame rate and size.

    The model must have been trained on clips of two blocks or more.

    Example: kinolex continue clip.mp4 --seconds 2 --out longer.mp4 --model runs/doom-lm/model

    Args:
        video: A video, GIF or folder of images, at least one block long.
        out: Video to write; its suffix (mp4, webm, mkv, gif, apng, png) chooses the format.
        model: Folder of a model.
        seconds: How much to add.
        prompt: What all of it is to show; whatever follows if left out.
        seed: The same seed gives the same frames.
        guidance: How much to heed the prompt; 1 for no guidance.
        temperature: How varied; 0 for the likeliest codes.
        min_p: Codes less likely than this share of the likeliest are not drawn; 0 for all.
        tokens_per_frame: At most so many, read and written; the trained rate if left out.
        overlap: Blocks that each window begins with, of the video or of the window before; half of
            those it was trained on if left out.
        parallel: Codes of a block to draw in one step; the model must have been trained with
            `--model.sizes.ahead` of as many.
        exact: Whether they are drawn as one by one they would be; false is quicker, and worse.
        top_k: Likeliest codes to draw from; 0 for all.
        top_p: Probability mass of the likeliest codes to draw from; 1 for all.
        rescale: Share, 0 to 1, of what guidance adds to the spread of scores that is taken back.
        negative: What it is not to show: guidance leads away from that.
        engine: What computes: torch, torch:bf16, torch:int8, llama.cpp, llama.cpp:q8_0.
    """
    check_target(out)
    check_kept(out, [video])
    with nothing_written(out):
        loaded = Model.load(model, engine)
        draw = Draw(temperature, top_k, top_p, min_p)
        sampling = Sampling(
            video=draw, guidance=guidance, rescale=rescale, parallel=parallel, exact=exact
        )
        asked = video, seconds, prompt, seed, sampling, overlap, tokens_per_frame, negative
        if _streams(out):
            return _rolled(loaded.continue_stream(*asked), out, prompt or "", seed)
        return _written(loaded.continue_video(*asked), out, prompt or "", seed)


def infill(
    stills: list[Path],
    out: Path,
    model: Path,
    times: Sequence[float] = (),
    prompt: str | None = None,
    seed: int = 0,
    guidance: float = 2.0,
    context_guidance: float = 1.5,
    rescale: float = 0.0,
    temperature: float = 1.0,
    min_p: float = MIN_P,
    tokens_per_frame: float | None = None,
    candidates: int = 1,
    parallel: int = 1,
    exact: bool = True,
    top_k: int = 0,
    top_p: float = 1.0,
    negative: str | None = None,
) -> Film:
    """Make a video of which some frames are given, such as the first and the last.

    The model must have been taught to: token shards with `--stills 2`, `--data.mixture.fill 0.3`.

    Example: kinolex infill first.png last.png --out clip.mp4 --model runs/model

    Args:
        stills: Images, in order of time.
        out: Video to write; its suffix (mp4, webm, mkv, gif, apng, png) chooses the format.
        model: Folder of a model.
        times: Second of each; spread over the whole video if left out.
        prompt: What it is to show; whatever lies between if left out.
        seed: The same seed gives the same video.
        guidance: How much to heed the prompt; 1 for no guidance.
        context_guidance: How much to heed the stills; 1 for no guidance.
        rescale: Share, 0 to 1, of what guidance adds to the spread of scores that is taken back.
        temperature: How varied; 0 for the likeliest codes.
        min_p: Codes less likely than this share of the likeliest are not drawn; 0 for all.
        tokens_per_frame: At most so many; the trained rate if left out.
        candidates: Videos to make; the one whose frames come nearest to the stills is kept.
        parallel: Codes of a block to draw in one step; the model must have been trained with
            `--model.sizes.ahead` of as many.
        exact: Whether they are drawn as one by one they would be; false is quicker, and worse.
        top_k: Likeliest codes to draw from; 0 for all.
        top_p: Probability mass of the likeliest codes to draw from; 1 for all.
        negative: What it is not to show: guidance leads away from that.
    """
    check_target(out)
    check_kept(out, stills)
    with nothing_written(out):
        loaded = Model.load(model)
        video = Draw(temperature, top_k, top_p, min_p)
        sampling = Sampling(
            video=video,
            guidance=guidance,
            context_guidance=context_guidance,
            rescale=rescale,
            parallel=parallel,
            exact=exact,
        )
        known = read_stills(loaded, stills, times or None)
        rest = tokens_per_frame, candidates, negative
        clip = loaded.infill(known, prompt, seed, sampling, *rest)
        return _written(clip, out, prompt or "", seed)


def check_kept(out: Path, sources: Sequence[Path]) -> None:
    """Refuse to write over what is read."""
    for source in sources:
        if out.exists() and source.exists() and out.samefile(source):
            raise ValueError(f"{out} is also what is read: give another --out")


def _streams(out: Path) -> bool:
    """Whether frames can be written to a file as they come."""
    return out.suffix.lower() not in (".gif", ".png")


def _rolled(take: Take, out: Path, prompt: str, seed: int) -> Film:
    frames = (clip.frames for clip in take)
    reel = muxing.Film(frames, take.timestamps, take.height, take.width, prompt)
    write_film(reel, out)
    length = len(reel) / reel.fps if reel.fps else 0.0
    return Film(prompt, str(out), len(reel), reel.height, reel.width, length, seed)


def _written(clip: Clip, out: Path, prompt: str, seed: int) -> Film:
    write_video(clip, out)
    length = len(clip) / clip.fps if clip.fps else 0.0
    return Film(prompt, str(out), len(clip), clip.height, clip.width, length, seed)
