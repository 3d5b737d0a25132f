"""Ctrl-C: work that it may not cut in two, and an interrupt that says what was kept.

A request to end (SIGTERM, as `kill`, `timeout`, containers and batch systems send it) is the same
to the work. Knows the signals, not what is being made.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any


class CutShort(KeyboardInterrupt):
    """Ctrl-C, and in its message what became of the work."""


class Ending:
    """Whether the process was asked to end, by SIGTERM."""

    came = False

    def __init__(self) -> None:
        self._process = os.getpid()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """A handler of SIGTERM: raises KeyboardInterrupt in this process, ends a child of it."""
        if os.getpid() != self._process:  # a worker inherits handlers, and is ended by SIGTERM
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.came = True
        raise KeyboardInterrupt


@contextmanager
def ending_interrupts() -> Iterator[Ending]:
    """Have SIGTERM raise KeyboardInterrupt in the block, as Ctrl-C does.

    That is in the main thread, unless someone else catches the signal.
    """
    ending = Ending()
    if not _in_main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield ending
        return
    signal.signal(signal.SIGTERM, ending.interrupt)
    try:
        yield ending
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def undivided() -> Iterator[None]:
    """Have signals wait until the block is done, where they would raise KeyboardInterrupt.

    That is in the main thread, of signals that nobody else catches.
    """
    raising: dict[signal.Signals, Callable[..., Any]] = {}
    if _in_main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler) and _interrupts(handler):
                raising[number] = handler
    came: list[tuple[int, FrameType | None]] = []
    for number in raising:
        signal.signal(number, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        for number, handler in raising.items():
            signal.signal(number, handler)
    for number, frame in came:
        raising[signal.Signals(number)](number, frame)


@contextmanager
def nothing_written(path: str | Path) -> Iterator[None]:
    """Have Ctrl-C say that `path` is as it was, unless it says itself what was kept."""
    try:
        yield
    except CutShort:
        raise
    except KeyboardInterrupt:
        raise CutShort(f"interrupted; nothing was written to {path}") from None


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _interrupts(handler: Callable[..., Any]) -> bool:
    """Whether a handler of a signal does nothing but raise KeyboardInterrupt."""
    ours = isinstance(getattr(handler, "__self__", None), Ending)
    return ours or handler is signal.default_int_handler
