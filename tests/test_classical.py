"""Classical anchors: what they encode comes back, bits are counted, what is amiss is named."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from typing import get_args

import av
import numpy as np
import pytest
import torch

from data.clip import Clip
from data.muxing import Encoding, mux
from data.reading import read_clip
from data.scenes import Scenes
from data.source import Skipped
from tokenizer.metrics import psnr, squared_error
from tokenizer.studies.classical import (
    ENCODERS,
    ClassicalCoder,
    EncoderName,
    MissingEncoder,
    classical_curve,
)

HERE = [name for name, kind in ENCODERS.items() if kind.library in av.codecs_available]


def smooth(height: int, width: int, num_frames: int = 5) -> Clip:
    coarse = torch.rand(num_frames, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    size = (height, width)
    fine = torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=True)
    return Clip.from_frames((255 * fine).to(torch.uint8), fps=8)


class Smooth:
    """Two smooth clips of odd and even sizes."""

    name = "smooth"
    skipped: list[Skipped] = []

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Clip:
        return smooth(24 + index, 32 - index)


def test_every_encoder_of_the_table_has_a_name() -> None:
    assert set(ENCODERS) == set(get_args(EncoderName)) and HERE


@pytest.mark.skipif("x264" not in HERE, reason="PyAV without x264")
@pytest.mark.parametrize("size", [(16, 16), (32, 32), (48, 80), (64, 64)])
def test_bits_do_not_depend_on_what_memory_held(size: tuple[int, int]) -> None:
    """x264's macroblock tree reads what nobody wrote where pictures are small."""
    clip = Scenes("easy", split="heldout", num_frames=4, height=size[0], width=size[1])[0]
    coder, luck, found = ClassicalCoder("x264", [46], "yuv444p"), np.random.default_rng(0), set()
    for _ in range(40):
        lengths = luck.integers(32, 1_000_000, 40)
        spoilt = [np.full(length, luck.integers(-300, 300), np.int16) for length in lengths]
        del spoilt  # the encoder gets these places
        found.add(coder.code(clip, 0).bits["packets"])
    assert len(found) == 1


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("size", [(32, 48), (17, 5), (1, 1)])
def test_a_constant_clip_comes_back(name: EncoderName, size: tuple[int, int]) -> None:
    colour = torch.tensor([40, 180, 90], dtype=torch.uint8)[None, :, None, None]
    clip = Clip.from_frames(colour.expand(3, 3, *size).contiguous(), fps=8)
    coded = ClassicalCoder(name, [20]).code(clip, 0)
    assert coded.frames.shape == clip.frames.shape and coded.tokens is None
    assert psnr(squared_error(coded.frames, clip.frames).mean()) > 40
    assert 0 < coded.bits["packets"] < coded.bits["file"]
    assert coded.encode_seconds > 0 and coded.decode_seconds > 0


@pytest.mark.parametrize("name", HERE)
def test_coarser_costs_less_and_looks_worse(name: EncoderName) -> None:
    curve = classical_curve(name, Smooth(), name, [10, 25, 40])
    for key in ("bpp", "psnr-rgb", "ssim-rgb"):
        values = curve.metric(key)
        assert list(values) == sorted(values, reverse=True) and values[0] > values[-1]
    assert curve.metric("bpp") == curve.metric("bpp-packets")
    assert all(a < b for a, b in zip(curve.metric("bpp"), curve.metric("bpp-file"), strict=True))
    assert "tokens-per-frame" not in curve.results and curve.protocol["bpp"] == "packets"
    assert curve.protocol["points"] == ["crf 10", "crf 25", "crf 40"]
    assert "yuv420p" in curve.protocol["pixels"]
    assert ENCODERS[name].options.items() <= curve.protocol["options"].items()
    assert classical_curve(name, Smooth(), name, [10, 25, 40]) == curve


def test_whole_colours_are_closer() -> None:
    clip = smooth(16, 16)
    half, whole = (
        psnr(squared_error(ClassicalCoder("x264", [4], p).code(clip, 0).frames, clip.frames).mean())
        for p in ("yuv420p", "yuv444p")
    )
    assert whole > half + 3


def test_a_note_of_the_encoder_about_itself_costs_no_bits() -> None:
    """x264's SEI is taken out of packets and file, and every pixel stays."""
    clip, sizes, frames = smooth(16, 16), [], []
    plain = Encoding("mp4", "libx264", "yuv444p", {"crf": "20"})
    for encoding in (plain, replace(plain, packet_filter=ENCODERS["x264"].packet_filter)):
        file = io.BytesIO()
        sizes.append(mux(clip, file, encoding).packet_bytes)
        assert (b"x264 - core" in file.getvalue()) == (encoding is plain)
        frames.append(read_clip(file.getvalue()).frames)
    assert sizes[0] - sizes[1] > 400 and torch.equal(*frames)


def test_options_reach_the_encoder() -> None:
    clip = smooth(32, 32, 8)
    fast, slow = (
        ClassicalCoder("x264", [30], options={"preset": preset}).code(clip, 0).bits["packets"]
        for preset in ("ultrafast", "slow")
    )
    assert fast != slow
    with pytest.raises(ValueError, match="x264 has no option presett: leave it out"):
        ClassicalCoder("x264", [30], options={"presett": 3}).code(clip, 0)
    with pytest.raises(ValueError, match="x264 refuses 8 frames of 32x32 .*preset warp"):
        ClassicalCoder("x264", [30], options={"preset": "warp"}).code(clip, 0)


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="crf 52: x264 takes 0 to 51"):
        ClassicalCoder("x264", [20, 52])
    with pytest.raises(ValueError, match="no crf: give x264 some"):
        ClassicalCoder("x264", [])
    with pytest.raises(ValueError, match="pixels=yuv444p: svt-av1 codes yuv420p"):
        ClassicalCoder("svt-av1", [20], "yuv444p")
    with pytest.raises(ValueError, match="encoder=x266: there are x264"):
        ClassicalCoder("x266", [20])  # pyright: ignore[reportArgumentType]


def test_an_encoder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "vp9", replace(ENCODERS["vp9"], library="libnone"))
    with pytest.raises(MissingEncoder, match="vp9: the installed PyAV .* has no libnone"):
        ClassicalCoder("vp9", [20])


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="priorities of Linux")
def test_encoders_leave_the_priority_as_it_was() -> None:
    before = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    for name in HERE:
        ClassicalCoder(name, [30]).code(smooth(32, 32), 0)
        assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == before, name
