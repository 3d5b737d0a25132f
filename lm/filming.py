"""Filming: text to video tokens, in windows of the trained length where more is wanted.

Knows formats, prompts and sampling. Knows no codec and no pixels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from data.reading import MAX_FRAMES
from lm.document import Video
from lm.formats import VideoFormat
from lm.framing import Framing
from lm.grammar import Grammar
from lm.model import Decoder
from lm.prompting import condition, to_video
from lm.sampling import Prompt, Sampling, continue_streams
from lm.sequence import Span
from lm.vocabulary import Vocabulary
from tokenizer.tokens import VideoTokens

ROWS = 64  # streams decoded side by side


@dataclass(frozen=True)
class Shot:
    """What is to be filmed.

    format: of one window, as trained. num_blocks: of the whole video. num_frames: of the whole
    video, when cut to the seconds asked for.
    """

    format: VideoFormat
    num_blocks: int
    num_frames: int


def plan_shot(
    vocabulary: Vocabulary,
    framing: Framing,
    seconds: float | None = None,
    tokens_per_frame: float | None = None,
) -> Shot:
    """Blocks and frames for a length and rate; warns beyond what was trained.

    Raises:
        ValueError: a length or rate that the model cannot make.
    """
    fmt, block_frames = framing.main, vocabulary.block_frames
    if tokens_per_frame is not None:
        fmt = _at_rate(vocabulary, framing, tokens_per_frame)
    trained = len(fmt.tokens_per_block)
    if seconds is None:
        return Shot(fmt, trained, fmt.num_frames)
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"seconds={seconds}: give a positive length")
    if fmt.fps is None:
        raise ValueError(f"seconds={seconds:g}: this model makes single images: leave it out")
    if seconds * fmt.fps > MAX_FRAMES:
        raise ValueError(
            f"seconds={seconds:g}: more than {MAX_FRAMES} frames, as many as are held at once: "
            f"ask for at most {float(MAX_FRAMES / fmt.fps):g} s"
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
    return Shot(fmt, max(blocks, trained), frames)


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
    null = condition(grammar.vocabulary, negative)
    made: list[VideoTokens] = []
    for first in range(0, len(prompts), ROWS):
        part = slice(first, first + ROWS)
        starts = [None] * len(prompts[part]) if begun is None else begun[part]
        shown = [condition(grammar.vocabulary, prompt) for prompt in prompts[part]]
        known = [None] * len(shown) if stills is None else stills[part]
        asked = [_Asked(*each, null) for each in zip(shown, known, seeds[part], strict=True)]
        made += _film_rows(decoder, grammar, asked, shot, sampling, starts)
        if progress is not None:
            progress(len(prompts[part]))
    return made


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


def _film_rows(
    decoder: Decoder,
    grammar: Grammar,
    asked: Sequence[_Asked],
    shot: Shot,
    sampling: Sampling,
    begun: Sequence[VideoTokens | None],
) -> list[VideoTokens]:
    vocabulary, keep = grammar.vocabulary, len(begun[0].codes) if begun[0] else 0
    made = list(begun)
    while True:
        starts = [
            each.prompt(vocabulary, shot.format, tokens, keep)
            for each, tokens in zip(asked, made, strict=True)
        ]
        so_far = len(made[0].codes) if made[0] else 0
        round_seeds = [each.seed + 1_000_003 * so_far for each in asked]
        states = continue_streams(
            decoder, grammar, starts, sampling=sampling, seeds=round_seeds, num_items=1
        )
        for i, state in enumerate(states):
            item = state.items[-1]
            assert isinstance(item, Video)
            made[i] = _extended(made[i], item.tokens, keep, shot)
        done = [tokens for tokens in made if tokens is not None]
        if len(done[0].codes) >= shot.num_blocks:
            return done
        keep = len(shot.format.tokens_per_block) // 2


def _extended(made: VideoTokens | None, window: VideoTokens, keep: int, shot: Shot) -> VideoTokens:
    """What was made so far with the new blocks of a window that began with its last `keep`."""
    if made is None and shot.num_blocks == len(window.codes):
        return window
    codes = ((made.codes if made else ()) + window.codes[keep:])[: shot.num_blocks]
    frames = len(codes) * window.block_frames
    fps = shot.format.fps
    assert fps is not None
    times = torch.arange(frames, dtype=torch.float64) * fps.denominator / fps.numerator
    return replace(window, codes=codes, timestamps=times)
