"""FFmpeg's frames through PyAV: opening, decoding, and their times.

It never hands on a frame that the decoder marks as damaged. It knows nothing of pixels, clips,
samplers or images that Pillow reads.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from data.errors import VideoError, VideoWarning
from data.media import BROKEN, Media

_NOT_VIDEO = {"tty", "bin", "xbin", "adf", "idf", "lrc", "data"}  # text that FFmpeg would "show"
_SEEK_WORTH = 32  # frames to decode for nothing before a seek pays


@contextmanager
def open_stream(file: Media) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its main video stream."""
    if file.is_token_file():  # some demuxers would take its bytes for pictures
        raise VideoError(file.name, "is a token file", "`kinolex decode` makes a video of it")
    try:
        container = av.open(file.open(), "r", options={"protocol_whitelist": "file,pipe"})
    except (FFmpegError, ValueError) as error:
        raise VideoError(
            file.name, f"cannot be read as a video ({_why(error)})", file.remedy
        ) from None
    with container:
        if container.format.name in _NOT_VIDEO:
            raise VideoError(file.name, "is not a video", "give a video, GIF or image")
        streams = [
            s for s in container.streams.video if not s.disposition & Disposition.attached_pic
        ]
        if not streams:
            kind = "holds audio only" if container.streams.audio else "holds no video"
            raise VideoError(file.name, kind, "give a file with a video stream")
        stream = max(streams, key=lambda s: bool(s.disposition & Disposition.default))
        stream.thread_count = 1  # files are what is read in parallel
        # Else FFmpeg paints over damage: with three wrong bytes in an H.264 file it passed on 1,585
        # spoilt frames in 60 trials, with this 97.
        stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
        yield container, stream


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower()


def decode(file: Media) -> Iterator[tuple[VideoFrame, float]]:
    """All good frames from first to last with their times in seconds, the first at 0.

    Frames with repeated or backward times are left out with a warning, a clock that jumps back is
    joined on. Decoding stops with a warning where the file is damaged.
    """
    with open_stream(file) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate
        gap = float(1 / rate) if rate else 0.04
        origin, shift = None, 0.0
        last, dropped = -gap, 0
        good = _good_frames(container, stream, file)
        for frame in _all_but_last(good, file.name) if file.is_cut_gif() else good:
            base = frame.time_base or stream.time_base
            now = last + gap
            if frame.pts is not None and base is not None:
                origin = frame.pts if origin is None else origin
                # In whole ticks from the first: a grid of 1/25 s stays exactly that.
                now = (frame.pts - origin) * base.numerator / base.denominator + shift
            if now < last - 3 * gap:  # the clock was reset: go on from here
                shift += last + gap - now
                now = last + gap
            if now <= last:
                dropped += 1
                continue
            last = now
            yield frame, now
        if dropped:
            _warn(f"{file.name}: left out {dropped} frames whose times repeat or go back")


def _good_frames(
    container: InputContainer, stream: VideoStream, file: Media
) -> Iterator[VideoFrame]:
    """Frames until the end or the first damage; damaged ones at the start are left out."""
    count, damaged, trouble, first_trouble = 0, 0, "", ""
    end = 0.0  # seconds, of the packets so far
    packets = _packets(container, stream)
    while not trouble:
        frames: Sequence[VideoFrame] = ()
        packet = None
        try:
            packet = next(packets, None)
            end = max(end, _end_of(packet))
            frames = stream.decode(packet)  # of None: what the decoder still holds
        except _Truncated:
            trouble = "a truncated packet"
            frames = _pending(stream)
        except FFmpegError as error:
            first_trouble = first_trouble or _why(error)
            if count or packet is None:
                trouble = _why(error)
                frames = _pending(stream)
            else:
                damaged += 1  # the file may begin between key frames: go on to the next
        for frame in frames:
            if not frame.is_corrupt and (count or not damaged or frame.key_frame):
                count += 1
                yield frame
            elif not count:
                damaged += 1
            else:
                trouble = "a damaged frame"
                break
        if packet is None:
            break
    if not count:
        found = first_trouble or trouble or (f"{damaged} damaged" if damaged else "no frames")
        raise VideoError(file.name, f"has no frame that can be decoded ({found})", file.remedy)
    if damaged:
        _warn(f"{file.name}: left out {damaged} damaged frames at the start")
    named = _named_end(stream)
    if trouble:
        _warn(f"{file.name}: stopped at {trouble} after {count} frames; {BROKEN}")
    elif named is not None and end < 0.98 * named - 0.1:
        _warn(f"{file.name}: ends after {end:.2f} of the {named:.2f} s it names, cut off; {BROKEN}")


