"""A folder of clips with what is said about them, in the `videofolder` layout of `datasets`.

    PATH/train/metadata.jsonl, PATH/train/0001.mp4, ... PATH/heldout/...     (or without splits)

It decides once, when opened, which clips can be read, so that its length and each clip are fixed.
It knows files and rows; it does not know batches or codecs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.clip import Clip
from data.clip_cache import CACHE, ClipCache, fingerprint
from data.errors import VideoError, VideoWarning
from data.layout import UNFINISHED, find_rows
from data.metadata import Row, find_metadata, metadata_row
from data.raster import Fit
from data.reading import MAX_PIXELS, iterate_frames, read_clip, read_times
from data.sampling import TargetFps
from data.source import Skipped
from data.writing import Quality, write_video

_PATIENCE = 100  # files that are checked, or written, without showing a bar


@dataclass(frozen=True)
class _Entry:
    row: Row
    path: Path
    times: Tensor  # float64, seconds of all the file's frames
    picks: Tensor  # int64, frames of the file that the clip may show, after start, end and fps


class Folder:
    """The clips of one split of a folder.

    With `metadata.jsonl` or `.csv` its rows are the clips: `file_name` (a video, an image or a
    folder of images), `text` (one caption or a list), and optionally `questions` (a list of
    question, answer, kind, choices), `labels`, `start` and `end` (seconds) and `truth`. Without
    it every video found is a clip, labelled by its subfolder if it has one.

    Files that cannot be read are left out, named in a warning and listed in `skipped`. A clip's
    times count from its file's first frame, also inside a file.

    Args:
        path: The folder, with or without a subfolder per split.
        split: Subfolder; `heldout` also finds validation, val, test or eval.
        num_frames: Frames a clip: shorter ones are left out, of longer ones `[i]` is the middle
            and `window` a stretch drawn at random. None keeps clips whole.
        height: Pixels; alone it keeps the shape.
        width: Pixels.
        fps: Frames a second to sample at; a file with fewer keeps those it has.
        fit: With both sizes, `cover` crops the centre and `stretch` reshapes.
        strict: Raise at the first clip that would be left out.
        num_clips: At most so many clips, the first ones.
        cache: Keep decoded clips as arrays, so that later epochs need no decoding.
        cache_dir: Where they are kept.
        image_fps: Images a second of folders of images.
        num_threads: Files checked at a time when opening.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: No such split, wrong metadata, or no readable clip.
        VideoError: With `strict`, the first file that cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        split: str = "train",
        *,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
        fit: Fit = "cover",
        strict: bool = False,
        num_clips: int | None = None,
        cache: bool = False,
        cache_dir: str | Path = CACHE,
        image_fps: float = 8.0,
        num_threads: int = 2,
    ) -> None:
        for name, value in (("num_frames", num_frames), ("num_clips", num_clips)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: at least 1")
        self.path = Path(path)
        self.split = split
        self.name = f"{self.path}:{split}"
        self.num_frames = num_frames
        self.skipped: list[Skipped] = []
        self._sampler = TargetFps(fps) if fps is not None else None
        self._image_fps = image_fps
        self._look = [height, width, fit, image_fps]  # with `fps`, all that changes the pixels
        look = {"height": height, "width": width, "fit": fit, "image_fps": image_fps}
        self._read_clip = partial(read_clip, **look)
        self._iterate = partial(iterate_frames, **look)
        self._cache = ClipCache(Path(cache_dir)) if cache else None
        self._entries: list[_Entry] = []
        root, rows = find_rows(self.path, split)
        self._check(root, rows, strict, num_clips, num_threads)

    def _check(
        self, root: Path, rows: list[Row], strict: bool, num_clips: int | None, num_threads: int
    ) -> None:
        wanted = len(rows) if num_clips is None else num_clips
        for row, found in _times_of(root, rows, self._image_fps, num_threads):
            path = root / row.file_name
            error = found if isinstance(found, ValueError) else None
            if isinstance(found, Tensor):
                try:
                    self._entries.append(_Entry(row, path, found, self._pick(row, found)))
                except ValueError as problem:
                    error = problem
            if error is not None and strict:
                raise error
            if error is not None:
                text = error.problem if isinstance(error, VideoError) else str(error)
                self.skipped.append(Skipped(str(path), text))
            if len(self._entries) >= wanted:
                break
        if self.skipped:
            total = len(self.skipped) + len(self._entries)
            named = "; ".join(f"{Path(s.path).name} {s.reason}" for s in self.skipped[:3])
            more = f"; and {len(self.skipped) - 3} more" if len(self.skipped) > 3 else ""
            text = f"{self.name}: left out {len(self.skipped)} of {total} clips: {named}{more}"
            if not self._entries:
                raise ValueError(f"{text}; no clip remains, mend the files or ask for less")
            warnings.warn(text, VideoWarning, stacklevel=4)

    def _pick(self, row: Row, times: Tensor) -> Tensor:
        first = 0 if row.start is None else int(torch.searchsorted(times, row.start - 1e-6))
        stop = len(times) if row.end is None else int(torch.searchsorted(times, row.end - 1e-6))
        if first >= stop:
            last = float(times[-1])
            raise ValueError(
                f"has no frame from {row.start or 0} s on, its last is at {last:.3f} s"
            )
        picks = torch.arange(first, stop)
        if self._sampler is not None:
            picks = self._sampler.select(times[first:stop]) + first
        if self.num_frames is not None and len(picks) < self.num_frames:
            rate = f" at {self._sampler.fps:g} fps" if self._sampler else ""
            raise ValueError(
                f"is shorter than {self.num_frames} frames{rate} (it has {len(picks)})"
            )
        return picks

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Clip:
        entry = self._entries[index]
        slack = len(entry.picks) - (self.num_frames or len(entry.picks))
        return self._read(entry, slack // 2)

    def window(self, index: int, generator: torch.Generator | None = None) -> Clip:
        """Clip `index` from a first frame drawn at random; whole if `num_frames` is None."""
        entry = self._entries[index]
        slack = len(entry.picks) - (self.num_frames or len(entry.picks))
        return self._read(entry, int(torch.randint(slack + 1, (), generator=generator)))

    def _read(self, entry: _Entry, first: int) -> Clip:
        picks = entry.picks[first : first + (self.num_frames or len(entry.picks))]
        clip = self._cached(entry, first, picks) if self._cache else None
        if clip is None:
            kept = _Picked(str(entry.path), picks, len(entry.times))
            clip = self._read_clip(entry.path, sampler=kept)
        row = entry.row
        return replace(
            clip,
            captions=row.captions,
            questions=row.questions,
            labels=dict(row.labels),
            source=str(entry.path),
            truth=row.truth,
        )

    def _cached(self, entry: _Entry, first: int, picks: Tensor) -> Clip | None:
        """From the cache, filled with all the frames that the clip may show."""
        assert self._cache is not None
        fps = self._sampler.fps if self._sampler else None
        key = [*fingerprint(entry.path), entry.row.start, entry.row.end, fps, self._look]
        images = self._cache.get(key)
        if images is None:
            height, width = next(self._iterate(entry.path))[0].shape[:2]
            if height * width * len(entry.picks) > MAX_PIXELS:
                return None  # too long to keep: each window is decoded when it is asked for
            images = self._cache.keep(key, self._shown(entry), len(entry.picks))
        part = np.array(images[first : first + len(picks)])  # (T, H, W, 3), off the disk
        frames = torch.from_numpy(part).permute(0, 3, 1, 2).contiguous()
        return Clip(frames, entry.times[picks])

    def _shown(self, entry: _Entry) -> Iterator[np.ndarray]:
        """The images of all the frames that the clip may show."""
        picks = entry.picks.tolist()
        wanted, number = set(picks), -1
        for number, (image, _) in enumerate(self._iterate(entry.path)):
            if number in wanted:
                yield image
            if number == picks[-1]:
                return
        raise _changed(str(entry.path), number + 1, len(entry.times))


def _times_of(
    root: Path, rows: Sequence[Row], image_fps: float, num_threads: int
) -> Iterator[tuple[Row, Tensor | VideoError]]:
    """Each row with its file's times, or why it has none; every file is read once."""
    from rich.progress import track

    def times(path: Path) -> Tensor | VideoError:
        try:
            return read_times(path, image_fps=image_fps)
        except VideoError as error:
            return error

    paths = dict.fromkeys(root / row.file_name for row in rows)
    executor = ThreadPoolExecutor(num_threads)
    try:
        found = {path: executor.submit(times, path) for path in paths}
        shown = track(rows, f"Checking {root}", transient=True, disable=len(paths) < _PATIENCE)
        for row in shown:
            yield row, found[root / row.file_name].result()
    finally:
        executor.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Picked:
    """A sampler of known frames, which a file may not have any more."""

    path: str
    picks: Tensor
    num_times: int

    def select(self, timestamps: Tensor) -> Tensor:
        if len(timestamps) != self.num_times:
            raise _changed(self.path, len(timestamps), self.num_times)
        return self.picks


def _changed(path: str, now: int, before: int) -> VideoError:
    problem = f"has {now} good frames, not {before} as when it was opened"
    return VideoError(path, problem, "open the folder again, or mend the file")


def num_written(path: str | Path) -> int:
    """How many clips `write_folder` has written to `path` so far."""
    folder = Path(path)
    rows = find_metadata(folder) or folder / UNFINISHED
    return len(_whole_lines(rows)) if rows.exists() else 0


def write_folder(
    clips: Iterable[Clip],
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
    total = len(clips) if isinstance(clips, Sequence) else total
    left = (clips[i] for i in range(done, len(clips))) if isinstance(clips, Sequence) else None
    left = islice(clips, done, None) if left is None else left
    with open(partial_rows, "w", encoding="utf-8") as rows:
        rows.writelines(lines)
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
    partial_rows.replace(folder / "metadata.jsonl")
    return done


def _whole_lines(file: Path) -> list[str]:
    with open(file, encoding="utf-8") as rows:
        return [line for line in rows if line.endswith("\n") and line.strip()]
