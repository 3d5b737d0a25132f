"""A folder of clips with what is said about them, in the `videofolder` layout of `datasets`.

    PATH/train/metadata.jsonl, PATH/train/0001.mp4, ... PATH/heldout/...     (or without splits)

It knows where files and rows are; it does not know batches or codecs.
"""

from __future__ import annotations

from pathlib import Path

from data.clip_cache import CACHE, ClipCache
from data.folder_writing import num_written, write_folder
from data.layout import WHOLE, find_rows
from data.metadata import Row
from data.raster import Fit
from data.stored import Shape, StoredClips

__all__ = ["Folder", "num_written", "write_folder"]


class Folder(StoredClips):
    """The clips of one split of a folder.

    With `metadata.jsonl` or `.csv` its rows are the clips: `file_name` (a video, an image or a
    folder of images), `text` (one caption or a list), and optionally `questions` (a list of
    question, answer, kind, choices), `labels`, `events` (a list of text, start and, unless it is a
    moment, end), `start` and `end` (seconds) and `truth`. Without it every video found is a clip,
    labelled by its subfolder if it has one.

    Files that cannot be read are left out, named in a warning and listed in `skipped`. A clip's
    times count from its file's first frame, also where the clip begins later.

    Args:
        path: The folder, with or without a subfolder per split.
        split: Subfolder; `heldout` also finds validation, val, test or eval. Without subfolders
            a tenth of the files are `heldout`, the others `train`; `all` is both.
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
        self.path = Path(path)
        self.split = split
        self._root, rows = find_rows(self.path, split)
        if self._root == self.path and split != WHOLE:  # names chose what is held out
            self._remedy += (
                f", or choose the clips of each split: make the folders {self.path / 'train'} and "
                f"{self.path / 'heldout'}"
            )
        super().__init__(
            f"{self.path}:{split}",
            rows,
            Shape(num_frames, height, width, fps, fit, image_fps),
            strict=strict,
            num_clips=num_clips,
            cache=ClipCache(Path(cache_dir)) if cache else None,
            num_threads=num_threads,
        )

    def _file(self, row: Row) -> Path:
        return self._root / row.file_name
