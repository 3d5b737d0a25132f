"""Ctrl-C: work that it may not cut in two, and an interrupt that says what was kept.

Knows the signal, not what is being made.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CutShort(KeyboardInterrupt):
    """Ctrl-C, and in its message what became of the work."""


@contextmanager
def undivided() -> Iterator[None]:
    """Have Ctrl-C wait until the block is done, where it would raise KeyboardInterrupt.

    That is in the main thread, unless someone else catches the signal.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


@contextmanager
def nothing_written(path: str | Path) -> Iterator[None]:
    """Have Ctrl-C say that `path` is as it was, unless it says itself what was kept."""
    try:
        yield
    except CutShort:
        raise
    except KeyboardInterrupt:
        raise CutShort(f"interrupted; nothing was written to {path}") from None
