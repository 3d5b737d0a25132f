"""`make_scenes`: made scenes written to disk as a folder of captioned clips, like any other corpus.

For whoever wants to look at the files, feed other tools, or try the folder path of training; the
training commands read `scenes:easy` directly, without this detour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.folder import write_folder
from data.scenes.world import Scenes

HELD_OUT_SHARE = 10  # one held-out and one unseen clip for every so many training clips


@dataclass(frozen=True)
class ScenesReport:
    """What was written."""

    out: Path  # a folder with train/, heldout/ and unseen/
    clips: dict[str, int]  # clips per split


def make_scenes(
    clips: int,
    out: Path,
    difficulty: Literal["easy", "standard", "hard"] = "easy",
    frames: int = 16,
    height: int = 64,
    width: int = 64,
    fps: float = 8.0,
    seed: int = 0,
) -> ScenesReport:
    """Write made scenes as a folder of clips with captions, questions, labels and ground truth.

    `unseen/` holds only combinations of colour, shape and motion that the other splits never show.
    Run again, it goes on where it stopped.

    Example: kinolex data make scenes --clips 100 --out clips

    Args:
        clips: Training clips to write; a tenth as many held-out and unseen ones are added.
        out: The folder to write.
        difficulty: easy, standard or hard.
        frames: Frames a clip.
        height: Pixels.
        width: Pixels.
        fps: Frames a second.
        seed: Chooses the scenes.
    """
    if clips < 1:
        raise ValueError(f"clips={clips}: write at least one clip")
    fewer = max(1, clips // HELD_OUT_SHARE)
    counts = {"train": clips, "heldout": fewer, "unseen": fewer}
    for split, count in counts.items():
        world = Scenes(
            difficulty,
            split=split,
            num_clips=count,
            num_frames=frames,
            height=height,
            width=width,
            fps=fps,
            seed=seed,
        )
        write_folder((world[i] for i in range(count)), out / split, fps=fps)
    return ScenesReport(out, counts)
