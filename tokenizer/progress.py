"""Progress bars of commands: on a terminal's stderr only, as a file of errors holds errors.

They know numbers done and in all, not what is counted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
Tell = Callable[[float, int | None], None]  # how many are done, and how many there are if known


@contextmanager
def progress_bar(what: str) -> Iterator[Tell]:
    """A progress bar on a terminal's stderr; yields what is to be told (done, total)."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    quiet = not console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=quiet) as bar:
        task = bar.add_task(escape(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class RunningCount:
    """Adds up what is done, for whoever is told of all of it."""

    def __init__(self, tell: Callable[[int, int], None] | None, total: int) -> None:
        self.tell, self.total, self.done = tell, total, 0

    def __call__(self, more: int) -> None:
        self.done += more
        if self.tell is not None:
            self.tell(self.done, self.total)


def shown(things: Iterable[T], what: str, count: Callable[[], int | None]) -> Iterator[T]:
    """The same things, such as frames, with a bar that moves as they are taken.

    Args:
        things: Any number, perhaps endless.
        what: The bar's name.
        count: Finds how many there will be, if that can be told; asked only if the bar is seen.
    """
    if not sys.stderr.isatty():
        yield from things
        return
    total = count()
    with progress_bar(what) as tell:
        for done, thing in enumerate(things, start=1):
            yield thing
            tell(done, total)
