"""Bad files: one line with the value and the remedy, and never a frame that is not in the video."""

import io
import pickle
import random
import tempfile
import warnings
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from data.clip import Clip
from data.errors import VideoError, VideoWarning
from data.reading import probe, read_clip, read_times
from data.sampling import Uniform
from data.writing import encode_gif, write_video


@pytest.fixture(scope="module")
def bright():
    """40 bright frames, none of them twice."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 10, 10, generator=draw)
    fine = torch.nn.functional.interpolate(coarse, (48, 64), mode="bicubic").clamp(0.4, 1) * 255
    return torch.cat([fine.roll(i, 3) for i in range(40)]).to(torch.uint8)


def h264(frames, container="mp4", **options):
    """A video with key frames and B-frames, its index before its frames."""
    flags = {"movflags": "faststart"} if container == "mp4" else {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"  # a file: to put the index first it is read again
        with av.open(str(path), "w", format=container, options=flags) as out:
            stream = out.add_stream("libx264", rate=25, options={"g": "10", **options})
            stream.height, stream.width, stream.pix_fmt = *frames.shape[2:], "yuv420p"
            for image in frames.permute(0, 2, 3, 1).numpy():
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        return path.read_bytes()


def silence():
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(b"\0\0" * 800)
    return buffer.getvalue()


def no_frames():
    """An mp4 whose video track has no samples."""
    content = bytearray(h264(torch.full((2, 3, 16, 16), 200, dtype=torch.uint8)))
    for box in (b"stts", b"stsz", b"stsc", b"stco", b"ctts", b"stss"):
        place = content.find(box)
        if place >= 0:
            count = place + (12 if box == b"stsz" else 8)
            content[count : count + 4] = bytes(4)
    return bytes(content)


def half_a_picture():
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(buffer, "PNG")
    return buffer.getvalue()[:2000]


BAD = {
    "empty.mp4": (b"", r"is empty \(0 bytes\); copy or download"),
    "text.txt": (b"just some words\n" * 40, "is not a video|cannot be read as a video"),
    "text.mp4": (b"just some words\n" * 40, "cannot be read as a video"),
    "page.html": (b"<!doctype html><html><body>404</body></html>" * 9, "video"),
    "noise.webm": (random.Random(0).randbytes(5000), "cannot be read as a video"),
    "sound.wav": (silence, "holds audio only; give a file with a video stream"),
    "nothing.mp4": (no_frames, "no frame"),
    "list.m3u8": (b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/a.ts\n#EXT-X-ENDLIST\n", "list.m3u8"),
    "cut.png": (half_a_picture, "cannot be read as an image"),
    "fake.png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "as an image|is not an image"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("sampler", [None, Uniform(2)])
def test_bad_files_are_named_in_one_line(tmp_path, name, sampler):
    content, message = BAD[name]
    content = content() if callable(content) else content
    path = tmp_path / name
    path.write_bytes(content)
    for read in (lambda: read_clip(path, sampler=sampler), lambda: probe(path)):
        with pytest.raises(VideoError, match=message) as error:
            read()
        assert name in str(error.value) and "\n" not in str(error.value)
        assert ";" in str(error.value)  # what is wrong; what to do
        assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
    with pytest.raises(VideoError):
        read_clip(content, sampler=sampler)


def test_missing_and_folders(tmp_path):
    for read in (read_clip, read_times, probe):
        with pytest.raises(FileNotFoundError, match="gone.mp4: no such file"):
            read(tmp_path / "gone.mp4")
        with pytest.raises(FileNotFoundError, match="no such file"):
            read("http://localhost/a.mp4")  # never the network
    with pytest.raises(VideoError, match="is a folder without images"):
        read_clip(tmp_path)
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(VideoError, match="1.png"):
        read_clip(tmp_path)


def check_frames(clip, truth, worst=20.0):
    """Every frame is the one that belongs at its time."""
    for frame, time in zip(clip.frames, clip.timestamps.tolist(), strict=True):
        error = ((frame.float() - truth[round(time * 25)].float()) ** 2).mean()
        assert float(10 * torch.log10(255**2 / error.clamp(min=1e-3))) > worst


CONTAINERS = ["mp4", "fragmented", "matroska", "mpegts", "webm", "gif"]


def whole(kind, frames, tmp_path):
    if kind == "gif":
        return encode_gif(frames, 25)
    if kind == "webm":
        return write_video(Clip.from_frames(frames, 25), tmp_path / "a.webm").read_bytes()
    return h264(frames, "ismv" if kind == "fragmented" else kind)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_truncated_files_keep_only_true_frames(tmp_path, bright, kind):
    content = whole(kind, bright, tmp_path)
    kept = []
    for share in (0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97, 0.999):
        cut = content[: int(len(content) * share)]
        for sampler in (None, Uniform(5)):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    clip = read_clip(cut, sampler=sampler)
                except VideoError:
                    continue
            check_frames(clip, bright)
            if sampler is None:
                kept.append(len(clip))
                times = read_again(read_times, cut)
                assert times.tolist() == clip.timestamps.tolist()
            assert all(issubclass(w.category, VideoWarning) for w in caught)
    assert kept == sorted(kept) and kept[-1] >= 38 and kept[0] < 40


def read_again(read, content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VideoWarning)
        return read(content)


def test_truncation_is_warned_of_by_name(tmp_path, bright):
    path = tmp_path / "cut.mp4"
    path.write_bytes(h264(bright)[:-3000])
    with pytest.warns(VideoWarning, match="cut.mp4: stopped at .* frames; copy or download it"):
        clip = read_clip(path)
    assert 0 < len(clip) < 40


def test_matroska_cut_between_frames_is_warned_of(tmp_path, bright):
    """Its reader ends there as if all were well."""
    content = write_video(Clip.from_frames(bright, 25), tmp_path / "a.mkv").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_clip(content)) == len(bright)
    quiet, cuts = 0, range(len(content) // 3, len(content) * 2 // 3, len(content) // 60)
    for cut in cuts:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert 0 < len(read_clip(content[:cut])) < len(bright)
        assert caught
        quiet += "s it names, cut off" in str(caught[0].message)
    assert quiet


def test_wrong_bytes_never_make_dark_frames(bright):
    """The video is bright throughout: a frame that FFmpeg invents would be grey or black."""
    content = h264(bright)
    refused = 0
    for seed in range(40):
        draw = random.Random(seed)
        spoilt = bytearray(content)
        for _ in range(4):
            spoilt[draw.randrange(1500, len(spoilt))] = draw.randrange(256)
        for sampler in (None, Uniform(5)):
            try:
                clip = read_again(lambda c, s=sampler: read_clip(c, sampler=s), bytes(spoilt))
            except VideoError:
                refused += 1
                continue
            assert float(clip.frames.float().mean((1, 2, 3)).min()) > 110
    assert refused < 40  # and it is not that all is refused


def test_stream_that_begins_between_key_frames(bright):
    """What a recorder catches midway: frames from the first key frame on."""
    content = h264(bright, "mpegts", bf="0")
    clip = read_again(read_clip, content[188 * 20 :])
    assert 10 <= len(clip) < 40 and clip.timestamps[0] == 0
    first = min(range(40), key=lambda i: (clip.frames[0].int() - bright[i].int()).abs().sum())
    assert first > 0
    check_frames(Clip(clip.frames, clip.timestamps + first / 25), bright)


def test_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("libmp3lame", rate=44100)
        cover = out.add_stream("png", rate=1)
        cover.height = cover.width = 16
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        out.mux(cover.encode(frame))
        out.mux(cover.encode())
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), "fltp", "mono")
        tone.sample_rate = 44100
        out.mux(sound.encode(tone))
        out.mux(sound.encode())
    with pytest.raises(VideoError, match="holds audio only"):
        read_clip(path)


def test_damage_at_the_start_is_left_out(bright):
    content = bytearray(h264(bright, bf="0"))
    start = content.index(b"mdat") + 900  # past x264's own note, in the first picture
    content[start : start + 400] = bytes(400)
    for sampler in (None, Uniform(30)):
        with pytest.warns(VideoWarning, match="left out .* damaged frames at the start") as caught:
            clip = read_clip(bytes(content), sampler=sampler)
        assert len(clip) == 30 and clip.timestamps[0] == 0  # from the next key frame on
        check_frames(Clip(clip.frames, clip.timestamps + 10 / 25), bright)
    assert caught
