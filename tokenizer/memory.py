"""A bound on what this process may take of memory, so that too much is an error and not the end.

Without one a machine swaps, or its system ends the process without a word. It knows no networks.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

SPARED = 2**28  # bytes that are left to others
_DENIED = ("can't allocate memory", "could not create a memory", "out of memory", "bad_alloc")


class OutOfMemory(ValueError):
    """More memory was asked for than is free."""


@contextmanager
def bounded_memory(free: int | None = None) -> Iterator[None]:
    """Turns asking for more memory than is free into an error, until the block ends.

    Args:
        free: Bytes to allow; as many as the machine has to spare if left out. Only Linux tells;
            elsewhere nothing is bounded.

    Raises:
        OutOfMemory: More was asked for.
    """
    held = _kilobytes("/proc/self/status", "VmData")
    if free is None:
        free = max(0, _kilobytes("/proc/meminfo", "MemAvailable") - SPARED)
    if not held or not free:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [bound for bound in (soft, hard, held + free) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(word in str(error) for word in _DENIED):
            raise
        raise OutOfMemory(
            f"this takes more than the {(min(bounds) - held) / 1e9:.1f} GB of memory that are "
            "free: make room, or scale pictures down before they are encoded (--height, --width)"
        ) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def give_back_memory() -> None:
    """Hand what the C library holds unused back to the system, where it is glibc.

    Many tensors of a few MB, made and freed in turn, leave gaps that nothing fits, several times
    what is in use.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # no glibc
        return None


def _kilobytes(file: str, name: str) -> int:
    """A figure of the system's, in bytes; 0 where it does not tell."""
    try:
        return 1024 * int(Path(file).read_text().split(f"{name}:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return 0
