"""Classical video encoders as coders of a study: x264, x265, SVT-AV1 and VP9 through PyAV.

Each clip is one file, encoded with its own times, read back as any video is. Bits are those of the
packets alone, and of the whole file. What a mere note adds (x264 writes 650 bytes about itself into
every stream) is taken out first: on short clips it would decide the comparison.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from data.clip import Clip
from data.muxing import Encoding, mux
from data.reading import read_clip
from data.source import Source
from tokenizer.evaluate import Progress
from tokenizer.studies.curve import Curve
from tokenizer.studies.measuring import Coded, measure

EncoderName = Literal["x264", "x265", "svt-av1", "vp9"]
Pixels = Literal["yuv420p", "yuv444p"]


@dataclass(frozen=True)
class _Encoder:
    """An encoder with the options it has unless others are asked for."""

    library: str  # as FFmpeg calls it
    container: str
    largest_crf: int  # the coarsest
    options: dict[str, str]
    smallest: int = 2  # pixels a side; smaller clips are padded
    pixels: tuple[Pixels, ...] = ("yuv420p", "yuv444p")
    packet_filter: str = ""
    params: str = ""  # the option that holds the library's own parameters
    own: str = ""  # these, which others are added to
    careful_below: int = 0  # pixels; with a shorter side:
    careful: str = ""  # further parameters
    careful_step: int = 2  # pixels that sides are padded to multiples of


# Tuned for PSNR, which is what the curves show; presets as slow as short clips allow.
ENCODERS: dict[EncoderName, _Encoder] = {
    "x264": _Encoder(
        "libx264",
        "mp4",
        51,
        {"preset": "slow", "tune": "psnr"},
        packet_filter="filter_units=remove_types=6",  # SEI: x264's note about itself
        params="x264-params",
        # With fewer than 4 of its blocks a side its macroblock tree heeds memory that nobody wrote:
        # other bits now and then, as the heap has it (checked with heaps full of small numbers).
        careful_below=64,
        careful="mbtree=0",
    ),
    "x265": _Encoder(
        "libx265",
        "mp4",
        51,
        {"preset": "medium", "tune": "psnr"},
        params="x265-params",
        own="info=0:log-level=error:pools=none:frame-threads=1:wpp=0",
        # With its coding units of 64 pixels x265 4.2 reads and writes outside of small pictures:
        # other bits from run to run, now and then a crash. So it is steady (checked with memory
        # filled with different values).
        careful_below=96,
        careful="ctu=16",
        careful_step=32,
    ),
    "svt-av1": _Encoder(
        "libsvtav1",
        "mp4",
        63,
        {"preset": "5", "svtav1-params": "tune=1"},  # 1 is PSNR
        smallest=16,
        pixels=("yuv420p",),
    ),
    "vp9": _Encoder("libvpx-vp9", "webm", 63, {"b": "0", "deadline": "good", "cpu-used": "1"}),
}
_KEY_EVERY = 250  # frames: short clips have one key frame, unless the scene is cut


class MissingEncoder(ValueError):
    """The installed PyAV was built without an encoder."""


class ClassicalCoder:
    """One encoder at several constant rate factors.

    Args:
        encoder: Which one.
        crf: Constant rate factors, from 0 (finest) up to the encoder's largest.
        pixels: How colours are kept: yuv420p at half the size, as players expect, yuv444p whole.
        options: Options of the encoder, as FFmpeg names them, over those it has here.

    Raises:
        MissingEncoder: PyAV has not got it.
        ValueError: A setting out of range, or pixels that the encoder does not take.
    """

    def __init__(
        self,
        encoder: EncoderName,
        crf: Sequence[float],
        pixels: Pixels = "yuv420p",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        import av

        if encoder not in ENCODERS:
            raise ValueError(f"encoder={encoder}: there are {', '.join(ENCODERS)}")
        self.name, self.crf, settings = encoder, list(crf), ENCODERS[encoder]
        self._settings = settings
        for value in self.crf:
            if not 0 <= value <= settings.largest_crf:
                raise ValueError(f"crf {value:g}: {encoder} takes 0 to {settings.largest_crf}")
        if not self.crf:
            raise ValueError(f"no crf: give {encoder} some, like [20, 28, 36, 44]")
        if pixels not in settings.pixels:
            raise ValueError(f"pixels={pixels}: {encoder} codes {' or '.join(settings.pixels)}")
        try:
            av.Codec(settings.library, "w")
        except ValueError:  # av.codec.codec.UnknownCodecError
            raise MissingEncoder(
                f"{encoder}: the installed PyAV {av.__version__} has no {settings.library}: "
                "install a build that has it, or leave this curve out"
            ) from None
        os.environ.setdefault("SVT_LOG", "1")  # errors only: it reports every clip on stderr
        self._encoding = Encoding(
            container=settings.container,
            encoder=settings.library,
            pixels=pixels,
            options=settings.options | {key: str(value) for key, value in (options or {}).items()},
            packet_filter=settings.packet_filter,
            key_every=_KEY_EVERY,
        )

    def _options(self, careful: bool = False) -> dict[str, str]:
        """Options of the encoder; its library's own parameters are one option among them."""
        settings, options = self._settings, dict(self._encoding.options)
        given = options.get(settings.params, "")
        own = [settings.own, settings.careful if careful else "", given]
        if any(own):
            options[settings.params] = ":".join(part for part in own if part)
        return options

    def _caution(self) -> dict[str, str]:
        """What is said of clips with a side so short that the encoder needs care."""
        s = self._settings
        told = f"below {s.careful_below} pixels a side {s.careful}, padded to {s.careful_step}s"
        return {"small_clips": told} if s.careful else {}

    @property
    def points(self) -> list[str]:
        return [f"crf {value:g}" for value in self.crf]

    @property
    def protocol(self) -> dict[str, Any]:
        import av

        versions = {name: list(version) for name, version in av.library_versions.items()}
        return {
            "encoder": self.name,
            "library": self._encoding.encoder,
            "options": self._options(),
            "pixels": f"{self._encoding.pixels}, BT.601 limited",
            "key_frames": f"at most {_KEY_EVERY} frames apart",
            "padding": f"edges repeated to even sides of at least {self._settings.smallest}",
            **self._caution(),
            "container": self._encoding.container,
            "pyav": av.__version__,
            "libavcodec": versions["libavcodec"],
        }

    def code(self, clip: Clip, point: int) -> Coded:
        from av.error import FFmpegError

        settings = self._settings
        careful = min(clip.height, clip.width) < settings.careful_below
        step = settings.careful_step if careful else 2
        options = {**self._options(careful), "crf": f"{self.crf[point]:g}"}
        encoding, file = replace(self._encoding, options=options), io.BytesIO()
        padded = replace(clip, frames=_pad(clip.frames, settings.smallest, step))
        began = time.perf_counter()
        try:
            written = mux(padded, file, encoding)
        except FFmpegError as error:
            size = f"{len(clip)} frames of {clip.height}x{clip.width}"
            told = ", ".join(f"{key} {value}" for key, value in options.items())
            raise ValueError(
                f"{self.name} refuses {size} with {told} ({error}): give other options"
            ) from None
        if written.unused:
            named = ", ".join(written.unused)
            raise ValueError(f"{self.name} has no option {named}: leave it out")
        between = time.perf_counter()
        frames = read_clip(file.getvalue(), max_frames=len(clip) + 1).frames
        ended = time.perf_counter()
        bits = {"packets": 8.0 * written.packet_bytes, "file": 8.0 * len(file.getvalue())}
        frames = frames[..., : clip.height, : clip.width]
        return Coded(frames, bits, None, between - began, ended - between)


def classical_curve(
    encoder: EncoderName,
    source: Source,
    name: str,
    crf: Sequence[float],
    pixels: Pixels = "yuv420p",
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Curve:
    """A classical encoder's curve over all clips of a source.

    Arguments and errors are those of `ClassicalCoder`.
    """
    coder = ClassicalCoder(encoder, crf, pixels, options)
    return measure(coder, source, name, f"{encoder}, {pixels}", progress=progress)


def _pad(frames: Tensor, smallest: int, step: int) -> Tensor:
    """Frames (T, 3, H, W), last rows and columns repeated to multiples of `step`, large enough."""
    rows, columns = (
        torch.arange(max(smallest, side + -side % step)).clamp(max=side - 1)
        for side in frames.shape[2:]
    )
    return frames[:, :, rows][..., columns]
