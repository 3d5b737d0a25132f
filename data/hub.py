"""Clips from any `datasets` dataset with a video column: files, bytes in Parquet, saved datasets.

Videos are decoded here through PyAV, so torchcodec is not needed. Nothing is fetched from the
network unless the caller allows it. It knows columns; it does not know batches or codecs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.clip import Clip
from data.clip_cache import CACHE, ClipCache
from data.layout import split_names
from data.metadata import Row, parse_captions, parse_events, parse_labels, parse_questions
from data.raster import Fit
from data.stored import Shape, StoredClips

if TYPE_CHECKING:
    from datasets import Features

_TEXT_COLUMNS = ("text", "caption", "captions", "sentence", "description")
_DOWNLOADS = Path("runs/cache/datasets")


class HubSource(StoredClips):
    """The clips of one split of a dataset.

    The video column is the first of type `Video`, or one called `video`; what is said is taken
    from the columns `text` (or caption, captions, sentence, description), `questions` (or
    `question` and `answer`), `labels`, `start`, `end`, `truth`, as in a folder's metadata, and
    from class-label columns. Other columns are passed over.

    Args:
        dataset: A saved dataset, a folder or file of Parquet, a videofolder, a dataset's name on
            the Hub, or a `datasets` dataset itself.
        split: Part of it; `heldout` also finds validation, val, test or eval.
        num_frames: As for `Folder`.
        height: Pixels; alone it keeps the shape.
        width: Pixels.
        fps: Frames a second to sample at.
        fit: With both sizes, `cover` crops the centre and `stretch` reshapes.
        strict: Raise at the first clip that would be left out.
        num_clips: At most so many clips, the first ones; of a streamed dataset it is required,
            and that many rows, their videos undecoded, are held in memory.
        streaming: Read rows as they come instead of preparing the whole dataset first.
        allow_download: Let `datasets` use the network.
        video_column: Where the column is called otherwise.
        cache: Keep decoded clips as arrays, so that later epochs need no decoding.
        cache_dir: Where they are kept.

    Raises:
        FileNotFoundError: Not here, and downloading is not allowed.
        ValueError: No such split, no video column, wrong values, or no readable clip.
    """

    def __init__(
        self,
        dataset: Any,
        split: str = "train",
        *,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | None = None,
        fit: Fit = "cover",
        strict: bool = False,
        num_clips: int | None = None,
        streaming: bool = False,
        allow_download: bool = False,
        video_column: str | None = None,
        cache: bool = False,
        cache_dir: str | Path = CACHE,
    ) -> None:
        shape = Shape(num_frames, height, width, fps, fit)
        name, table = _load(dataset, split, streaming, allow_download)
        table, column = _undecoded(table, name, video_column)
        if not hasattr(table, "__len__"):
            if num_clips is None:
                raise ValueError(f"{name} is streamed and has no length: give num_clips")
            table = list(islice(table, num_clips))
        features = getattr(table, "features", None)
        self._table, self._column = table, column
        self._numbers: dict[str, int] = {}
        rows = []
        for number, values in enumerate(_without(table, column)):
            row = _row(values, f"{name}[{number}]", features)
            self._numbers[row.file_name] = number
            rows.append(row)
        super().__init__(
            name,
            rows,
            shape,
            strict=strict,
            num_clips=num_clips,
            cache=ClipCache(Path(cache_dir)) if cache else None,
        )

    def _file(self, row: Row) -> Path | bytes:
        return _video(self._table[self._numbers[row.file_name]][self._column], row.file_name)


def stream_clips(
    dataset: Any,
    split: str = "train",
    *,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    fit: Fit = "cover",
    strict: bool = False,
    allow_download: bool = False,
    video_column: str | None = None,
) -> Iterator[Clip]:
    """The clips of a dataset of any size one after another, never held together.

    Arguments and errors are those of `HubSource`; clips that cannot be read are left out, each
    with a warning that names it.
    """
    import warnings

    from data.errors import VideoError, VideoWarning

    shape = {"num_frames": num_frames, "height": height, "width": width, "fps": fps, "fit": fit}
    name, table = _load(dataset, split, streaming=True, allow_download=allow_download)
    table, column = _undecoded(table, name, video_column)
    features = getattr(table, "features", None)
    for number, values in enumerate(table):
        row = _row({k: v for k, v in values.items() if k != column}, f"{name}[{number}]", features)
        try:
            yield _Single(row, _video(values[column], row.file_name), Shape(**shape))[0]
        except VideoError as error:
            if strict:
                raise
            warnings.warn(f"left out {error}", VideoWarning, stacklevel=2)


class _Single(StoredClips):
    """One row whose video is at hand."""

    def __init__(self, row: Row, file: Path | bytes, shape: Shape) -> None:
        self._bytes = file
        super().__init__(row.file_name, [row], shape, strict=True, num_threads=1)

    def _file(self, row: Row) -> Path | bytes:
        return self._bytes


def _load(dataset: Any, split: str, streaming: bool, allow_download: bool) -> tuple[str, Any]:
    """The dataset's name for messages, and one split of it."""
    if not isinstance(dataset, str | Path):
        name = getattr(getattr(dataset, "info", None), "dataset_name", None) or "dataset"
        return name, _split_of(dataset, split, name)
    if not allow_download:
        _stay_offline()
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    path = Path(dataset)
    name = f"hub:{dataset}"
    options = {"streaming": streaming, "cache_dir": None if streaming else str(_DOWNLOADS)}
    try:
        if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
            found = datasets.load_from_disk(str(path))
            if streaming:
                found = _streamed(found)
        elif path.is_file():
            kind = {".parquet": "parquet", ".jsonl": "json", ".arrow": "arrow"}.get(path.suffix)
            if kind is None:
                raise ValueError(f"{path} has suffix '{path.suffix}': give .parquet or .arrow")
            found = datasets.load_dataset(kind, data_files=str(path), **options)
        elif path.exists() or allow_download:
            found = datasets.load_dataset(str(dataset), **options)
        else:
            raise FileNotFoundError(
                f"no dataset '{dataset}' here: check the path, or allow downloading it from the Hub"
            )
    except (DatasetNotFoundError, ConnectionError) as error:
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(f"no dataset '{dataset}': {reason}; check its name") from None
    return name, _split_of(found, split, name)


