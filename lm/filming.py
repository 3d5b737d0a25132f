"""Filming: text to video tokens, in windows of the trained length where more is wanted.

Knows formats, prompts and sampling. Knows no codec and no pixels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data.reading import MAX_FRAMES
from lm.document import Video
from lm.drawing import Sampling
from lm.formats import VideoFormat
from lm.framing import Framing
from lm.grammar import Grammar
from lm.model import Decoder
from lm.prompting import condition, to_video
from lm.sampling import Prompt, check_seed, continue_streams, later_seed
from lm.sequence import Span
from lm.vocabulary import Vocabulary
from tokenizer.tokens import VideoTokens

ROWS = 64  # streams decoded side by side
MAX_STREAMED = 2_000_000  # frames of a film of which only the times are held


@dataclass(frozen=True)
class Shot:
    """What is to be filmed.

    format: of one window, as trained. num_blocks: of the whole video. num_frames: of the whole
    video, when cut to the seconds asked for. overlap: blocks that a window begins with, the last
    of the window before.
    """

    format: VideoFormat
    num_blocks: int
    num_frames: int
    overlap: int

    @property
    def timestamps(self) -> Tensor:
        """Seconds of every frame, float64 (num_frames,)."""
        return self.times(self.num_frames)

    def times(self, num_frames: int) -> Tensor:
        """Seconds of so many frames from the first, float64 (num_frames,)."""
        fps = self.format.fps
        if fps is None:
            return self.format.timestamps(0)[:num_frames]
        return torch.arange(num_frames, dtype=torch.float64) * fps.denominator / fps.numerator


def plan_shot(
    vocabulary: Vocabulary,
    framing: Framing,
    seconds: float | None = None,
    tokens_per_frame: float | None = None,
    overlap: int | None = None,
    most: int = MAX_FRAMES,
) -> Shot:
    """Blocks and frames for a length and rate; warns beyond what was trained.

    Args:
        vocabulary: The model's.
        framing: What clips it knows.
        seconds: Length; None: as trained.
        tokens_per_frame: At most so many; None: as trained.
        overlap: Blocks that windows share, fewer than they have; None: half of them.
        most: Frames that a film may have.

    Raises:
        ValueError: a length, rate or overlap that the model cannot make.
    """
    fmt, block_frames = framing.main, vocabulary.block_frames
    if tokens_per_frame is not None:
        fmt = _at_rate(vocabulary, framing, tokens_per_frame)
    trained = len(fmt.tokens_per_block)
    shared = _overlap(overlap, trained)
    if seconds is None:
        return Shot(fmt, trained, fmt.num_frames, shared)
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"seconds={seconds}: give a positive length")
    if fmt.fps is None:
        raise ValueError(f"seconds={seconds:g}: this model makes single images: leave it out")
    if seconds * fmt.fps > most:
        held = "frames, as many as are held at once" if most == MAX_FRAMES else "frames"
        raise ValueError(
            f"seconds={seconds:g}: more than {most} {held}: "
            f"ask for at most {float(most / fmt.fps):g} s"
        )
    if seconds * float(fmt.fps) < 0.5:
        raise ValueError(
            f"seconds={seconds:g}: not half a frame at {float(fmt.fps):g} fps: ask for "
            f"{float(1 / fmt.fps):g} or more"
        )
    frames = max(1, round(seconds * float(fmt.fps)))
    blocks = math.ceil(frames / block_frames)
    if blocks > trained:
        if trained < 2:
            raise ValueError(
                f"seconds={seconds:g}: this model makes clips of one block, {fmt.duration:g} s: "
                "ask for less, or train on clips of two blocks or more"
            )
        warnings.warn(
            f"seconds={seconds:g} is longer than the {fmt.duration:g} s the model was trained "
            "on: it goes on from its own last blocks and may drift",
            stacklevel=4,
        )
    return Shot(fmt, max(blocks, trained), frames, shared)


def _overlap(overlap: int | None, trained: int) -> int:
    """Blocks that windows of `trained` blocks share."""
    if overlap is None:
        return trained // 2
    if trained < 2:
        raise ValueError(f"overlap={overlap}: this model makes clips of one block: leave it out")
    if not 1 <= overlap < trained:
        raise ValueError(
            f"overlap={overlap}: windows have {trained} blocks and share 1 to {trained - 1}"
        )
    return overlap


def _at_rate(vocabulary: Vocabulary, framing: Framing, tokens_per_frame: float) -> VideoFormat:
    frames = vocabulary.block_frames
    per_block = math.floor(tokens_per_frame * frames) if math.isfinite(tokens_per_frame) else 0
    if not 1 <= per_block <= framing.max_block_tokens:
        raise ValueError(
            f"tokens_per_frame={tokens_per_frame:g}: this model serves {1 / frames:g} to "
            f"{framing.max_block_tokens / frames:g}"
        )
    fmt = framing.main.with_rate(per_block)
    if vocabulary.preset(fmt) is None:
        warnings.warn(
            f"tokens_per_frame={tokens_per_frame:g} is a rate the model was not trained at: "
            "expect poor videos, or train with `rates`",
            stacklevel=5,
        )
    return fmt


def film(
    decoder: Decoder,
    grammar: Grammar,
    prompts: Sequence[str | None],
    seeds: Sequence[int],
    shot: Shot,
    sampling: Sampling,
    progress: Callable[[int], None] | None = None,
    begun: Sequence[VideoTokens] | None = None,
    stills: Sequence[Sequence[VideoTokens]] | None = None,
    negative: str | None = None,
) -> list[VideoTokens]:
    """Video tokens for each prompt, whole blocks.

    Args:
        decoder: The model.
        grammar: Of its vocabulary.
        prompts: Captions; None: anything.
        seeds: One per prompt.
        shot: What `plan_shot` made.
        sampling: How to draw.
        progress: Called with the number of videos done.
        begun: What each video begins with, as many blocks each, fewer than a window has.
        stills: Frames of each video that are known, where the task is to fill in.
        negative: What guidance leads away from, in place of nothing at all.
    """
    made: list[VideoTokens] = []
    for first in range(0, len(prompts), ROWS):
        part = slice(first, first + ROWS)
        starts = None if begun is None else begun[part]
        known = None if stills is None else stills[part]
        windows = shoot(
            decoder,
            grammar,
            prompts[part],
            seeds[part],
            shot,
            sampling,
            starts,
            known,
            negative,
        )
        parts = list(zip(*windows, strict=True))  # of each film its windows
        for i, window_parts in enumerate(parts):
            made.append(_joined(shot, window_parts, None if starts is None else starts[i]))
        if progress is not None:
            progress(len(prompts[part]))
    return made


def _joined(
    shot: Shot, parts: Sequence[VideoTokens], begun: VideoTokens | None = None
) -> VideoTokens:
    """A whole film of what it began with and the new blocks of each window."""
    if len(parts) == 1 and begun is None and shot.num_frames <= parts[0].num_frames:
        return parts[0]
    codes = begun.codes if begun is not None else ()
    codes += tuple(block for part in parts for block in part.codes)
    return replace(parts[0], codes=codes, timestamps=shot.times(len(codes) * parts[0].block_frames))


def shoot(
    decoder: Decoder,
    grammar: Grammar,
    prompts: Sequence[str | None],
    seeds: Sequence[int],
    shot: Shot,
    sampling: Sampling,
    begun: Sequence[VideoTokens] | None = None,
    stills: Sequence[Sequence[VideoTokens]] | None = None,
    negative: str | None = None,
) -> Iterator[list[VideoTokens]]:
    """The new blocks of each window as soon as it is made, of films side by side; see `film`.

    The last window is all that is held, so memory does not grow with the length. What a window
    holds depends on those before it and on its place, not on how many follow.
    """
    for seed in seeds:
        check_seed(seed)
    if negative is not None and not negative.strip():
        raise ValueError("the negative prompt is empty: say what not to show, or leave it out")
    _warn_of_idle(sampling, negative, stills is not None)
    null = condition(grammar.vocabulary, negative)
    shown = [condition(grammar.vocabulary, prompt) for prompt in prompts]
    known = [None] * len(shown) if stills is None else stills
    asked = [_Asked(*each, null) for each in zip(shown, known, seeds, strict=True)]
    starts = [None] * len(shown) if begun is None else list(begun)
    return _windows(decoder, grammar, asked, shot, sampling, starts)


def _warn_of_idle(sampling: Sampling, negative: str | None, has_stills: bool) -> None:
    """Warn of settings that the others leave without effect."""
    sampling.video.warn_of_idle()
    if sampling.guidance != 1 or (has_stills and sampling.context_guidance != 1):
        return
    idle = {"negative": negative, "rescale": sampling.rescale or None}
    for name, value in idle.items():
        if value is not None:
            warnings.warn(
                f"{name}={value!r} has no effect without guidance: leave it out, or give "
                "guidance=2",
                stacklevel=4,
            )


@dataclass(frozen=True)
class _Asked:
    """What one video is to be, and what guidance leads away from."""

    shown: Span
    stills: Sequence[VideoTokens] | None
    seed: int
    null: Span

    def prompt(
        self, vocabulary: Vocabulary, fmt: VideoFormat, tokens: VideoTokens | None, keep: int
    ) -> Prompt:
        full, null = (
            to_video(vocabulary, span, fmt, tokens, keep, self.stills)
            for span in (self.shown, self.null)
        )
        if self.stills is None:
            return Prompt(full, null)
        return Prompt(full, null, to_video(vocabulary, self.null, fmt, tokens, keep, ()))


def _windows(
    decoder: Decoder,
    grammar: Grammar,
    asked: Sequence[_Asked],
    shot: Shot,
    sampling: Sampling,
    last: Sequence[VideoTokens | None],
) -> Iterator[list[VideoTokens]]:
    keep = so_far = len(last[0].codes) if last[0] else 0
    while so_far < shot.num_blocks:
        starts = [
            each.prompt(grammar.vocabulary, shot.format, tokens, keep)
            for each, tokens in zip(asked, last, strict=True)
        ]
        round_seeds = [later_seed(each.seed, 1_000_003 * so_far) for each in asked]
        states = continue_streams(
            decoder, grammar, starts, sampling=sampling, seeds=round_seeds, num_items=1
        )
        windows: list[VideoTokens] = []
        for state in states:
            item = state.items[-1]
            assert isinstance(item, Video)
            windows.append(item.tokens)
        stop = min(len(windows[0].codes), keep + shot.num_blocks - so_far)
        yield [window.blocks(keep, stop) for window in windows]
        so_far, keep, last = so_far + stop - keep, shot.overlap, windows
