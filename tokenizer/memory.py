"""A bound on what this process may take of memory, so that too much is an error and not the end.

Without one a machine swaps, or its system ends the process without a word. It knows no networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPARED = 2**28  # bytes that are left to others
_DENIED = ("can't allocate memory", "could not create a memory", "out of memory", "bad_alloc")


@contextmanager
def bounded_memory(free: int | None = None) -> Iterator[None]:
    """Turns asking for more memory than is free into an error, until the block ends.

    Args:
        free: Bytes to allow; as many as the machine has to spare if left out. Only Linux tells;
            elsewhere nothing is bounded.

    Raises:
        ValueError: More was asked for.
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
        raise ValueError(
            f"this takes more than the {(min(bounds) - held) / 1e9:.1f} GB of memory that are "
            "free: make room, or scale pictures down before they are encoded (--height, --width)"
        ) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _kilobytes(file: str, name: str) -> int:
    """A figure of the system's, in bytes; 0 where it does not tell."""
    try:
        return 1024 * int(Path(file).read_text().split(f"{name}:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return 0
