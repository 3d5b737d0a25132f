"""What can be wrong with a video, said in one line. Knows no container and no codec."""

from __future__ import annotations

from typing import Any


class VideoError(ValueError):
    """A file is not a readable video: empty, truncated, without frames, audio only, too big.

    Args:
        path: The file, or a name for the stream it came from.
        problem: What is wrong with it, with the offending value.
        remedy: What the reader of the message can do about it.
    """

    def __init__(self, path: object, problem: str, remedy: str) -> None:
        self.path = str(path)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{self.path}: {' '.join(problem.split())}; {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:  # BaseException would pickle the one-line message
        return type(self), (self.path, self.problem, self.remedy)


class VideoWarning(UserWarning):
    """Part of a video was left out or repaired; the message names the file."""
