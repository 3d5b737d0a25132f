"""Parts: a video of any length as short clips of tokens, one after the other, never all at once.

Frames come one by one from their file, are kept at the model's rate and coded as soon as a part is
full. Knows codec and framing. Knows no questions and no language model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from data.clip import Clip
from lm.framing import Framing, resize
from lm.watching import Seen
from tokenizer.codec import Codec
from tokenizer.tokens import VideoTokens

BATCH = 16  # parts coded side by side
Timed = tuple[Tensor, float]  # a frame uint8 (3, H, W), its seconds
Stretch = tuple[int, list[Timed], float]  # a number, frames, and the second at which they end
Blend = Literal["mean", "first"]
Wanted = Callable[[int], bool]


def window_step(frames: int, block_frames: int) -> int:
    """Frames between parts that overlap by half, whole blocks if they can be."""
    return max(1, frames // 2 // block_frames * block_frames or frames // 2)


@dataclass(frozen=True)
class Part:
    """A stretch of a video, as a model reads it."""

    number: int  # from 0, in order of time
    tokens: VideoTokens  # times start at 0, as those of clips in training; see `Footage.chained`
    start: float  # seconds in the video
    end: float  # seconds in the video, its last frame's share included


class Parts(Protocol):
    """A video that can be gone through several times, part by part."""

    def read(self, wanted: Wanted | None = None) -> Iterator[Part]:
        """The parts in order of time; only those whose number is wanted are coded."""
        ...


@dataclass(frozen=True)
class Footage:
    """A video as parts.

    Raises:
        ValueError: a length below one frame.
    """

    video: Seen
    codec: Codec
    framing: Framing
    frames: int  # of a part, as the model sees it
    step: int | None = None  # frames from the start of a part to that of the next; None: `frames`
    unit: int = 1  # consecutive frames that count as one
    blend: Blend = "mean"  # how they become one
    chained: bool = False  # parts are blocks of one stream, with its times, not clips of their own

    def __post_init__(self) -> None:
        for name, value in (("frames", self.frames), ("step", self.stride), ("unit", self.unit)):
            if value < 1:
                raise ValueError(f"{name}={value}: give 1 frame or more")

    @property
    def stride(self) -> int:
        return self.frames if self.step is None else self.step

    def read(self, wanted: Wanted | None = None) -> Iterator[Part]:
        """See `Parts.read`. Holds `BATCH` parts at most, however long the video is."""
        if isinstance(self.video, VideoTokens):
            yield from self._of_tokens(self.video, wanted)
            return
        if self.chained:
            yield from self._in_a_chain()
            return
        held: list[Stretch] = []
        for number, frames, end in self._stretches():
            if wanted is not None and not wanted(number):
                continue
            if held and len(frames) != len(held[0][1]):
                yield from self._coded(held)
                held = []
            held.append((number, frames, end))
            if len(held) == BATCH:
                yield from self._coded(held)
                held = []
        yield from self._coded(held)

    def _stretches(self) -> Iterator[Stretch]:
        shown = _Shown(self._frames())
        units = in_units(shown, self.unit, self.blend)
        for number, (frames, end) in enumerate(overlapping(units, self.frames, self.stride)):
            yield number, frames, min(end, shown.end)  # the last unit may hold fewer frames

    def _in_a_chain(self) -> Iterator[Part]:
        """Blocks, each coded by what the codec remembers of those before it."""
        assert self.frames == self.stride == self.codec.block_frames, "a chain is of blocks"
        state, stretches = self.codec.start(), self._stretches()
        while held := list(islice(stretches, BATCH)):
            frames = torch.stack([frame for _, part, _ in held for frame, _ in part])
            codes, state = self.codec.encode_step(frames[None], state)
            for stretch, (block,) in zip(held, codes + self.codec.finish(state), strict=True):
                yield self._part(stretch, block, frames.shape[-2:])

    def _part(self, stretch: Stretch, codes: Tensor, size: torch.Size) -> Part:
        """A block of a chain."""
        (number, frames, end), fps, codec = stretch, self.framing.main.fps, self.codec
        assert fps is not None
        first = number * codec.block_frames
        times = torch.arange(first, first + len(frames), dtype=torch.float64) / float(fps)
        tokens = VideoTokens(
            codes=(codes[: self.framing.max_block_tokens],),
            timestamps=times,
            height=size[0],
            width=size[1],
            block_frames=codec.block_frames,
            codebook_size=codec.codebook_size,
            codec_id=codec.tokens_id,
        )
        return Part(number, tokens, frames[0][1], end)

    def _of_tokens(self, tokens: VideoTokens, wanted: Wanted | None) -> Iterator[Part]:
        size = tokens.block_frames
        if self.unit > 1 or self.frames % size or self.stride % size:
            raise ValueError(
                f"codes in blocks of {size} frames cannot be read in other parts: give the video"
            )
        times, most = tokens.timestamps, self.framing.max_block_tokens
        last = float(times[-1]) + (tokens.duration or 0.0) / tokens.num_frames
        starts = range(0, len(tokens.codes), self.stride // size)
        for number, first in enumerate(starts):
            stop = min(len(tokens.codes), first + self.frames // size)
            part = tokens.blocks(first, stop).keep(most)
            end = float(times[stop * size]) if stop * size < len(times) else last
            if wanted is None or wanted(number):
                start = float(part.timestamps[0])
                zero = float(times[0]) if self.chained else start
                own = replace(part, timestamps=part.timestamps - zero)
                yield Part(number, own, start, end)
            if stop == len(tokens.codes):
                return

    def _frames(self) -> Iterator[Timed]:
        main = self.framing.main
        if main.fps is None:
            raise ValueError("this model reads single images, not clips")
        if isinstance(self.video, Clip):
            return at_rate(_of_clip(self.video, main.height, main.width), float(main.fps))
        from data.reading import iterate_frames

        assert not isinstance(self.video, VideoTokens)
        images = iterate_frames(Path(self.video), height=main.height, width=main.width)
        frames = ((torch.from_numpy(image).permute(2, 0, 1), time) for image, time in images)
        return at_rate(frames, float(main.fps))

    def _coded(self, held: list[Stretch]) -> Iterator[Part]:
        if not held:
            return
        assert self.framing.main.fps is not None
        grid = torch.arange(len(held[0][1]), dtype=torch.float64) / float(self.framing.main.fps)
        frames = torch.stack([torch.stack([frame for frame, _ in part]) for _, part, _ in held])
        coded = self.codec.encode_batch(frames, grid.expand(len(held), -1))
        for (number, part, end), tokens in zip(held, coded, strict=True):
            kept = tokens.keep(self.framing.max_block_tokens)
            yield Part(number, kept, part[0][1], end)


def _of_clip(clip: Clip, height: int, width: int) -> Iterator[Timed]:
    start = float(clip.timestamps[0])
    for i, time in enumerate(clip.timestamps.tolist()):
        frame = clip.at(torch.tensor([i]))
        if (clip.height, clip.width) != (height, width):
            frame = resize(frame, height, width)
        yield frame.frames[0], time - start


class _Shown:
    """Frames as they pass, and until when in seconds the last of them is shown."""

    def __init__(self, frames: Iterable[Timed]) -> None:
        self.frames = frames
        self.end = 0.0

    def __iter__(self) -> Iterator[Timed]:
        before = None
        for frame in self.frames:
            self.end = frame[1] + (0.0 if before is None else frame[1] - before)
            before = frame[1]
            yield frame


def at_rate(frames: Iterable[Timed], fps: float) -> Iterator[Timed]:
    """The frames that `TargetFps(fps)` keeps of a whole clip, kept as they come.

    A frame is kept when some k / fps lies nearer to it than to its neighbours.
    """
    tie, k = 1e-9, 0  # half-way between two frames is the earlier one's
    before: Timed | None = None
    gap = 0.0
    for frame in frames:
        if before is not None:
            gap = frame[1] - before[1]
            edge = before[1] + gap / 2 + tie
            if k / fps <= edge:
                yield before
                k = int(edge * fps) + 1
        before = frame
    if before is not None and k / fps <= before[1] + gap / 2 + 1e-6 / fps:
        yield before


def in_units(frames: Iterable[Timed], unit: int, blend: Blend) -> Iterator[Timed]:
    """Every `unit` consecutive frames as one, at the time of their first."""
    held: list[Timed] = []
    for frame in frames:
        held.append(frame)
        if len(held) == unit:
            yield _one(held, blend)
            held = []
    if held:
        yield _one(held, blend)


def _one(held: list[Timed], blend: Blend) -> Timed:
    if len(held) == 1 or blend == "first":
        return held[0]
    mean = torch.stack([frame for frame, _ in held]).float().mean(0)
    return mean.round().to(torch.uint8), held[0][1]


def overlapping(
    frames: Iterable[Timed], length: int, step: int
) -> Iterator[tuple[list[Timed], float]]:
    """Stretches of `length` frames, one every `step`, the last shorter; each with its end.

    A stretch ends in seconds where the frame after it begins, the last one a mean gap after its
    last frame. A shorter stretch that holds no frame of its own is left out.
    """
    held: deque[Timed] = deque()
    fresh, skip = 0, 0  # frames not yet in a stretch; frames between stretches
    gap, before = 0.0, None
    for frame in frames:
        if before is not None:
            gap = frame[1] - before
        before = frame[1]
        if len(held) == length:
            yield list(held), frame[1]
            fresh = 0
            skip = max(0, step - length)
            for _ in range(min(step, length)):
                held.popleft()
        if skip:
            skip -= 1
            continue
        held.append(frame)
        fresh += 1
    if fresh and before is not None:
        yield list(held), before + gap
