"""Writing: what is read back has the same frames at the same times; nothing is half-written."""

import io
import json
import os
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.atomic import atomic_path
from data.clip import Clip
from data.interrupts import CutShort, ending_interrupts, undivided
from data.muxing import Encoding, Film, mux
from data.reading import read_clip
from data.writing import encode_gif, encode_png, sheet, write_film, write_video
from lm.figures import Figure, write_results

VFR = [0.0, 0.033, 0.2, 0.5, 1.4, 1.5]
LOSSLESS = {".mkv", ".apng"}


def smooth(num_frames, height, width, seed=0):
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num_frames, 3, 3, 3, generator=draw)
    size = (height, width)
    fine = torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=True)
    return (fine * 255).to(torch.uint8)


def psnr(a, b):
    return float(10 * torch.log10(255**2 / ((a.float() - b.float()) ** 2).mean().clamp(min=1e-9)))


@pytest.mark.parametrize("size", [(32, 48), (31, 45), (1, 1), (2, 3)])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".gif", ".apng"])
def test_read_back(tmp_path, suffix, size):
    frames = smooth(6, *size)
    frames[3] = frames[2]  # a still moment stays as many frames
    clip = Clip(frames, torch.tensor(VFR, dtype=torch.float64) + 7.5)
    back = read_clip(write_video(clip, tmp_path / f"clip{suffix}", quality="high"))
    assert back.frames.shape == frames.shape
    tick = {".mp4": 1e-4, ".gif": 0.0051}.get(suffix, 0.00051)
    assert np.abs(back.timestamps.numpy() - VFR).max() <= tick  # variable, and from 0 s
    assert psnr(back.frames, frames) > {".gif": 25, ".mp4": 34, ".webm": 34}.get(suffix, 80)


@settings(max_examples=25)
@given(
    st.lists(st.floats(0.002, 3.0), max_size=12),
    st.floats(0, 1000),
    st.sampled_from([".mp4", ".webm", ".mkv", ".apng"]),
)
def test_any_times_are_kept(gaps, origin, suffix):
    times = torch.tensor([origin, *gaps], dtype=torch.float64).cumsum(0)
    clip = Clip(smooth(len(times), 4, 4), times)
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(clip, Path(folder) / f"a{suffix}")
        for back in (read_clip(path), read_clip(path, start=0.0)):
            assert float((back.timestamps - (times - times[0])).abs().max()) <= 0.00051


@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".gif", ".apng", ".png"])
def test_equal_clips_give_equal_files(tmp_path, suffix):
    clip = Clip.from_frames(smooth(6, 24, 32), 8)
    files = [write_video(clip, tmp_path / f"{i}{suffix}").read_bytes() for i in range(2)]
    assert files[0] == files[1]


def test_normal_quality_is_close_and_smaller(tmp_path):
    frames = smooth(8, 64, 64)
    for suffix in (".mp4", ".webm"):
        normal = write_video(frames, tmp_path / f"normal{suffix}", 8)
        high = write_video(frames, tmp_path / f"high{suffix}", 8, quality="high")
        assert normal.stat().st_size < high.stat().st_size
        assert psnr(read_clip(normal).frames, frames) > 28


def test_one_frame_and_sheet(tmp_path):
    frames = smooth(5, 8, 10)
    for suffix in (".mp4", ".webm", ".mkv", ".gif", ".apng", ".png"):
        back = read_clip(write_video(frames[:1], tmp_path / f"one{suffix}"))
        assert back.frames.shape == (1, 3, 8, 10) and back.timestamps.tolist() == [0.0]
    page = read_clip(write_video(frames, tmp_path / "sheet.png"))
    assert page.frames.shape == (1, 3, 18, 34)
    assert (page.frames[0, :, 10:, 12:22] == frames[4]).all()
    assert (page.frames[0, :, 8:10] == 255).all()
    assert sheet(frames, columns=5, gap=0).shape == (8, 50, 3)
    image = np.asarray(Image.open(io.BytesIO(encode_png(sheet(frames)))))
    assert (image == sheet(frames)).all()


def test_gif_is_sharp_where_colours_are_few():
    frames = torch.zeros(3, 3, 6, 5, dtype=torch.uint8)
    for i in range(3):
        frames[i, i, i : i + 3, 1:4] = 200 + i
    back = read_clip(encode_gif(frames, fps=8, scale=3))
    assert back.frames.shape == (3, 3, 18, 15)
    assert (back.frames[:, :, ::3, ::3] == frames).all() and (
        back.frames[:, :, 2::3, 2::3] == frames
    ).all()
    assert back.timestamps.tolist() == pytest.approx([0, 0.12, 0.25])
    with Image.open(io.BytesIO(encode_gif(frames, fps=8))) as gif:
        assert getattr(gif, "n_frames", 1) == 3 and gif.info["loop"] == 0


