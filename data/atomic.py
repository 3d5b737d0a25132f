"""Files that appear whole or not at all: written under a temporary name, then renamed.

It knows names and folders, not what is written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def full_disk_named(path: str | Path) -> Iterator[None]:
    """Have a full disk name the file that did not fit, which a write does not know."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _FULL:
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffix, that becomes `path` when the block ends.

    The folder is made. A block left by an exception leaves neither file behind. Errors of the
    system name `path`, not the temporary one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        with full_disk_named(path):
            yield partial
            os.replace(partial, path)
    except OSError as error:
        if error.filename == str(partial) and error.errno is not None:
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Whether a file could be written at `path`, asked before the work that fills it.

    Raises:
        IsADirectoryError, NotADirectoryError, PermissionError: It could not.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{path}: {above} is no folder: give another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: {above} cannot be written to: give another place")


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write `content` to `path`, safe from a crash half-way through."""
    with atomic_path(path) as partial, open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
