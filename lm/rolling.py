"""Rolling: a film's frames as they are made, window by window, decoded by the codec's own stream.

Knows the codec and when frames are shown. Knows no prompts, ids or network of the language model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.clip import Clip
from tokenizer.codec import Codec
from tokenizer.tokens import VideoTokens


@dataclass(frozen=True)
class Take(Iterator[Clip]):
    """A film that is being made: clips that follow each other; read once.

    timestamps: float64 (T,), seconds of all frames that the clips will have.
    """

    clips: Iterator[Clip]
    timestamps: Tensor
    height: int  # pixels
    width: int  # pixels

    def __next__(self) -> Clip:
        return next(self.clips)


def roll(
    codec: Codec,
    windows: Iterable[Sequence[VideoTokens]],
    timestamps: Tensor,
    size: tuple[int, int],
    prompt: str | None,
    source: str,
    begun: VideoTokens | None = None,
) -> Take:
    """Decode the windows of one film as they come; frames are those of the whole film's tokens.

    Args:
        codec: The codec, in eval mode.
        windows: New blocks of each window, of one film.
        timestamps: float64 (T,), seconds of its frames; what windows hold beyond is cut.
        size: Height and width in pixels.
        prompt: What it shows, the clips' caption.
        source: Of the clips.
        begun: Blocks that come before the first window and are not shown.
    """
    captions = () if prompt is None else (prompt,)

    def clips() -> Iterator[Clip]:
        state, done = codec.start_decoding(*size), 0
        for codes in () if begun is None else begun.codes:
            _, state = codec.decode_step([codes], state)
        for (window,) in windows:
            parts = []
            for codes in window.codes:
                frames, state = codec.decode_step([codes], state)
                parts.append(frames[0])
            frames = torch.cat(parts)[: len(timestamps) - done]
            times = timestamps[done : done + len(frames)]
            done += len(frames)
            yield Clip(frames, times, captions, source=source)

    return Take(clips(), timestamps, *size)