def test_wrong_use_leaves_nothing(tmp_path):
    frames = smooth(3, 8, 8)
    for path, fps, message in (
        ("a.mpeg3", 8, r"suffix '.mpeg3': use one of .mp4 .webm .mkv .gif .apng .png"),
        ("a", 8, "suffix ''"),
        ("a.mp4", None, "give fps, or a Clip"),
        ("a.mp4", -1, "fps=-1"),
        ("a.webm", 5000, "apart, .webm tells"),
    ):
        with pytest.raises(ValueError, match=message):
            write_video(frames, tmp_path / path, fps)
    with pytest.raises(ValueError, match="quality='best': give normal or high"):
        write_video(frames, tmp_path / "a.mp4", 8, quality="best")  # pyright: ignore
    with pytest.raises(ValueError, match=r"float32 \(3, 3, 8, 8\)"):
        write_video(frames.float(), tmp_path / "a.mp4", 8)
    with pytest.raises(ValueError, match="scale=0"):
        encode_gif(frames, 8, scale=0)
    with pytest.raises(ValueError, match="columns=0"):
        sheet(frames, columns=0)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    frames = smooth(3, 8, 8)
    for suffix in (".mp4", ".gif"):
        for place in (tmp_path / "file" / f"a{suffix}", Path("/proc") / f"a{suffix}"):
            with pytest.raises(OSError, match=str(place)):
                write_video(frames, place, 8)
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        (tmp_path / "d.mp4").mkdir()
        write_video(frames, tmp_path / "d.mp4", 8)


def test_a_full_disk_is_named_by_the_file_that_did_not_fit(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.kvt'"):
        with atomic_path(tmp_path / "a.kvt"), open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_a_broken_pipe():
    class Gone(io.BytesIO):
        def write(self, _):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        mux(Clip.from_frames(smooth(30, 64, 64), 8), Gone(), Encoding("matroska", "ffv1", "bgr0"))


def test_failed_write_keeps_the_old_file(tmp_path):
    path = write_video(smooth(3, 8, 8), tmp_path / "a.mp4", 8)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="do not fit .mp4"):
        write_video(torch.zeros(1, 3, 1, 40000, dtype=torch.uint8), path, 8)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def cut_film(frames, made):
    """A film of frames at 8 a second, in parts of two, that Ctrl-C ends after so many."""

    def parts():
        for first in range(0, made, 2):
            yield frames[first : first + 2]
        os.kill(os.getpid(), signal.SIGINT)
        yield frames[made:]

    times = torch.arange(len(frames), dtype=torch.float64) / 8
    return Film(parts(), times, *frames.shape[2:])


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv", ".apng", ".gif"])
def test_a_film_cut_short_is_a_whole_file_of_its_first_frames(tmp_path, suffix):
    frames, path = smooth(6, 16, 16), tmp_path / f"a{suffix}"
    with pytest.raises(CutShort, match=rf"the first 4 of 6 frames \(0.5 s\) are in .*a{suffix}"):
        write_film(cut_film(frames, 4), path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == write_video(frames[:4], tmp_path / f"b{suffix}", 8).read_bytes()
    assert len(read_clip(path)) == 4


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_film_cut_short_before_its_first_frame_leaves_what_was_there(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"of before")
    with pytest.raises(CutShort, match="nothing was written to"):
        write_film(cut_film(smooth(2, 16, 16), 0), path)
    assert path.read_bytes() == b"of before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_what_it_may_not_divide(number):
    done = []

    def work():
        with undivided():
            os.kill(os.getpid(), number)
            done.append(signal.getsignal(number))

    with ending_interrupts() as ending:
        before = signal.getsignal(number)
        with pytest.raises(KeyboardInterrupt):
            work()
        assert len(done) == 1 and signal.getsignal(number) == before != done[0]
        assert ending.came == (number == signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_ends_a_worker_that_inherited_its_handler():
    with ending_interrupts() as ending:
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM and not ending.came


def test_figures_that_cannot_be_written_are_printed(tmp_path, capsys):
    (tmp_path / "gone").touch()
    figures = [Figure("caption_exact", 0.5, 2)]
    with pytest.raises(OSError):
        write_results(tmp_path / "gone" / "e.json", figures, {"seed": 0})
    printed = json.loads(capsys.readouterr().out)
    write_results(tmp_path / "e.json", figures, {"seed": 0})
    assert printed == json.loads((tmp_path / "e.json").read_text())


def test_equal_clips_give_equal_mp4s(tmp_path: Path) -> None:
    """Whatever instructions the processor has: x264 reads memory at random with some."""
    luck = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8, generator=luck)
    still = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
    noise = torch.randint(0, 8, (16, 3, 64, 64), dtype=torch.uint8, generator=luck)
    moving = torch.cat([still.roll(3 * t, 3) for t in range(16)])
    clip = Clip.from_frames(moving // 2 + noise, 8)
    files = set()
    for _ in range(40):
        write_video(clip, tmp_path / "clip.mp4")
        files.add((tmp_path / "clip.mp4").read_bytes())
    assert len(files) == 1
