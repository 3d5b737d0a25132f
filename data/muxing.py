"""Frames into a container: a clip through one of FFmpeg's encoders, in colours that are named.

It knows pixels, clocks and packets. It does not know which suffix or quality asks for what.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from data.clip import Clip
from data.interrupts import undivided

CLOCK = Fraction(1, 90_000)  # seconds a tick; Matroska and WebM round it to milliseconds
APNG_CLOCK = Fraction(1, 1000)


@dataclass(frozen=True)
class Encoding:
    """How frames become a file. YUV is BT.601 in the limited range."""

    container: str  # as FFmpeg calls the format: mp4, webm, matroska, apng
    encoder: str  # as FFmpeg calls it: libx264, ...
    pixels: str  # pixel format coded: yuv420p, yuv444p, bgr0, rgb24
    options: dict[str, str] = field(default_factory=dict)  # of the encoder
    packet_filter: str = ""  # an FFmpeg bitstream filter that packets pass
    key_every: int | None = None  # frames from key frame to key frame at most; None: encoder's own


@dataclass(frozen=True)
class Film:
    """A clip whose frames come part by part and are never all in memory; read once."""

    parts: Iterable[Tensor]  # uint8 (n, 3, H, W) each, in all as many frames as timestamps
    timestamps: Tensor  # float64 (T,), seconds, increasing
    height: int  # pixels
    width: int  # pixels
    source: str = ""  # for messages

    def __len__(self) -> int:
        return len(self.timestamps)

    @property
    def fps(self) -> float | None:
        """Mean frames a second between the first and last frame; None for a single frame."""
        if len(self) < 2:
            return None
        return (len(self) - 1) / float(self.timestamps[-1] - self.timestamps[0])


@dataclass(frozen=True)
class Muxed:
    """What encoding a clip gave."""

    packet_bytes: int  # of all packets: without the container and the headers it keeps
    num_frames: int
    cut_short: bool  # by Ctrl-C: a film of which these frames were made
    unused: dict[str, str]  # options that the encoder does not know


def mux(clip: Clip | Film, target: Path | BinaryIO, encoding: Encoding) -> Muxed:
    """Encode a clip with its times into a file or an open binary file.

    Where Ctrl-C comes while a film is made, the file ends, whole, after the frames there are; a
    clip, and a film without one, pass it on.

    Raises:
        av.error.FFmpegError: The encoder is unknown or refuses the size, pixels or options.
    """
    import av
    from av.bitstream import BitStreamFilterContext
    from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
    from av.video.stream import VideoStream

    reformatter = VideoReformatter()  # one for all frames: setting it up is what costs
    rate = Fraction(clip.fps or 1.0).limit_denominator(1001)
    clock = APNG_CLOCK if encoding.container == "apng" else CLOCK
    converted = encoding.pixels.startswith("yuv")
    opened = str(target) if isinstance(target, Path) else target
    size = num_frames = 0
    cut_short = False
    same = {"fflags": "+bitexact"}  # no random ids: equal clips give equal files
    with (
        _plain_pipe_errors(),
        _priority_kept(),
        av.open(opened, "w", format=encoding.container, container_options=same) as container,
    ):
        rate, options = max(rate, Fraction(1, 1001)), _repeatable(encoding)
        stream = cast(VideoStream, container.add_stream(encoding.encoder, rate, options))
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, encoding.pixels
        stream.thread_count = 1
        stream.codec_context.time_base = clock
        if encoding.key_every is not None:
            stream.codec_context.gop_size = encoding.key_every
        if converted:
            stream.codec_context.colorspace = 6  # BT.601, which the conversion below writes
            stream.codec_context.color_range = 1  # limited
        packet_filter = None
        if encoding.packet_filter:
            packet_filter = BitStreamFilterContext(encoding.packet_filter, stream)

        def put(frame: av.VideoFrame | None) -> None:
            nonlocal size
            packets = stream.encode(frame)
            if packet_filter is not None:
                packets = [kept for packet in packets for kept in packet_filter.filter(packet)]
            size += sum(packet.size for packet in packets)
            container.mux(packets)

        parts = clip.parts if isinstance(clip, Film) else (clip.frames,)
        images = (image for part in parts for image in to_images(part))
        try:
            for image, tick in zip(images, ticks(clip, clock), strict=True):
                with undivided():  # a packet that is lost would spoil those after it
                    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                    if converted:
                        frame = reformatter.reformat(
                            frame,
                            format=encoding.pixels,
                            dst_colorspace=Colorspace.ITU601,
                            dst_color_range=ColorRange.MPEG,
                        )
                    frame.pts, frame.time_base = tick, clock
                    put(frame)
                    num_frames += 1
        except KeyboardInterrupt:
            if not (num_frames and isinstance(clip, Film)):
                raise
            cut_short = True
        put(None)
        unused = dict(stream.codec_context.options)
    return Muxed(size, num_frames, cut_short, unused)


@contextmanager
def _priority_kept() -> Iterator[None]:
    """Undo what SVT-AV1 does to its caller when root runs it: real-time priority, for good.

    All else on the core would starve, long after the encoding.
    """
    if not hasattr(os, "sched_getscheduler"):  # no Linux
        yield
        return
    before, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != before:
            os.sched_setscheduler(0, before, parameters)


def _repeatable(encoding: Encoding) -> dict[str, str]:
    """The encoder's options, with which equal frames give equal packets.

    x264's AVX-512 code reads what was never written: of 60 encodings of the same 16 frames 3 were
    others, by up to 19 levels. Its AVX2 code gives what its plain C does, every time.
    """
    options = dict(encoding.options)
    if encoding.encoder == "libx264" and torch.backends.cpu.get_cpu_capability() == "AVX512":
        given = options.get("x264-params")
        options["x264-params"] = ":".join(filter(None, (given, "asm=avx2")))
    return options


@contextmanager
def _plain_pipe_errors() -> Iterator[None]:
    """BrokenPipeError where a reader went away, which PyAV hides under an error of its own."""
    from av.error import FFmpegError

    try:
        yield
    except FFmpegError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, BrokenPipeError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise cause from None


def ticks(clip: Clip | Film, clock: Fraction) -> list[int]:
    """When each frame is shown, in whole ticks of `clock` from the first."""
    times = (clip.timestamps - clip.timestamps[0]).tolist()
    return [math.floor(time / clock + 0.5) for time in times]


def to_images(frames: Tensor) -> np.ndarray:
    """(T, 3, H, W) -> uint8 (T, H, W, 3), contiguous."""
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3:
        raise ValueError(
            f"frames are {frames.dtype} {tuple(frames.shape)}: give uint8 (T, 3, H, W)"
        )
    return np.ascontiguousarray(frames.cpu().permute(0, 2, 3, 1).numpy())
