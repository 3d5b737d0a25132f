"""Shards: many records of codes with their notes on disk, resumable, checksummed, memory-mapped.

A record is a one-dimensional array of whole numbers plus a dict of JSON values; what either
means is its writer's business. A folder of shards holds

    manifest.json        format, meta, and per shard its records, codes, sizes and sha256
    shard-00000.npy      the codes of its records end to end, uint16 where they fit, else uint32
    shard-00000.jsonl    one line of notes a record
    shard-00000.index.npy  int64 (records + 1, 2): where each record's codes and notes begin
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from data.atomic import write_atomically

_FORMAT = "kinolex-shards"
_VERSION = 1
_MANIFEST = "manifest.json"
_SUFFIXES = (".npy", ".jsonl", ".index.npy")


@dataclass(frozen=True)
class Shard:
    """One shard as the manifest lists it."""

    name: str  # its files are name + .npy, .jsonl, .index.npy
    records: int
    codes: int  # codes over all its records
    sizes: dict[str, int]  # bytes per file suffix
    sha256: dict[str, str]  # per file suffix


def _jsonable(value: Any, what: str) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} is not made of JSON values ({error}): use plain ones") from None


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / _MANIFEST
    if not file.exists():
        raise FileNotFoundError(f"{path} has no {_MANIFEST}: give a folder of token shards")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT:
            raise KeyError("format")
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{file} is not a manifest of shards: encode the clips again") from None
    if manifest["version"] != _VERSION:
        raise ValueError(
            f"{file} is of version {manifest['version']}, this program reads {_VERSION}: "
            "encode the clips again"
        )
    return manifest


class ShardWriter:
    """Writes records in order; a shard exists once it is whole.

    Opened on an unfinished folder with equal `meta` it goes on after the last whole shard:
    `num_records` tells the caller how many records to leave out. Use it as a context manager:
    leaving it normally finishes the folder, leaving it by an exception keeps what was written
    and leaves the folder unfinished.

    Args:
        path: Folder, made if it does not exist.
        meta: JSON values that say what the codes are; must be equal when resuming.
        records_per_shard: Records a shard, of which at most so many are lost by a kill.

    Raises:
        ValueError: The folder holds shards of other `meta`, or something else.
    """

    def __init__(
        self, path: str | Path, meta: dict[str, Any], records_per_shard: int = 4096
    ) -> None:
        if records_per_shard < 1:
            raise ValueError(f"records_per_shard={records_per_shard}: at least one record a shard")
        self.path = Path(path)
        self.meta = _jsonable(meta, "meta")
        self.records_per_shard = records_per_shard
        self._pending: list[tuple[np.ndarray, bytes]] = []
        self._shards: list[Shard] = []
        self._finished = False
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file: give a folder for the shards")
        if (self.path / _MANIFEST).exists():
            self._resume()
        else:
            if self.path.exists() and any(self.path.glob("[!.]*")):
                raise ValueError(f"{self.path} holds other files: give a new folder for the shards")
            self.path.mkdir(parents=True, exist_ok=True)
            self._write_manifest(finished=False)

    def _resume(self) -> None:
        manifest = _read_manifest(self.path)
        if manifest["meta"] != self.meta and not (manifest["shards"] or manifest["finished"]):
            self._write_manifest(finished=False)  # a job that failed before its first shard
        elif manifest["meta"] != self.meta:
            theirs = manifest["meta"]
            keys = sorted(set(theirs) | set(self.meta))
            key = next(key for key in keys if theirs.get(key) != self.meta.get(key))
            raise ValueError(
                f"{self.path} holds shards with {key}={theirs.get(key)!r}, not "
                f"{self.meta.get(key)!r}: give another folder or delete this one"
            )
        self._shards = [Shard(**entry) for entry in manifest["shards"]]
        self._finished = manifest["finished"]
        _check_sizes(self.path, self._shards)

    @property
    def num_records(self) -> int:
        """Records written so far, those of earlier runs included."""
        return sum(shard.records for shard in self._shards) + len(self._pending)

    @property
    def finished(self) -> bool:
        """Whether the folder was closed as complete and nothing was added since."""
        return self._finished

    def write(self, codes: np.ndarray, info: dict[str, Any]) -> None:
        """Add a record.

        Args:
            codes: Whole numbers (N,), 0 to 2**32 - 1.
            info: JSON values, without NaN.
        """
        codes = np.asarray(codes)
        if codes.ndim != 1 or not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(
                f"codes are {codes.dtype} {codes.shape}: a record is whole numbers (N,)"
            )
        if codes.size and not (0 <= int(codes.min()) and int(codes.max()) < 2**32):
            raise ValueError(
                f"codes span {codes.min()}..{codes.max()}: they must lie in 0..2**32-1"
            )
        try:
            line = json.dumps(info, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"info is not made of JSON values: {error}") from None
        if self._finished:
            self._write_manifest(finished=False)
        self._pending.append((codes.astype(np.uint32), line.encode() + b"\n"))
        if len(self._pending) >= self.records_per_shard:
            self._flush()

    def close(self) -> None:
        """Write what is pending and mark the folder as complete."""
        if self._pending:
            self._flush()
        if not self._finished:
            self._write_manifest(finished=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif self._pending:
            self._flush()

    def _flush(self) -> None:
        name = f"shard-{len(self._shards):05d}"
        codes = np.concatenate([codes for codes, _ in self._pending])
        if not codes.size or int(codes.max()) < 2**16:
            codes = codes.astype(np.uint16)
        index = np.zeros((len(self._pending) + 1, 2), dtype=np.int64)
        index[1:] = np.cumsum([(len(c), len(line)) for c, line in self._pending], axis=0)
        contents = {
            ".npy": _npy(codes),
            ".jsonl": b"".join(line for _, line in self._pending),
            ".index.npy": _npy(index),
        }
        for suffix, content in contents.items():
            write_atomically(self.path / (name + suffix), content)
        sizes = {suffix: len(content) for suffix, content in contents.items()}
        sums = {suffix: hashlib.sha256(content).hexdigest() for suffix, content in contents.items()}
        self._shards.append(Shard(name, len(self._pending), codes.size, sizes, sums))
        self._pending = []
        self._write_manifest(finished=False)

    def _write_manifest(self, *, finished: bool) -> None:
        manifest = {
            "format": _FORMAT,
            "version": _VERSION,
            "finished": finished,
            "records": sum(shard.records for shard in self._shards),
            "codes": sum(shard.codes for shard in self._shards),
            "meta": self.meta,
            "shards": [asdict(shard) for shard in self._shards],
        }
        content = json.dumps(manifest, indent=1, allow_nan=False)
        write_atomically(self.path / _MANIFEST, content.encode())
        self._finished = finished


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _check_sizes(path: Path, shards: list[Shard]) -> None:
    for shard in shards:
        for suffix in _SUFFIXES:
            file = path / (shard.name + suffix)
            size = file.stat().st_size if file.exists() else 0
            if size != shard.sizes[suffix]:
                raise ValueError(
                    f"{file} has {size} bytes, its manifest says {shard.sizes[suffix]}: "
                    "the shard is damaged, delete the folder and encode again"
                )


class TokenShards:
    """A folder of shards as a sequence of records, read where they are asked for.

    `shards[i]` is `(codes, info)`: codes uint16 or uint32 (N,), a read-only view of the file, so
    widen them before doing arithmetic. Safe to send to loader workers.

    Args:
        path: Folder that a `ShardWriter` finished.
        allow_unfinished: Take what there is of a folder that is still being written.

    Raises:
        FileNotFoundError: No manifest there.
        ValueError: Unfinished, of another version, or a file's size is not the manifest's.
    """

    def __init__(self, path: str | Path, *, allow_unfinished: bool = False) -> None:
        self.path = Path(path)
        manifest = _read_manifest(self.path)
        if not (manifest["finished"] or allow_unfinished):
            raise ValueError(
                f"{self.path} is unfinished at {manifest['records']} records: "
                "run the encoding again, it goes on where it stopped"
            )
        self.meta: dict[str, Any] = manifest["meta"]
        self.num_codes: int = manifest["codes"]
        self._shards = [Shard(**entry) for entry in manifest["shards"]]
        _check_sizes(self.path, self._shards)
        self._starts = np.cumsum([0] + [shard.records for shard in self._shards])
        self._open: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, Any]]:
        number, row = self._find(index)
        codes, lines, starts = self._maps(number)
        (code, line), (code_end, line_end) = starts[row].tolist(), starts[row + 1].tolist()
        return codes[code:code_end], json.loads(lines[line:line_end].tobytes())

    def info(self, index: int) -> dict[str, Any]:
        """The notes of record `index` alone."""
        return self[index][1]

    def num_codes_of(self, index: int) -> int:
        """How many codes record `index` has, without reading them."""
        number, row = self._find(index)
        starts = self._maps(number)[2]
        return int(starts[row + 1, 0] - starts[row, 0])

    def verify(self) -> None:
        """Read every byte and compare checksums.

        Raises:
            ValueError: Names the first damaged file.
        """
        _check_sizes(self.path, self._shards)
        for shard in self._shards:
            for suffix in _SUFFIXES:
                file = self.path / (shard.name + suffix)
                with open(file, "rb") as stream:
                    found = hashlib.file_digest(stream, "sha256").hexdigest()
                if found != shard.sha256[suffix]:
                    raise ValueError(
                        f"{file} does not match its checksum {shard.sha256[suffix][:12]}...: "
                        "the shard is damaged, delete the folder and encode again"
                    )

    def _find(self, index: int) -> tuple[int, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)} in {self.path}")
        index %= len(self)
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return number, index - int(self._starts[number])

    def _maps(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if number not in self._open:
            base = str(self.path / self._shards[number].name)
            codes = _map_array(base + ".npy")
            lines = np.memmap(base + ".jsonl", dtype=np.uint8, mode="r")
            self._open[number] = (codes, lines, np.load(base + ".index.npy"))
        return self._open[number]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # a worker maps the files itself


def _map_array(file: str) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r")
    except ValueError:  # an array of no codes cannot be mapped
        return np.load(file)
