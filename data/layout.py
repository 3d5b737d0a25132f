"""Where the clips of a folder are: its splits, its metadata, or else the videos found in it.

A folder without splits is divided by its files' names, so that what is watched and measured is
never what was trained on. It lists names only and opens neither videos nor metadata rows of its
own accord.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from hashlib import md5
from pathlib import Path

from data.images import IMAGE_SUFFIXES
from data.metadata import Row, find_metadata, read_metadata

VIDEO_SUFFIXES = set(
    ".mp4 .webm .mkv .mov .avi .m4v .gif .apng .mpg .mpeg .ts .m2ts .mts .wmv .asf .flv .ogv .3gp "
    ".y4m .mjpg .mjpeg .vob .mxf".split()
)
UNFINISHED = ".metadata.partial.jsonl"  # what `write_folder` has written so far
_SPLITS = ("train", "heldout", "unseen", "validation", "val", "test", "eval")
WHOLE = "all"  # the split that is every clip of a folder without splits
HELD_OUT_SHARE = 0.1  # of the files of such a folder
_ALIASES = {"heldout": ("heldout", "validation", "val", "test", "eval")}


def split_names(split: str) -> tuple[str, ...]:
    """The names that a split may go by."""
    return _ALIASES.get(split, (split,))


def find_rows(path: Path, split: str) -> tuple[Path, list[Row]]:
    """The folder that a split's file names start from, and its rows.

    Looks for PATH/SPLIT, then for rows of PATH's own metadata that lie in SPLIT/. A folder that
    has no splits at all is divided, with a warning: a tenth of its files are `heldout`, the others
    `train`, and `all` is both. But a folder that is itself named like a split is all `train`.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: No such split, an unfinished or empty folder, or wrong metadata.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; check the path")
    root = next((path / name for name in split_names(split) if (path / name).is_dir()), None)
    if root is None:
        present = [name for name in _SPLITS if (path / name).is_dir()]
        if present:
            raise ValueError(
                f"{path} has no split '{split}': its splits are {', '.join(present)}; make the "
                f"folder {path / split}, or name one that is there"
            )
        if split not in ("train", WHOLE, *_ALIASES["heldout"]):
            raise ValueError(
                f"{path} has no split '{split}': it has no splits and is divided into train and "
                f"heldout; name one of them or '{WHOLE}', or make the folder {path / split}"
            )
        rows = _rows(path)
        if split == WHOLE or (split == "train" and path.resolve().name in _SPLITS):
            return path, rows
        return path, divided(path, rows, split)
    return _rows_of_split(path, root)


def divided(path: Path, rows: list[Row], split: str) -> list[Row]:
    """The rows of a folder without splits that make up `split`; rows of one file stay together.

    Which files are held out depends on their names alone, so that it is the same for codec and
    language model and wherever the folder lies.
    """
    names = sorted({row.file_name for row in rows}, key=lambda n: md5(n.encode()).digest())
    if len(names) < 2:
        raise ValueError(
            f"{path} has no splits and one file: nothing can be held out of it; add clips, or make "
            f"the folders {path / 'train'} and {path / 'heldout'}"
        )
    held_out = set(names[: math.ceil(HELD_OUT_SHARE * len(names))])
    warnings.warn(
        f"{path} has no splits: {len(held_out)} of its {len(names)} files are held out of training",
        stacklevel=4,
    )
    return [row for row in rows if (row.file_name in held_out) == (split != "train")]


def _rows_of_split(path: Path, root: Path) -> tuple[Path, list[Row]]:
    """The rows of the folder `root`, or those that the metadata of `path` above has of it."""
    above = None if find_metadata(root) or (root / UNFINISHED).exists() else find_metadata(path)
    if above is not None:
        rows = [row for row in read_metadata(above) if Path(row.file_name).parts[0] == root.name]
        if rows:
            return path, rows
    return root, _rows(root)


def _rows(root: Path) -> list[Row]:
    """The rows of a folder's metadata, or of the videos found in it."""
    metadata = find_metadata(root)
    if metadata is not None:
        rows = read_metadata(metadata)
        _warn_of_unlisted(root, rows)
        return rows
    if (root / UNFINISHED).exists():
        raise ValueError(f"{root} is unfinished; run what was writing it again, it goes on")
    rows = _discover(root)
    if not rows:
        raise ValueError(f"{root} has neither metadata.jsonl nor videos; put clips in it")
    warnings.warn(f"{root} has no metadata.jsonl: its clips have no captions", stacklevel=6)
    return rows


def _discover(root: Path) -> list[Row]:
    """Every video below `root`, every folder of images there, or else the images in `root`."""
    found = _videos(root)
    for folder in sorted(item for item in root.rglob("*") if item.is_dir()):
        if _hidden(folder, root) or _videos(folder):
            continue
        if any(file.suffix.lower() in IMAGE_SUFFIXES for file in folder.iterdir()):
            found.append(folder)
    if not found:
        found = [f for f in sorted(root.iterdir()) if f.suffix.lower() in IMAGE_SUFFIXES]
    rows = [Row(item.relative_to(root).as_posix()) for item in found]
    return [_labelled(row) for row in sorted(rows, key=lambda row: row.file_name)]


def _labelled(row: Row) -> Row:
    folder = Path(row.file_name).parent.name
    return replace(row, labels={"label": folder}) if folder else row


def _videos(root: Path) -> list[Path]:
    files = (file for file in root.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES)
    return sorted(file for file in files if file.is_file() and not _hidden(file, root))


def _hidden(item: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in item.relative_to(root).parts)


def _warn_of_unlisted(root: Path, rows: list[Row]) -> None:
    listed = {root / row.file_name for row in rows}
    extra = [file for file in _videos(root) if file not in listed]
    if extra:
        named = ", ".join(file.name for file in extra[:3])
        warnings.warn(
            f"{root}: {len(extra)} videos are not in its metadata and left out: {named}"
            + (" ..." if len(extra) > 3 else ""),
            stacklevel=5,
        )
