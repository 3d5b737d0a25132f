"""`Source`, the face of everything that yields clips, and `open_source`, which picks one by name.

Knows the names of the sources; each is imported only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from data.clip import Clip

SOURCE_FORMS = "a folder of clips, scenes:easy, scenes:standard, scenes:hard or hub:NAME_OR_PATH"


@dataclass(frozen=True)
class Skipped:
    """A clip that a source leaves out."""

    path: str  # file (or row) as the source names it
    reason: str  # one line


@runtime_checkable
class Source(Protocol):
    """Clips by number. `source[i]` is the same clip every time, in every process."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def skipped(self) -> list[Skipped]:
        """Clips that could not be read and are not counted by `len`."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Clip: ...


@dataclass(frozen=True)
class Parts:
    """A clip in parts of a number of frames each, the last one shorter; iterated as often as asked.

    Sources that read from files hold one part at a time; of others the clip is made whole.
    """

    num_frames: int  # of the whole clip
    cut: Callable[[], Iterator[Clip]]

    def __iter__(self) -> Iterator[Clip]:
        return self.cut()


def parts_of(source: Source, index: int, length: int) -> Parts:
    """Clip `index` in parts of `length` frames."""
    parts: Callable[[int, int], Parts] | None = getattr(source, "parts", None)
    if parts is not None:
        return parts(index, length)
    clip = source[index]

    def cut() -> Iterator[Clip]:
        for first in range(0, len(clip), length):
            part = slice(first, first + length)
            yield replace(clip, frames=clip.frames[part], timestamps=clip.timestamps[part])

    return Parts(len(clip), cut)


def open_source(
    spec: str | Path,
    *,
    split: str = "train",
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    strict: bool = False,
    num_clips: int | None = None,
    seed: int = 0,
    cache: bool = False,
) -> Source:
    """The source that `spec` names.

    Args:
        spec: A folder of clips (see `data.folder.Folder`), `scenes:easy|standard|hard` for the
            made world, or `hub:NAME_OR_PATH` for a `datasets` dataset with a video column.
        split: Which part: train, heldout, unseen (scenes), or a folder's or dataset's own name.
        num_frames: Frames a clip; None keeps each clip whole (scenes: its default, 16).
        height: Pixels; None keeps the clip's own (scenes: its default, 64).
        width: Pixels; None keeps the clip's own (scenes: its default, 64).
        fps: Frames a second to sample at; None keeps every frame (scenes: its default, 8).
        strict: Stop at the first clip that cannot be read instead of leaving it out.
        num_clips: At most so many clips, the first ones; None for all (scenes: its default).
        seed: Chooses what made worlds draw; stored clips do not depend on it.
        cache: Keep decoded clips of a folder under runs/cache, so that later epochs read arrays.

    Raises:
        ValueError: An unknown name, or no readable clip.
        FileNotFoundError: A folder that does not exist.
    """
    text = str(spec)
    if not text:
        raise ValueError(f"an empty source: give {SOURCE_FORMS}")
    kind, colon, rest = text.partition(":")
    if colon and kind == "scenes":
        from data.scenes import Scenes

        wanted = {
            "num_frames": num_frames,
            "height": height,
            "width": width,
            "fps": fps,
            "num_clips": num_clips,
        }
        given = {key: value for key, value in wanted.items() if value is not None}
        return Scenes(rest or "easy", split=split, seed=seed, **given)  # pyright: ignore
    if colon and kind == "hub":
        if not rest.strip("/ "):
            raise ValueError(f"source '{text}' names no dataset: give {SOURCE_FORMS}")
        from data.hub import HubSource

        return HubSource(
            rest,
            split=split,
            num_frames=num_frames,
            height=height,
            width=width,
            fps=fps,
            strict=strict,
            num_clips=num_clips,
        )
    path = Path(text)
    if not path.exists():
        raise FileNotFoundError(f"no source '{text}': give {SOURCE_FORMS}")
    if not path.is_dir():
        raise ValueError(f"{text} is a file: a source is {SOURCE_FORMS}")
    from data.folder import Folder

    return Folder(
        path,
        split,
        num_frames=num_frames,
        height=height,
        width=width,
        fps=fps,
        strict=strict,
        num_clips=num_clips,
        cache=cache,
    )
