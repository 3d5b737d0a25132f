"""Reading: true times, upright pictures and any format, whole, sampled or streamed."""

import io

import av
import numpy as np
import pytest
import torch
from PIL import Image

from data.clip import Clip
from data.errors import VideoError, VideoWarning
from data.reading import iterate_frames, probe, read_clip, read_times
from data.sampling import EveryNth, TargetFps, Uniform, Window
from data.writing import write_video

# Four corners of four colours, so that a turn or a flip shows.
CORNERS = torch.tensor([[[250, 10, 10], [10, 250, 10]], [[10, 10, 250], [200, 200, 200]]])


def corners(num_frames=3, height=16, width=24):
    image = CORNERS.permute(2, 0, 1).float()[None]
    image = torch.nn.functional.interpolate(image, (height, width), mode="nearest")
    return image.to(torch.uint8).repeat(num_frames, 1, 1, 1)


def read_corners(clip, frame=0):
    """Red, green, blue, white or k (black) in the four corners, row by row."""
    height, width = clip.height, clip.width
    names = ""
    for y in (height // 4, height * 3 // 4):
        for x in (width // 4, width * 3 // 4):
            lit = tuple((clip.frames[frame, :, y, x] > 128).tolist())
            names += {(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (1, 1, 1): "w"}.get(lit, "k")
    return names


def encode(path, images, codec, pixels, fps=10, times=None, container=None, **options):
    """Write rgb or rgba images (H, W, C) by FFmpeg as it comes."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], pixels
        for number, image in enumerate(images):
            kind = {3: "rgb24", 4: "rgba"}[image.shape[2]]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=kind)
            if times:
                frame.pts = times[number]
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def images(frames):
    return list(frames.permute(0, 2, 3, 1).numpy())


FORMATS = [
    ("a.mp4", "libx264", "yuv420p"),
    ("a.mp4", "libx264", "yuv420p10le"),
    ("a.mov", "prores_ks", "yuv422p10le"),
    ("a.mp4", "libx265", "yuv444p"),
    ("a.mkv", "libsvtav1", "yuv420p10le"),
    ("a.webm", "libvpx", "yuv420p"),
    ("a.avi", "mpeg4", "yuv420p"),
    ("a.avi", "mjpeg", "yuvj444p"),
    ("a.ts", "mpeg2video", "yuv420p"),
    ("a.nut", "rawvideo", "rgb555le"),
    ("a.y4m", "wrapped_avframe", "yuv420p"),
    ("a.mkv", "ffv1", "gbrp16le"),
    ("a.flv", "flv1", "yuv420p"),
]


@pytest.mark.parametrize("name, codec, pixels", FORMATS)
def test_what_ffmpeg_reads(tmp_path, name, codec, pixels):
    extra = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    height, width = (64, 64) if codec in ("libsvtav1", "mpeg2video") else (16, 24)
    rate = 25 if codec == "mpeg2video" else 10
    path = encode(tmp_path / name, images(corners(7, height, width)), codec, pixels, rate, **extra)
    clip = read_clip(path)
    assert clip.frames.shape == (7, 3, height, width)
    assert clip.timestamps.tolist() == pytest.approx([i / rate for i in range(7)], abs=1e-3)
    assert read_corners(clip) == read_corners(clip, 6) == "rgbw"
    info = probe(path)
    assert (info.height, info.width, info.num_frames) == (height, width, 7)
    assert info.fps == pytest.approx(rate, abs=0.1) and not info.has_audio


def test_grey_and_alpha(tmp_path):
    grey = encode(tmp_path / "grey.mkv", images(corners()), "ffv1", "gray")
    clip = read_clip(grey)
    assert (clip.frames[:, 0] == clip.frames[:, 1]).all() and len(clip.frames.unique()) == 4
    rgba = np.concatenate([images(corners(1))[0], np.full((16, 24, 1), 255, np.uint8)], axis=2)
    rgba[:8, :12, 3] = 0  # red is there but does not show
    rgba[8:, 12:, 3] = 128  # white shows half
    for name, codec, pixels in (("a.mov", "qtrle", "argb"), ("a.png", "png", "rgba")):
        path = encode(tmp_path / name, [rgba] if name == "a.png" else [rgba] * 2, codec, pixels)
        clip = read_clip(path)
        assert read_corners(clip) == "kgbk" and clip.frames[0, :, 0, 0].tolist() == [0, 0, 0]
        assert clip.frames[0, :, -1, -1].tolist() == pytest.approx([100, 100, 100], abs=1)


def turned(path, matrix):
    """The mp4 with another display matrix in its track header."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (round(value * 65536) for value in matrix)
    values = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    content[place : place + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in values)
    return bytes(content)


@pytest.mark.parametrize(
    "matrix, shown",
    [
        ((1, 0, 0, 1), "rgbw"),
        ((0, 1, -1, 0), "brwg"),  # a quarter turn clockwise
        ((-1, 0, 0, -1), "wbgr"),
        ((0, -1, 1, 0), "gwrb"),  # a quarter turn the other way
        ((-1, 0, 0, 1), "grwb"),  # mirrored
        ((1, 0, 0, -1), "bwrg"),  # upside down
        ((0, 1, 1, 0), "rbgw"),  # transposed
    ],
)
def test_rotation_is_applied(tmp_path, matrix, shown):
    content = turned(write_video(corners(), tmp_path / "a.mp4", 10), matrix)
    clip = read_clip(content)
    assert clip.frames.shape[2:] == ((24, 16) if matrix[0] == 0 else (16, 24))
    assert read_corners(clip) == read_corners(clip, 2) == shown
    assert read_corners(read_clip(content, height=10, width=10, fit="stretch")) == shown
    info = probe(content)
    assert (info.height, info.width) == (clip.height, clip.width)


def test_tagged_colour_matrix_is_used(tmp_path):
    frame = av.VideoFrame.from_ndarray(images(corners(1))[0], format="rgb24")
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=1)
        stream.height, stream.width, stream.pix_fmt = 16, 24, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1  # BT.709
        converted = frame.reformat(
            format="yuv444p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        out.mux(stream.encode(converted))
        out.mux(stream.encode())
    assert int((read_clip(path).frames.int() - corners(1).int()).abs().max()) <= 3


def test_variable_frame_rate_and_late_start(tmp_path):
    times = [0.0, 0.033, 0.2, 0.5, 1.4, 1.5]
    clip = Clip(corners(6), torch.tensor(times, dtype=torch.float64))
    path = write_video(clip, tmp_path / "a.mkv")
    assert read_times(path).tolist() == times
    assert read_clip(path, sampler=TargetFps(2)).timestamps.tolist() == [0.0, 0.5, 1.4, 1.5]
    ticks = [500, 510, 540, 600]
    late = encode(tmp_path / "b.mp4", images(corners(4)), "libx264", "yuv420p", 100, ticks)
    assert read_clip(late).timestamps.tolist() == pytest.approx([0, 0.1, 0.4, 1.0])


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """300 frames whose brightness tells their number, a key frame every 30, B-frames between."""
    path = tmp_path_factory.mktemp("long") / "a.mp4"
    frames = torch.arange(300).view(-1, 1, 1, 1).mul(2).remainder(250).expand(-1, 3, 16, 16)
    frames = images(frames.to(torch.uint8))
    return encode(path, frames, "libx264", "yuv444p", 30, crf="10", g="30", bf="3")


@pytest.mark.parametrize(
    "sampler", [Uniform(5), EveryNth(40), TargetFps(1.3), Window(7, 6.21), Window(3, 0.5, 60), None]
)
@pytest.mark.parametrize("span", [(None, None), (3.0, 8.05)])
def test_sampled_is_whole_then_chosen(long_video, sampler, span):
    """Seeking and skipping give the very frames and times that reading everything gives."""
    whole = read_clip(long_video)
    start, end = span
    inside = torch.arange(90, 242) if start else torch.arange(300)
    picks = inside if sampler is None else inside[sampler.select(whole.timestamps[inside])]
    part = read_clip(long_video, sampler=sampler, start=start, end=end)
    assert torch.allclose(part.timestamps, picks.double() / 30)
    assert (part.timestamps == whole.timestamps[picks]).all()
    assert (part.frames == whole.frames[picks]).all()


def test_iterate_holds_one_frame_at_a_time(long_video):
    whole = read_clip(long_video, height=4, width=6)
    for number, (image, time) in enumerate(iterate_frames(long_video, height=4, width=6)):
        assert time == whole.timestamps[number]
        assert (image == whole.frames[number].permute(1, 2, 0).numpy()).all()
    assert number == 299


def test_sources_other_than_paths(long_video, tmp_path):
    content = long_video.read_bytes()
    want = read_clip(long_video, sampler=Uniform(3))

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    with open(long_video, "rb") as file:
        for source in (content, io.BytesIO(content), file, Pipe(content), str(long_video)):
            assert (read_clip(source, sampler=Uniform(3)).frames == want.frames).all()
    odd = tmp_path / "a:b %03d.mp4"
    odd.write_bytes(content)
    assert len(read_clip(odd, end=0.1)) == 3


def test_sizes():
    frames = corners(1, 20, 40)
    buffer = io.BytesIO()
    Image.fromarray(images(frames)[0]).save(buffer, "PNG")
    for source in (buffer.getvalue(), None):
        source = source or _mkv(frames)
        for asked, size in (
            ({}, (20, 40)),
            ({"height": 10}, (10, 20)),
            ({"width": 10}, (5, 10)),
            ({"height": 8, "width": 8}, (8, 8)),
            ({"height": 30, "width": 70}, (30, 70)),
            ({"height": 8, "width": 9, "fit": "stretch"}, (8, 9)),
        ):
            clip = read_clip(source, **asked)
            assert clip.frames.shape[2:] == size
            assert read_corners(clip) == "rgbw"  # cropped at the centre, never shifted
        with pytest.raises(ValueError, match="height=0"):
            read_clip(source, height=0)
        with pytest.raises(ValueError, match="fit='fill'"):
            read_clip(source, height=3, width=2, fit="fill")  # pyright: ignore


def _mkv(frames):
    buffer = io.BytesIO()
    encode_to = av.open(buffer, "w", format="matroska")
    with encode_to as out:
        stream = out.add_stream("ffv1", rate=1)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[2:], "bgr0"
        for image in images(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode())
    return buffer.getvalue()


def test_downscaling_keeps_the_chroma():
    """swscale's fast path throws half the chroma away: 24 dB on a picture like this one."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 9, 9, generator=draw)
    fine = torch.nn.functional.interpolate(coarse, (96, 96), mode="bicubic").clamp(0, 1) * 255
    frame = av.VideoFrame.from_ndarray(images(fine.to(torch.uint8))[0], format="rgb24")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("ffv1", rate=1)
        stream.height, stream.width, stream.pix_fmt = 96, 96, "yuv420p"
        out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode())
    small = read_clip(buffer.getvalue(), height=32, width=32).frames.float()
    error = ((small - torch.nn.functional.avg_pool2d(fine, 3)) ** 2).mean()
    assert float(10 * torch.log10(255**2 / error)) > 33


def test_stills_animations_and_folders(tmp_path):
    frames = corners(12)
    for number, image in enumerate(images(frames)):
        Image.fromarray(image).save(tmp_path / f"shot{number}.png")
        frames[number, :, 0, 0] = number
        Image.fromarray(images(frames)[number]).save(tmp_path / f"shot{number}.png")
    clip = read_clip(tmp_path, image_fps=4)
    assert (clip.frames == frames).all()  # 2 before 10
    assert clip.timestamps.tolist() == [i / 4 for i in range(12)]
    assert len(read_clip(tmp_path, sampler=TargetFps(2), start=0.5)) == 2  # 4 to 11 at 8 a second
    assert probe(tmp_path).fps == 8
    Image.fromarray(images(corners(1, 32, 32))[0]).save(tmp_path / "shot99.png")
    with pytest.warns(VideoWarning, match=r"shot99.png: 32x32 pixels, the first image is 16x24"):
        assert read_clip(tmp_path).frames.shape == (13, 3, 16, 24)
    pictures = [Image.fromarray(image) for image in images(corners(1)) + images(corners(1).flip(3))]
    for kind in ("WEBP", "PNG", "GIF"):
        buffer = io.BytesIO()
        pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:], duration=250)
        clip = read_clip(buffer.getvalue())
        assert clip.timestamps.tolist() == [0, 0.25]
        assert read_corners(clip) == "rgbw" and read_corners(clip, 1) == "grwb"
        assert read_corners(read_clip(buffer.getvalue(), start=0.2)) == "grwb"
    for kind in ("JPEG", "WEBP", "BMP", "TIFF", "PPM"):
        buffer = io.BytesIO()
        pictures[0].save(buffer, kind)
        assert read_corners(read_clip(buffer.getvalue())) == "rgbw"
        assert probe(buffer.getvalue()).num_frames == 1


def test_image_orientation_and_depth(tmp_path):
    picture = Image.fromarray(images(corners(1))[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    clip = read_clip(tmp_path / "a.jpg")
    assert clip.frames.shape[2:] == (24, 16) and read_corners(clip) == "brwg"
    deep = np.full((4, 4), 40000, np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_clip(tmp_path / "deep.png").frames.unique().tolist() == [156]
    picture.quantize(4).save(tmp_path / "few.png")
    assert read_corners(read_clip(tmp_path / "few.png")) == "rgbw"


def test_size_changes_and_clock_resets_midway(tmp_path):
    def part(height, width):
        frames = images(corners(5, height, width))
        path = tmp_path / f"{height}.ts"
        return encode(path, frames, "libx264", "yuv420p", 10, bf="0").read_bytes()

    joined = part(32, 48) + part(64, 96)
    clip = read_clip(joined)
    assert clip.frames.shape == (10, 3, 32, 48)
    assert read_corners(clip, 9) == "rgbw"
    assert float(clip.timestamps.diff().min()) > 0.05


def test_repeated_times_are_left_out(monkeypatch, long_video):
    import data.decoding as decoding

    ticks = iter([0, 512, 512, 300, 1024])

    def frames(container, stream, file):
        for _ in range(5):
            frame = av.VideoFrame(16, 16, "rgb24")
            frame.pts, frame.time_base = next(ticks), stream.time_base
            yield frame

    monkeypatch.setattr(decoding, "_good_frames", frames)
    with pytest.warns(VideoWarning, match="left out 2 frames whose times repeat or go back"):
        clip = read_clip(long_video)
    assert clip.timestamps.tolist() == pytest.approx([0, 1 / 30, 2 / 30])


def test_too_much_is_refused_with_a_remedy(long_video, tmp_path):
    for limits in ({"max_frames": 100}, {"max_pixels": 16 * 16 * 100}):
        value = next(iter(limits.values()))
        with pytest.raises(VideoError, match=rf"{value}.*give a sampler \(e.g. uniform:64\)"):
            read_clip(long_video, **limits)
        assert len(read_clip(long_video, sampler=Uniform(100), **limits)) == 100
    with pytest.raises(VideoError, match="101 frames, over max_frames=100"):
        read_clip(long_video, sampler=Uniform(101), max_frames=100)
    with pytest.raises(VideoError, match="pictures of 16x16, more than max_pixels=200"):
        read_clip(long_video, sampler=Uniform(1), height=2, width=2, max_pixels=200)
    image = tmp_path / "a.png"
    Image.new("RGB", (200, 100)).save(image)
    for path in (long_video, image):
        with pytest.raises(ValueError, match="height=100000.*ask for a smaller picture"):
            read_clip(path, sampler=Uniform(1), height=100_000, width=100_000)
    with pytest.raises(VideoError, match="pictures of 100x200, more than max_pixels=500"):
        read_clip(image, height=2, width=2, max_pixels=500)


def test_times_outside(long_video):
    with pytest.raises(VideoError, match="no frame from 11.0 s to 12.0 s, its last is at 9.967 s"):
        read_clip(long_video, start=11.0, end=12.0)
    with pytest.raises(ValueError, match="start must come before end"):
        read_clip(long_video, start=2.0, end=2.0)
