"""Making a world's clips into a folder: two splits, resumable, with a report.

Shared by `doom` and `babyai`. Knows folders and counts; knows no simulator and no sentence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from data.clip import Clip
from data.folder import num_written, write_folder
from data.folder_writing import keep_settings
from data.metadata import read_metadata
from data.wording import Majority, majority_baseline

SPLITS = ("train", "heldout")


@dataclass(frozen=True)
class WorldReport:
    """What a `data make` command leaves behind."""

    world: str
    out: str  # folder; each split is a folder in it
    clips: dict[str, int]  # per split
    made: int  # in this run; the others were there already
    seconds: float  # this run took
    # Per slot of the held-out captions, the commonest value and its share of the clips, 0 to 1:
    # what is right without looking.
    majority: dict[str, Majority] = field(default_factory=dict)


@dataclass(frozen=True)
class _Lazily(Sequence[Clip]):
    """Clips that are made when they are asked for."""

    make: Callable[[str, int], Clip]
    split: str
    count: int

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.count))]
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.make(self.split, index)


def split_sizes(clips: int, heldout_share: float) -> dict[str, int]:
    """How many clips each split gets, the held-out ones rounded to the nearest.

    Raises:
        ValueError: A number out of range, or a split without a clip.
    """
    if not 0 < heldout_share < 1:
        raise ValueError(f"heldout_share={heldout_share}: give a share between 0 and 1, e.g. 0.1")
    heldout = max(1, round(clips * heldout_share))
    if clips - heldout < 1:
        raise ValueError(f"clips={clips}: too few for two splits, give at least 2")
    return {"train": clips - heldout, "heldout": heldout}


def write_world(
    world: str,
    make: Callable[[str, int], Clip],
    clips: int,
    out: Path,
    *,
    settings: Mapping[str, Any],
    heldout_share: float,
) -> WorldReport:
    """Write `clips` clips to `out/train` and `out/heldout`, going on where an earlier run stopped.

    Args:
        world: The world's name.
        make: Clip `index` of a split, the same every time.
        clips: How many in all.
        out: The folder.
        settings: All that changes the clips; kept in `out/world.json`, and must be the same when
            the folder is gone on with.
        heldout_share: Share of the clips, 0 to 1, in `out/heldout`.

    Raises:
        ValueError: A number out of range, or `out` holds something else or other settings.
    """
    start, sizes = time.monotonic(), split_sizes(clips, heldout_share)
    keep_settings(
        out / "world.json",
        {"world": world, "clips": clips, "heldout_share": heldout_share, **settings},
    )
    before = sum(num_written(out / split) for split in SPLITS)
    for split in SPLITS:
        write_folder(_Lazily(make, split, sizes[split]), out / split)
    rows = read_metadata(out / "heldout" / "metadata.jsonl")
    return WorldReport(
        world,
        str(out),
        sizes,
        clips - before,
        round(time.monotonic() - start, 1),
        majority_baseline([row.truth for row in rows if row.truth]),
    )
