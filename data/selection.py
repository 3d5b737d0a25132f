"""Which frames of a file a clip may show, decided once and held to ever after.

It sees times only, never pixels, and knows no sources.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from data.errors import VideoError
from data.sampling import TargetFps


@dataclass(frozen=True)
class Selection:
    """Some frames of a file, as a sampler that notices when the file is no longer the same."""

    name: str  # of the file, for messages
    times: Tensor  # float64 (T,), seconds of all the file's frames
    picks: Tensor  # int64 (N,), increasing, frames of the file

    def __len__(self) -> int:
        return len(self.picks)

    def part(self, first: int, length: int) -> Selection:
        """`length` neighbouring frames from the `first`-th on."""
        return Selection(self.name, self.times, self.picks[first : first + length])

    def select(self, timestamps: Tensor) -> Tensor:
        """The frames, of a file with the same number of them as before."""
        if len(timestamps) != len(self.times):
            raise self.changed(len(timestamps))
        return self.picks

    def changed(self, found: int) -> VideoError:
        """The error for a file that now has another number of good frames."""
        return VideoError(
            self.name,
            f"has {found} good frames, not {len(self.times)} as when it was opened",
            "open the source again, or mend the file",
        )


def select_frames(
    name: str,
    times: Tensor,
    *,
    start: float | None = None,
    end: float | None = None,
    fps: float | None = None,
    num_frames: int | None = None,
) -> Selection:
    """The frames from `start` to before `end` (seconds), sampled at `fps`.

    Raises:
        VideoError: No frame there, or fewer than `num_frames`.
    """
    first = 0 if start is None else int(torch.searchsorted(times, start - 1e-6))
    stop = len(times) if end is None else int(torch.searchsorted(times, end - 1e-6))
    if first >= stop:
        until = "on" if end is None else f"to {end} s"
        problem = (
            f"has no frame from {start or 0} s {until}, its last is at {float(times[-1]):.3f} s"
        )
        raise VideoError(name, problem, "correct its start and end")
    picks = torch.arange(first, stop)
    if fps is not None:
        picks = TargetFps(fps).select(times[first:stop]) + first
    if num_frames is not None and len(picks) < num_frames:
        rate = "" if fps is None else f" at {fps:g} fps"
        problem = f"is shorter than {num_frames} frames{rate} (it has {len(picks)})"
        raise VideoError(name, problem, "leave it out or ask for fewer frames")
    return Selection(name, times, picks)