def _end_of(packet: Packet | None) -> float:
    """Seconds until a packet's frame has been shown; 0 if it does not tell."""
    if packet is None or packet.pts is None or packet.time_base is None:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


def _named_end(stream: VideoStream) -> float | None:
    """Seconds at which the stream ends as Matroska's tag says, written with the end; None if not.

    Durations in other headers may count audio or what an edit list skips; this one does not.
    """
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = map(float, parts)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


class _Truncated(Exception):
    """The last packet is not whole."""


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """The stream's packets. One marked as damaged counts as cut off only if it is the last:
    a break in a transport stream marks whole ones too, and the decoder judges those."""
    doubtful = None
    for packet in container.demux(stream):
        if packet.size == 0:  # the demuxer's own end
            break
        if doubtful is not None:
            yield doubtful
            doubtful = None
        if packet.is_corrupt:
            doubtful = packet
        else:
            yield packet
    if doubtful is not None:
        raise _Truncated


def _all_but_last(frames: Iterator[VideoFrame], name: str) -> Iterator[VideoFrame]:
    held = next(frames)
    count = 0
    for count, frame in enumerate(frames, start=1):  # noqa: B007
        yield held
        held = frame
    if not count:
        raise VideoError(name, "is cut short in its first frame", BROKEN)
    _warn(f"{name}: is cut short, left out its half-drawn frame {count}; {BROKEN}")


def _pending(stream: VideoStream) -> Sequence[VideoFrame]:
    try:
        return stream.decode(None)
    except FFmpegError:
        return ()


def _warn(message: str) -> None:
    warnings.warn(message, VideoWarning, stacklevel=3)


@dataclass(frozen=True)
class PacketIndex:
    """Times as the container has them, found without decoding."""

    ticks: list[int]  # increasing
    keys: list[int]  # frame numbers one can start decoding at
    time_base: Fraction  # seconds a tick

    @property
    def seconds(self) -> np.ndarray:
        """float64 (T,), the first at 0."""
        ticks = np.asarray(self.ticks, dtype=np.int64)
        return (ticks - ticks[0]) * self.time_base.numerator / self.time_base.denominator


def index_packets(file: Media) -> PacketIndex | None:
    """The frames' times from their packets; None where they do not tell them all."""
    ticks: dict[int, bool] = {}
    with open_stream(file) as (container, stream):
        base = stream.time_base
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.is_corrupt or packet.pts is None or packet.pts in ticks:
                    return None
                ticks[packet.pts] = packet.is_keyframe
        except FFmpegError:
            return None
    if not ticks or base is None or file.is_cut_gif():
        return None
    order = sorted(ticks)
    return PacketIndex(order, [i for i, tick in enumerate(order) if ticks[tick]], base)


class IndexMismatch(Exception):
    """The decoder gives other frames than the packets announce: decode the file from the start."""


def decode_selected(
    file: Media, index: PacketIndex, wanted: Sequence[int]
) -> Iterator[tuple[VideoFrame, float]]:
    """The frames numbered `wanted` (increasing), seeking where that saves decoding.

    Raises:
        IndexMismatch: As soon as a frame is not the one that `index` tells.
    """
    seconds = index.seconds
    with open_stream(file) as (container, stream):
        frames, position = container.decode(stream), 0
        for number in wanted:
            key = index.keys[max(bisect_right(index.keys, number) - 1, 0)] if index.keys else 0
            try:
                if key > position + _SEEK_WORTH:
                    container.seek(index.ticks[key], stream=stream)
                    frames, position = container.decode(stream), key
                    frames = _from_tick(frames, index.ticks[key])
                frame = None
                while position <= number:
                    frame = next(frames, None)
                    if frame is None or frame.is_corrupt or frame.pts != index.ticks[position]:
                        raise IndexMismatch
                    position += 1
            except FFmpegError:
                raise IndexMismatch from None
            if frame is None:
                raise IndexMismatch
            yield frame, float(seconds[number])


def _from_tick(frames: Iterator[VideoFrame], tick: int) -> Iterator[VideoFrame]:
    """Leaves out the frames that an open group shows before its key frame."""
    return (frame for frame in frames if frame.pts is None or frame.pts >= tick)
