"""The page of a source: whole in itself, true to the source, safe against what clips say."""

import io
import json
import re
from dataclasses import asdict

import pytest
import torch
from PIL import Image

from data.clip import Clip, Question
from data.errors import VideoWarning
from data.folder import write_folder
from data.show import show


def told(number, size):
    draw = torch.Generator().manual_seed(number)
    frames = torch.randint(0, 256, (3, 3, *size), generator=draw, dtype=torch.uint8)
    return Clip.from_frames(
        frames,
        8.0,
        captions=(f"clip <b>{number}</b>", "same for all"),
        questions=(Question("which one?", str(number), "number"),),
        labels={"parity": str(number % 2)},
        truth={"number": number},
    )


@pytest.fixture
def folder(tmp_path):
    clips = [told(i, (8, 10) if i else (16, 400)) for i in range(5)]
    write_folder(clips, tmp_path / "f" / "train", suffix=".mkv")
    return tmp_path / "f"


def test_page_and_figures(folder, tmp_path):
    report = show(str(folder), out=tmp_path / "page", num_clips=3)
    assert (report.clips, report.counted, report.frames) == (5, 5, 15)
    assert report.sizes == {"8x10": 4, "16x400": 1} and report.seconds == 0.375
    assert report.fps_lowest == report.fps_highest == 8.0
    assert (report.captions_per_clip, report.distinct_captions) == (2.0, 6)
    assert report.questions == {"number": 5} and report.questions_per_clip == 1.0
    assert report.labels == {"parity": {"0": 3, "1": 2}} and report.skipped == []
    assert json.loads(json.dumps(asdict(report)))["page"] == report.page
    page = (tmp_path / "page" / "index.html").read_text()
    gifs = sorted((tmp_path / "page").glob("*.gif"))
    assert [gif.name for gif in gifs] == [f"clip-00000{i}.gif" for i in (0, 2, 4)]
    assert page.count("data:image/gif;base64,") == page.count("<article>") == 3
    assert not re.findall(r'(?:src|href)="(?!data:)', page)  # nothing from elsewhere
    assert "clip &lt;b&gt;2&lt;/b&gt;" in page and "<b>2</b>" in page  # said, and answered
    sizes = [Image.open(io.BytesIO(gif.read_bytes())).size for gif in gifs]
    assert sizes == [(320, 12), (120, 96), (120, 96)]  # large ones smaller, small ones larger


def test_left_out_clips_are_listed(folder, tmp_path):
    (folder / "train" / "clip-000001.mkv").write_bytes(b"")
    with pytest.warns(VideoWarning, match="left out 1 of 5"):
        report = show(str(folder), out=tmp_path / "page")
    assert report.clips == 4 and [lost.path for lost in report.skipped] == ["clip-000001.mkv"]
    assert "is empty (0 bytes)" in (tmp_path / "page" / "index.html").read_text()
    with pytest.raises(ValueError, match="is empty"):
        show(str(folder), out=tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_a_made_world(tmp_path):
    report = show("scenes:easy", out=tmp_path, num_clips=2, num_counted=3, split="heldout")
    assert report.counted == 3 and report.distinct_captions > 3
    with pytest.raises(ValueError, match="num_clips=0"):
        show("scenes:easy", out=tmp_path, num_clips=0)
    with pytest.raises(FileNotFoundError, match="no source 'scene:easy'"):
        show("scene:easy", out=tmp_path)
