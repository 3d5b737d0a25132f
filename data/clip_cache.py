"""Decoded clips kept as arrays on disk, so that a second epoch reads memory instead of video.

It knows keys and frames only. Whatever changes the pixels must be part of the key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data.atomic import atomic_path

CACHE = Path("runs/cache/clips")
_VERSION = 1  # raise it when reading gives other pixels than before


def fingerprint(file: Path | bytes) -> list[Any]:
    """What changes when a file, a folder of images or some bytes do."""
    if isinstance(file, bytes):
        return [hashlib.sha256(file).hexdigest()]
    files = sorted(file.iterdir()) if file.is_dir() else [file]
    stats = [part.stat() for part in files]
    changed = max(stat.st_mtime_ns for stat in stats)
    return [str(file.resolve()), sum(stat.st_size for stat in stats), len(files), changed]


class ClipCache:
    """A folder of frames as .npy files, named by what they are of.

    Args:
        folder: Where to; made when the first clip is kept. Delete it at any time.
    """

    def __init__(self, folder: Path = CACHE) -> None:
        self._folder = folder

    def path(self, key: Any) -> Path:
        """Where the frames of `key`, made of JSON values, are or would be."""
        name = hashlib.sha256(json.dumps([_VERSION, key]).encode()).hexdigest()[:32]
        return self._folder / name[:2] / f"{name}.npy"

    def get(self, key: Any) -> np.ndarray | None:
        """uint8 (T, H, W, 3), mapped from disk; None if they are not there."""
        path = self.path(key)
        return np.load(path, mmap_mode="r") if path.exists() else None

    def keep(self, key: Any, images: Iterable[np.ndarray], count: int) -> np.ndarray:
        """Store `count` images uint8 (H, W, 3) as they come and return them as `get` does."""
        path = self.path(key)
        with atomic_path(path) as partial:
            array = None
            for number, image in enumerate(images):
                if array is None:
                    shape = (count, *image.shape)
                    array = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
                array[number] = image
            assert array is not None
            array.flush()
            del array
        return np.load(path, mmap_mode="r")
