"""Clips that were filmed or made before: what folders and datasets of them have in common.

It decides once, when opened, which clips can be read, so that its length and each clip are fixed.
It knows rows and how to read a file; where the files are is its children's business.
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.clip import Clip
from data.clip_cache import ClipCache, fingerprint
from data.errors import VideoError, VideoWarning
from data.metadata import Row
from data.raster import Fit
from data.reading import MAX_PIXELS, iterate_frames, read_clip, read_times
from data.selection import Selection, select_frames
from data.source import Parts, Skipped

_PATIENCE = 100  # files that are checked without showing a bar


@dataclass(frozen=True)
class Shape:
    """What every clip of a source is brought to; None leaves it as it is."""

    num_frames: int | None = None
    height: int | None = None  # pixels
    width: int | None = None  # pixels
    fps: float | None = None  # frames a second, sampled at
    fit: Fit = "cover"
    image_fps: float = 8.0  # images a second of folders of images

    def __post_init__(self) -> None:
        for name in ("num_frames", "height", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: give at least 1")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"fps={self.fps}: frames a second must be positive")


class StoredClips:
    """A source of clips from rows; a child says by `_file` where a row's video is.

    Args:
        name: What reports call it.
        rows: What there is to read, and what is said of it.
        shape: What clips are brought to.
        strict: Raise at the first clip that would be left out.
        num_clips: At most so many clips, the first ones that can be read.
        cache: Where decoded clips are kept, if anywhere.
        num_threads: Files checked at a time when opening.
    """

    def __init__(
        self,
        name: str,
        rows: Sequence[Row],
        shape: Shape,
        *,
        strict: bool = False,
        num_clips: int | None = None,
        cache: ClipCache | None = None,
        num_threads: int = 2,
    ) -> None:
        if num_clips is not None and num_clips < 1:
            raise ValueError(f"num_clips={num_clips}: give at least 1")
        if not rows:
            raise ValueError(f"{name} holds no clips; give another source")
        self.name = name
        self.num_frames = shape.num_frames
        self.skipped: list[Skipped] = []
        self._shape = shape
        self._cache = cache
        self._entries: list[tuple[Row, Selection]] = []
        look = {"height": shape.height, "width": shape.width, "fit": shape.fit}
        self._read_clip = partial(read_clip, image_fps=shape.image_fps, **look)
        self._iterate = partial(iterate_frames, image_fps=shape.image_fps, **look)
        self._check(rows, len(rows) if num_clips is None else num_clips, strict, num_threads)

    _remedy = "mend the files or ask for less"  # where no clip remains

    def _file(self, row: Row) -> Path | bytes:
        raise NotImplementedError

    def _check(self, rows: Sequence[Row], wanted: int, strict: bool, num_threads: int) -> None:
        shape = self._shape
        for row, found in self._times_of(rows, num_threads):
            try:
                if isinstance(found, VideoError):
                    raise found
                selection = select_frames(
                    row.file_name,
                    found,
                    start=row.start,
                    end=row.end,
                    fps=shape.fps,
                    num_frames=shape.num_frames,
                )
                self._entries.append((row, selection))
            except VideoError as error:
                if strict:
                    raise
                self.skipped.append(Skipped(row.file_name, error.problem))
            if len(self._entries) >= wanted:
                break
        if self.skipped:
            total = len(self.skipped) + len(self._entries)
            named = "; ".join(f"{lost.path} {lost.reason}" for lost in self.skipped[:3])
            more = f"; and {len(self.skipped) - 3} more" if len(self.skipped) > 3 else ""
            text = f"{self.name}: left out {len(self.skipped)} of {total} clips: {named}{more}"
            if not self._entries:
                raise ValueError(f"{text}; no clip remains, {self._remedy}")
            warnings.warn(text, VideoWarning, stacklevel=4)

    def _times_of(
        self, rows: Sequence[Row], num_threads: int
    ) -> Iterator[tuple[Row, Tensor | VideoError]]:
        """Each row with its file's times, or why it has none; every file is read once."""
        from rich.progress import track

        def times(row: Row) -> Tensor | VideoError:
            try:
                return read_times(self._file(row), image_fps=self._shape.image_fps)
            except VideoError as error:
                return VideoError(row.file_name, error.problem, error.remedy)

        files = {row.file_name: row for row in reversed(rows)}
        executor = ThreadPoolExecutor(num_threads)
        try:
            found = {
                name: executor.submit(times, files[name])
                for name in dict.fromkeys(row.file_name for row in rows)
            }
            silent = len(files) < _PATIENCE
            for row in track(rows, f"Checking {self.name}", transient=True, disable=silent):
                yield row, found[row.file_name].result()
        finally:
            executor.shutdown(cancel_futures=True)

    @cached_property
    def fingerprint(self) -> str:
        """Another one where rows, sizes of files or the shape of clips are others."""
        told = hashlib.sha256(repr(self._shape).encode())
        for row, _ in self._entries:
            file = self._file(row)
            size = len(file) if isinstance(file, bytes) else fingerprint(file)[1:3]
            told.update(repr((replace(row, place=""), size)).encode())
        return told.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Clip:
        return self._read(index, self._slack(index) // 2)

    def labels(self, indices: Sequence[int]) -> list[dict[str, str]]:
        """The labels of some clips, without decoding them."""
        return [dict(self._entries[index][0].labels) for index in indices]

    def captions(self, indices: Sequence[int]) -> list[tuple[str, ...]]:
        """The captions of some clips, without decoding them."""
        return [self._entries[index][0].captions for index in indices]

    def window(self, index: int, generator: torch.Generator | None = None) -> Clip:
        """Clip `index` from a first frame drawn at random; whole if `num_frames` is None."""
        slack = self._slack(index)
        return self._read(index, int(torch.randint(slack + 1, (), generator=generator)))

    def parts(self, index: int, length: int) -> Parts:
        """Clip `index` in parts of `length` frames; no more than one is held."""
        row, selection = self._entries[index]
        part = selection.part(self._slack(index) // 2, self.num_frames or len(selection))

        def cut() -> Iterator[Clip]:
            file = self._file(row)
            images = self._shown(file, part)
            for times in part.times[part.picks].split(length):
                shown = np.stack(list(itertools.islice(images, len(times))))  # (n, H, W, 3)
                frames = torch.from_numpy(shown).permute(0, 3, 1, 2).contiguous()
                yield _described(Clip(frames, times), row, file)

        return Parts(len(part), cut)

    def _slack(self, index: int) -> int:
        return len(self._entries[index][1]) - (self.num_frames or len(self._entries[index][1]))

    def _read(self, index: int, first: int) -> Clip:
        row, selection = self._entries[index]
        file = self._file(row)
        part = selection.part(first, self.num_frames or len(selection))
        clip = None
        if self._cache is not None:
            clip = self._cached(self._cache, file, row, selection, first, part)
        if clip is None:
            clip = self._read_clip(file, sampler=part)
        return _described(clip, row, file)

    def _cached(
        self,
        cache: ClipCache,
        file: Path | bytes,
        row: Row,
        selection: Selection,
        first: int,
        part: Selection,
    ) -> Clip | None:
        """From the cache, filled with all the frames that the clip may show."""
        shape = self._shape
        pixels = [shape.height, shape.width, shape.fps, shape.fit, shape.image_fps]
        key = [*fingerprint(file), row.start, row.end, *pixels]
        images = cache.get(key)
        if images is None:
            height, width = next(self._iterate(file))[0].shape[:2]
            if height * width * len(selection) > MAX_PIXELS:
                return None  # too long to keep: each window is decoded when it is asked for
            images = cache.keep(key, self._shown(file, selection), len(selection))
        copy = np.array(images[first : first + len(part)])  # (T, H, W, 3), off the disk
        frames = torch.from_numpy(copy).permute(0, 3, 1, 2).contiguous()
        return Clip(frames, selection.times[part.picks])

    def _shown(self, file: Path | bytes, selection: Selection) -> Iterator[np.ndarray]:
        """The images of all the frames that the clip may show."""
        picks = selection.picks.tolist()
        wanted, number = set(picks), -1
        for number, (image, _) in enumerate(self._iterate(file)):
            if number in wanted:
                yield image
            if number == picks[-1]:
                return
        raise selection.changed(number + 1)


def _described(clip: Clip, row: Row, file: Path | bytes) -> Clip:
    """The clip with what its row says."""
    return replace(
        clip,
        captions=row.captions,
        questions=row.questions,
        labels=dict(row.labels),
        source=str(file) if isinstance(file, Path) else row.file_name,
        truth=row.truth,
        events=row.events,
    )
