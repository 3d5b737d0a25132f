"""Writing a folder of clips that `data.folder.Folder` and `datasets` read, resumably.

The metadata gets its name when the last clip is written, so an unfinished folder is seen as such.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from data.atomic import write_atomically
from data.clip import Clip
from data.layout import UNFINISHED
from data.metadata import find_metadata, metadata_row
from data.source import Source
from data.writing import Quality, write_video

_PATIENCE = 100  # clips that are written without showing a bar


def num_written(path: str | Path) -> int:
    """How many clips `write_folder` has written to `path` so far."""
    folder = Path(path)
    rows = find_metadata(folder) or folder / UNFINISHED
    return len(_whole_lines(rows)) if rows.exists() else 0


def write_folder(
    clips: Iterable[Clip] | Source,
    path: str | Path,
    *,
    fps: float | None = None,
    suffix: str = ".mp4",
    resume: bool = True,
    quality: Quality = "high",
    total: int | None = None,
) -> int:
    """Write clips and what they say as a folder that `Folder` and `datasets` read.

    An interrupted folder goes on after the last whole clip when it is written again with the same
    clips: a sequence is then asked only for the missing ones, of another iterable as many are
    passed over as there are (`num_written` tells how many, so that they need not be made).

    Args:
        clips: Finite.
        path: Folder, e.g. DIR/train; made if it does not exist.
        fps: Frames a second; None keeps each clip's own times.
        suffix: Format of the files, see `data.writing.write_video`.
        resume: Go on with an unfinished folder; a finished one is left as it is.
        quality: As for `write_video`.
        total: Number of clips, for the progress bar of an iterable without length.

    Returns:
        Clips in the folder.

    Raises:
        ValueError: The folder holds something else, or `resume` is False and it holds clips.
    """
    from rich.progress import track

    folder = Path(path)
    done = num_written(folder)
    if find_metadata(folder) is not None:
        if not resume:
            raise ValueError(f"{folder} already holds {done} clips; give another folder")
        return done
    partial_rows = folder / UNFINISHED
    if folder.exists() and not partial_rows.exists() and any(folder.glob("[!.]*")):
        raise ValueError(f"{folder} holds other files; give a new folder")
    if done and not resume:
        raise ValueError(f"{folder} is unfinished with {done} clips; resume, or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    lines = _whole_lines(partial_rows) if done else []
    write_atomically(partial_rows, "".join(lines).encode())  # without a line cut by a kill
    if isinstance(clips, Sequence | Source):
        total = len(clips)
        left = (clips[number] for number in range(done, total))
    else:
        left = islice(clips, done, None)
    with open(partial_rows, "a", encoding="utf-8") as rows:
        shown = track(
            left,
            f"Writing {folder}",
            total=None if total is None else total - done,
            disable=total is not None and total - done < _PATIENCE,
        )
        for number, clip in enumerate(shown, start=done):
            name = f"clip-{number:06d}{suffix}"
            line = metadata_row(clip, name)
            write_video(clip, folder / name, fps, quality=quality)
            rows.write(line + "\n")
            rows.flush()
            done = number + 1
    if not done:
        raise ValueError(f"{folder}: there are no clips to write; give at least one")
    partial_rows.replace(folder / "metadata.jsonl")
    return done


def keep_settings(record: Path, settings: Mapping[str, Any]) -> None:
    """Keep the settings that clips were made with beside them, so that a run goes on with the same.

    Args:
        record: JSON file in the folder that the clips or their splits are written to.
        settings: All that changes the clips, JSON values.

    Raises:
        ValueError: The folder was made with other settings, or holds something else.
    """
    folder = record.parent
    if not record.exists():
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} holds other files; give a new folder")
        write_atomically(record, json.dumps(settings, indent=2).encode() + b"\n")
        return
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{record} is not JSON; delete the folder and make it again") from None
    for key, value in settings.items():
        if known.get(key) != value:
            raise ValueError(
                f"{folder} was made with {key}={known.get(key)}, not {value}; "
                "give the same or another folder"
            )


def _whole_lines(file: Path) -> list[str]:
    with open(file, encoding="utf-8") as rows:
        return [line for line in rows if line.endswith("\n") and line.strip()]
