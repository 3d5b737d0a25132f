"""Long videos cut into short clips: a folder of two splits for training, read frame by frame.

Both splits come from different files, because neighbouring clips of one file look alike. It knows
files and times; it knows nothing of what is learned from the clips.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from data.clip import Clip
from data.errors import VideoError
from data.folder_writing import keep_settings, write_folder
from data.layout import WHOLE, find_rows
from data.metadata import Row
from data.raster import Fit
from data.reading import iterate_frames

_SPLITS = ("train", "heldout")
_EARLY = 1e-6  # seconds that a frame may be before its place on the grid of `fps`


@dataclass(frozen=True)
class CutReport:
    """What `cut` leaves behind."""

    out: str  # folder; each split is a folder in it
    clips: dict[str, int]  # per split
    files: dict[str, list[str]]  # per split; of one that is too short a warning tells


def cut(
    source: Path,
    out: Path,
    frames: int = 16,
    every: int | None = None,
    fps: float | None = None,
    height: int | None = None,
    width: int | None = None,
    fit: Fit = "cover",
    heldout: Sequence[str] = (),
) -> CutReport:
    """Cut the videos of a folder into clips of some frames each, in a folder to train on.

    Files of any length are read once, frame by frame. All clips of a file are in one split.
    Captions and labels of a file are given to each of its clips; questions are not, as they may be
    about another moment. Run again, it goes on where it stopped.

    Example: kinolex data cut films --out clips --frames 32 --fps 8 --height 64 --width 64

    Args:
        source: Folder of videos, with or without metadata.jsonl, and with or without a folder for
            each split.
        out: The folder to write: train/ and heldout/, near-lossless mp4 files.
        frames: Of each clip. What is left at a file's end is dropped.
        every: Frames from the beginning of a training clip to that of the next; as many as it has
            if left out. Held-out clips never overlap, so that each counts for itself.
        fps: Frames a second to sample at, before cutting; a file with fewer keeps those it has.
        height: Pixels; the files' own if left out, alone it keeps the shape.
        width: Pixels.
        fit: With both sizes, cover crops the centre and stretch reshapes.
        heldout: Names of the files to hold out; if left out, the source's own split, or else a
            tenth of its files, chosen by name.

    Raises:
        ValueError: A number out of range, a name that is not there, a split without clips, or
            `out` holds something else or was cut otherwise.
    """
    step = frames if every is None else every
    for name, value in (("frames", frames), ("every", step)):
        if value < 1:
            raise ValueError(f"{name}={value}: give a whole number of at least 1")
    if fps is not None and not fps > 0:
        raise ValueError(f"fps={fps}: give a positive number of frames a second")
    splits = _splits(source, heldout)
    files = {split: sorted({row.file_name for row in rows}) for split, (_, rows) in splits.items()}
    asked = {"source": str(source), "frames": frames, "every": step, "fps": fps}
    asked |= {"height": height, "width": width, "fit": fit, "files": files}
    steps = {"train": step, "heldout": max(step, frames)}
    begun: dict[str, Iterator[Clip]] = {}
    for split, (root, rows) in splits.items():  # what one lacks shows before anything is written
        stretches = _all_stretches(root, rows, frames, steps[split], fps, (height, width, fit))
        first = next(stretches, None)
        if first is None:
            raise ValueError(
                f"{', '.join(files[split])}: no clip of {frames} frames for {split}: give fewer "
                "frames, or name other files with --heldout"
            )
        begun[split] = chain([first], stretches)
    keep_settings(out / "cut.json", asked)
    clips = {split: write_folder(found, out / split) for split, found in begun.items()}
    return CutReport(str(out), clips, files)


def _splits(source: Path, heldout: Sequence[str]) -> dict[str, tuple[Path, list[Row]]]:
    """The folder and the rows of each split."""
    if not heldout:
        return {split: find_rows(source, split) for split in _SPLITS}
    root, rows = find_rows(source, WHOLE)
    names = sorted({row.file_name for row in rows})
    for name in heldout:
        if name not in names:
            raise ValueError(f"heldout '{name}' is no file of {source}: give of {', '.join(names)}")
    chosen = {
        split: [row for row in rows if (row.file_name in heldout) == (split == "heldout")]
        for split in _SPLITS
    }
    for split, some in chosen.items():
        if not some:
            raise ValueError(
                f"heldout {', '.join(heldout)} leaves nothing for {split}: {source} holds "
                f"{', '.join(names)}"
            )
    return {split: (root, some) for split, some in chosen.items()}


def _all_stretches(
    root: Path,
    rows: list[Row],
    frames: int,
    step: int,
    fps: float | None,
    look: tuple[int | None, int | None, Fit],
) -> Iterator[Clip]:
    for row in rows:
        yield from _stretches(root, row, frames, step, fps, look)


def _stretches(
    root: Path,
    row: Row,
    frames: int,
    step: int,
    fps: float | None,
    look: tuple[int | None, int | None, Fit],
) -> Iterator[Clip]:
    """The clips of a file; one that breaks off gives those before, with a warning."""
    height, width, fit = look
    held: list[tuple[np.ndarray, float]] = []
    skip = due = 0
    found = False
    try:
        for image, time in iterate_frames(
            root / row.file_name, height=height, width=width, fit=fit
        ):
            begin = row.start or 0.0
            if time < begin:
                continue
            if row.end is not None and time >= row.end:
                break
            if fps is not None:
                if (time - begin) * fps < due - _EARLY * fps:
                    continue
                due = int((time - begin) * fps + _EARLY * fps) + 1
            if skip:
                skip -= 1
                continue
            held.append((image, time))
            if len(held) == frames:
                found = True
                yield _clip(held, row)
                skip, held = max(0, step - frames), held[step:]
    except VideoError as error:
        warnings.warn(f"{error}: its clips end there", stacklevel=2)
        return
    if not found:
        warnings.warn(
            f"{row.file_name} has fewer than {frames} frames: no clip of it", stacklevel=2
        )


def _clip(held: list[tuple[np.ndarray, float]], row: Row) -> Clip:
    pictures = torch.from_numpy(np.stack([image for image, _ in held])).permute(0, 3, 1, 2)
    times = torch.tensor([time for _, time in held], dtype=torch.float64)
    return Clip(
        pictures.contiguous(),
        times - times[0],
        captions=row.captions,
        labels=dict(row.labels),
        source=row.file_name,
    )