def _stay_offline() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if os.environ["HF_HUB_OFFLINE"] == "1" and "datasets" in sys.modules:  # it has read it already
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def _streamed(found: Any) -> Any:
    if hasattr(found, "to_iterable_dataset"):
        return found.to_iterable_dataset()
    return {split: part.to_iterable_dataset() for split, part in found.items()}


def _split_of(found: Any, split: str, name: str) -> Any:
    if not isinstance(found, Mapping):
        return found
    for candidate in split_names(split):
        if candidate in found:
            return found[candidate]
    raise ValueError(f"{name} has no split '{split}': its splits are {', '.join(found)}")


def _undecoded(table: Any, name: str, video_column: str | None) -> tuple[Any, str]:
    """The table with its videos as {bytes, path}, and the name of their column."""
    from datasets import Video

    features: Features | None = table.features
    names = list(features or {}) or list(next(iter(table)))
    typed = [key for key in names if features and isinstance(features[key], Video)]
    column = video_column or next(iter(typed), "video")
    if column not in names:
        raise ValueError(f"{name} has no column '{column}': name the video column of {names}")
    if features and not isinstance(features[column], Video):
        return table, column
    return table.cast_column(column, Video(decode=False)) if features else table, column


def _without(table: Any, column: str) -> Iterable[Mapping[str, Any]]:
    if hasattr(table, "remove_columns"):
        if table.column_names == [column]:
            return [{}] * len(table)  # without columns it would have no rows either
        return table.remove_columns(column)  # else every video is read only to be thrown away
    return [{key: value for key, value in row.items() if key != column} for row in table]


def _video(value: Any, name: str) -> Path | bytes:
    """The file or bytes that a cell of a video column holds."""
    from data.errors import VideoError

    if isinstance(value, Mapping):
        held = value.get("bytes")
        value = value.get("path") if held is None else held
    if isinstance(value, str):
        path = Path(value)
        if not path.exists():
            raise VideoError(name, f"has no file {path}", "embed the videos, or bring the file")
        return path
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    kind = type(value).__name__
    raise VideoError(name, f"holds no video but {kind}", "give bytes or a path")


def _row(values: Mapping[str, Any], name: str, features: Any) -> Row:
    """What a row's columns say; `name` stands for its file."""
    given = {key: value for key, value in values.items() if value is not None}
    texts = next((given[key] for key in _TEXT_COLUMNS if key in given), [])
    asked = _plain(given.get("questions", []), name)
    if not asked and {"question", "answer"} <= given.keys():
        asked = [{key: given[key] for key in ("question", "answer", "choices") if key in given}]
    labels = parse_labels(_plain(given.get("labels") or {}, name), name)
    for key, value in given.items():
        if hasattr((features or {}).get(key), "int2str") and isinstance(value, int) and value >= 0:
            labels[key] = features[key].int2str(value)
    truth = _plain(given.get("truth"), name)
    return Row(
        file_name=name,
        captions=parse_captions(texts, name),
        questions=parse_questions(asked, name),
        labels=labels,
        start=_number(given.get("start")),
        end=_number(given.get("end")),
        truth=truth if isinstance(truth, dict) else None,
        events=parse_events(_plain(given.get("events", []), name), name),
        place=name,
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _plain(value: Any, name: str) -> Any:
    """A value that may have been stored as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"{name}: {value[:40]!r} is not JSON ({error}); mend the column") from None
