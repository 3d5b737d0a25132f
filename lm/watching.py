"""Watching: whatever can be shown to a model, as the tokens that it reads.

Knows codec and framing. Knows no ids and no network but the codec.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.clip import Clip
from data.source import Source, open_source
from lm.framing import MOMENT, Framing
from tokenizer.codec import Codec
from tokenizer.tokens import VideoTokens

Seen = Clip | VideoTokens | str | Path  # what can be shown to a model
ROWS = 64  # clips encoded side by side


def read_videos(
    codec: Codec,
    framing: Framing,
    videos: Sequence[Seen],
    tokens_per_frame: float | None = None,
) -> list[VideoTokens]:
    """The tokens of videos in a model's format, those of one shape encoded together.

    Args:
        codec: The model's.
        framing: What clips the model knows.
        videos: What to read; tokens are cut to the rate and else taken as they are.
        tokens_per_frame: At most so many; None: the rate the model was trained at.
    """
    most = _most_tokens(codec, framing, tokens_per_frame)
    done: dict[int, VideoTokens] = {}
    shapes: dict[torch.Size, list[tuple[int, Clip]]] = {}
    for i, video in enumerate(videos):
        if isinstance(video, VideoTokens):
            done[i] = video.keep(most)
            continue
        clip = framing.fit(as_clip(video))
        shapes.setdefault(clip.frames.shape, []).append((i, clip))
    for members in shapes.values():
        for first in range(0, len(members), ROWS):
            part = members[first : first + ROWS]
            frames = torch.stack([clip.frames for _, clip in part])
            times = torch.stack([clip.timestamps for _, clip in part])
            encoded = codec.encode_batch(frames, times)
            for (i, _), tokens in zip(part, encoded, strict=True):
                done[i] = tokens.keep(most)
    return [done[i] for i in range(len(videos))]


@dataclass(frozen=True)
class Clock:
    """Seconds of a video, and seconds in what a model sees of it, which may be quicker.

    seen, true: of each frame and of the end, float64 (T + 1,).
    """

    seen: np.ndarray
    true: np.ndarray

    @classmethod
    def of(cls, framing: Framing, video: Clip | VideoTokens) -> Clock:
        """Of what `read_videos` makes of a video; tokens are seen as they are."""
        true = video.timestamps
        if isinstance(video, VideoTokens):
            return cls(_with_end(true), _with_end(true))
        seen, had = framing.times(video)
        return cls(_with_end(seen), np.append(had.numpy(), _with_end(true)[-1]))

    def in_video(self, seconds: float) -> float:
        """A second of the video, to the millisecond, within its length."""
        return round(float(np.interp(seconds, self.seen, self.true)), 3)

    def as_seen(self, seconds: float) -> float:
        """A second in what the model sees, to the millisecond, within its length."""
        return round(float(np.interp(seconds, self.true, self.seen)), 3)


def _with_end(times: Tensor) -> np.ndarray:
    """Seconds of frames and the second at which the last one ends."""
    values = times.double().numpy()
    step = (values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else MOMENT
    return np.append(values, values[-1] + step)


def open_known(framing: Framing, source: str, **more: Any) -> Source:
    """Clips of a source in a model's format.

    Args:
        framing: What clips the model knows.
        source: A folder of clips, scenes:LEVEL, or hub:NAME.
        more: Of `data.source.open_source`.
    """
    main = framing.main
    return open_source(
        source,
        num_frames=main.num_frames,
        height=main.height,
        width=main.width,
        fps=None if main.fps is None else float(main.fps),
        **more,
    )


def as_clip(video: Clip | str | Path) -> Clip:
    """A clip, read from its file if it is not one."""
    if isinstance(video, Clip):
        return video
    if not isinstance(video, str | Path):
        raise ValueError(
            f"a {type(video).__name__} is no video: give the path of one, or a data.clip.Clip of "
            "its frames, uint8 (T, 3, H, W), and their times in seconds"
        )
    from data.reading import read_clip

    return read_clip(video)


def _most_tokens(codec: Codec, framing: Framing, tokens_per_frame: float | None) -> int:
    """Tokens to keep of a block."""
    frames, most = codec.block_frames, framing.max_block_tokens
    if tokens_per_frame is None:
        return most
    asked = math.floor(tokens_per_frame * frames) if math.isfinite(tokens_per_frame) else 0
    if asked < 1:
        raise ValueError(
            f"tokens_per_frame={tokens_per_frame:g}: a block of {frames} frames has at least "
            f"one token, so give {1 / frames:g} or more"
        )
    return min(most, asked)
