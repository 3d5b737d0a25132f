"""The codec's commands on real files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from data.clip import Clip
from data.reading import read_clip
from data.shards import ShardWriter
from data.writing import write_video
from kinolex import main
from tokenizer.codec import Codec
from tokenizer.commands import evaluate, shards
from tokenizer.file_commands import decode, info, prior
from tokenizer.file_encoding import encode
from tokenizer.files import load_tokens
from tokenizer.priors import StaticPrior


@pytest.fixture
def model(codec: Codec, tmp_path: Path) -> Path:
    codec.save(tmp_path / "model" / "codec")
    return tmp_path / "model"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    frames = torch.randint(0, 256, (10, 3, 18, 25), dtype=torch.uint8)
    times = torch.tensor([0, 0.1, 0.3, 0.35, 0.5, 0.6, 0.7, 0.8, 1.5, 1.6], dtype=torch.float64)
    return write_video(Clip(frames, times), tmp_path / "clip.mkv")


def test_a_file_through_tokens_and_back(model: Path, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "clip.kvt"
    (result,) = encode([video], model, out, tokens_per_frame=1.5)
    assert (result.num_frames, result.height, result.width) == (10, 18, 25)
    assert result.num_tokens == 18 and result.file_bytes == out.stat().st_size
    tokens, clip = load_tokens(out), read_clip(video)
    whole = Codec.load(model / "codec").encode(clip, 1.5)
    assert all(map(torch.equal, tokens.codes, whole.codes))  # streamed = whole
    assert torch.equal(tokens.timestamps, clip.timestamps)
    back = decode(out, tmp_path / "back.mkv", model)
    assert (back.num_frames, back.num_tokens) == (10, 18)
    again = read_clip(tmp_path / "back.mkv")
    assert torch.equal(again.frames, Codec.load(model / "codec").decode(tokens).frames)
    assert torch.allclose(again.timestamps, clip.timestamps, atol=1e-3)


def test_codes_under_a_prior(
    model: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards("scenes:easy", model, tmp_path / "s", num_clips=3, num_frames=5, height=18, width=25)
    table, file = tmp_path / "p.safetensors", tmp_path / "a.kvt"
    assert main(["tokenizer", "prior", str(tmp_path / "s"), "--out", str(table), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    known = StaticPrior.load(table)
    assert (told["num_clips"], told["name"]) == (3, known.name)
    assert told["coded_bits_per_token"] < told["nominal_bits_per_token"]
    words = ["--model", str(model), "--out", str(file), "--coding"]
    with pytest.raises(ValueError, match="give --prior F"):
        encode([video], model, file, coding="static")
    whole = Codec.load(model / "codec").encode(read_clip(video))
    for coding, more in (("packed", []), ("adaptive", []), ("static", ["--prior", str(table)])):
        assert main(["encode", str(video), *words, coding, *more, "--json"]) == 0
        (made,) = json.loads(capsys.readouterr().out)
        assert made["coding"] == coding
        assert (made["coded_bits_per_pixel"] is None) == (coding == "packed")
        tokens = load_tokens(file, known if coding == "static" else None)
        assert all(map(torch.equal, tokens.codes, whole.codes))
    assert main(["info", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["prior"] == known.name and told["codec_id"] == whole.codec_id
    assert told["tokens_per_block"] == [len(codes) for codes in whole.codes]
    assert (told["num_frames"], told["file_bytes"]) == (10, file.stat().st_size)
    assert told["duration"] == pytest.approx(whole.duration)
    assert told["nominal"]["per_pixel"] == pytest.approx(whole.bits_per_pixel)
    assert main(["info", str(file)]) == 0
    assert f"static under {known.name}" in capsys.readouterr().out
    with pytest.raises(ValueError, match=f"coded under the prior {known.name}: give its file"):
        decode(file, tmp_path / "back.mkv", model)
    assert decode(file, tmp_path / "back.mkv", model, table).num_tokens == whole.num_tokens
    for call in (
        lambda: encode([video], model, tmp_path / "b.kvt", coding="adaptive", prior=table),
        lambda: decode(tmp_path / "b.kvt", tmp_path / "back.mkv", model, table),
    ):
        with pytest.warns(UserWarning, match="has no effect: .* adaptive"):
            call()


def test_the_wrong_codec_is_refused_by_name(model: Path, video: Path, tmp_path: Path) -> None:
    encode([video], model, tmp_path / "a.kvt")
    other = Codec.load(model / "codec")
    torch.nn.init.zeros_(next(other.parameters()))
    other.save(tmp_path / "other")
    names = f"{info(tmp_path / 'a.kvt').codec_id}, which {other.codec_id} in .*other cannot decode"
    with pytest.raises(ValueError, match=names):
        decode(tmp_path / "a.kvt", tmp_path / "a.mkv", tmp_path / "other")
    assert not (tmp_path / "a.mkv").exists()


def test_a_prior_needs_shards_that_say_where_tokens_stand(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "s", {"kind": "video-tokens"}):
        pass
    with pytest.raises(ValueError, match="do not say where tokens stand"):
        prior(tmp_path / "s", tmp_path / "p")
    with pytest.raises(FileNotFoundError, match="give a folder of token shards"):
        prior(tmp_path / "none", tmp_path / "p")


def test_a_file_at_a_target_is_coded_as_the_whole_clip(
    model: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec, clip, out = Codec.load(model / "codec"), read_clip(video), tmp_path / "clip.kvt"
    words = ["encode", str(video), "--model", str(model), "--out", str(out), "--json"]
    for option, target in (
        (["--bits-per-pixel=0.03"], {"bits_per_pixel": 0.03}),
        (["--psnr=5"], {"psnr": 5.0}),
        (["--budget=20"], {"budget": 20}),
        (["--rate=auto"], {"rate": "auto"}),
    ):
        assert main([*words, *option]) == 0
        (shown,) = json.loads(capsys.readouterr().out)
        choice = codec.choose_rate(clip, **target)
        assert all(map(torch.equal, load_tokens(out).codes, choice.tokens.codes))
        exact = None if choice.psnr is None else choice.exact
        assert (shown["psnr"], shown["psnr_exact"]) == (choice.psnr, exact)
    assert main([*words, "--rate=auto", "--psnr=5"]) == 2
    error = capsys.readouterr().err
    assert "rate and psnr: give one of them" in error and error.count("\n") == 1


def test_many_files_and_another_size(model: Path, video: Path, tmp_path: Path) -> None:
    other = write_video(read_clip(video), tmp_path / "other.gif")
    results = encode([video, other], model, tmp_path / "tokens", height=9, width=9)
    assert [Path(r.out).name for r in results] == ["clip.kvt", "other.kvt"]
    assert all(load_tokens(r.out).height == 9 for r in results)


def test_one_bad_file_does_not_keep_others_from_being_coded(
    model: Path, video: Path, tmp_path: Path
) -> None:
    bad, last = tmp_path / "bad.mp4", write_video(read_clip(video), tmp_path / "last.mkv")
    bad.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"1 of 3 inputs were not encoded: .*bad.mp4: cannot"):
        encode([video, bad, last], model, tmp_path / "b")
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["clip.kvt", "last.kvt"]


def test_an_input_is_never_written_over(model: Path, video: Path, tmp_path: Path) -> None:
    whole, named = video.read_bytes(), video.rename(tmp_path / "clip.kvt")
    with pytest.raises(ValueError, match="clip.kvt is an input itself: give another name"):
        encode([named], model, named)
    tokens = tmp_path / "tokens.mkv"
    encode([named], model, tmp_path / "t.kvt")
    tokens.symlink_to(tmp_path / "t.kvt")
    with pytest.raises(ValueError, match="tokens.mkv is the token file itself"):
        decode(tmp_path / "t.kvt", tokens, model)
    assert named.read_bytes() == whole


def test_mistakes_are_named(model: Path, video: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is one file for 2 inputs"):
        encode([video, video], model, tmp_path / "a.kvt")
    with pytest.raises(ValueError, match="two inputs would both become"):
        encode([video, video], model, tmp_path / "a")
    with pytest.raises(ValueError, match="give a .kvt file or a folder"):
        encode([video], model, video)
    with pytest.raises(ValueError, match="not written to standard output: give a .kvt file"):
        encode([video], model, Path("-"))
    with pytest.raises(ValueError, match="no inputs"):
        encode([], model, tmp_path / "a")
    with pytest.raises(ValueError, match=r"tokens_per_frame=50: .* 0.25 to 6 .* 18x25"):
        encode([video], model, tmp_path / "a.kvt", tokens_per_frame=50)
    with pytest.raises(ValueError, match=r"psnr=20.0 and budget=9: give one of them"):
        encode([video], model, tmp_path / "a.kvt", psnr=20.0, budget=9)
    with pytest.raises(ValueError, match=r"budget=2: this codec serves 3 to 72 tokens .* 18x25"):
        encode([video], model, tmp_path / "a.kvt", budget=2)
    with pytest.raises(ValueError, match=r"psnr=90: this codec reaches .* dB at most"):
        encode([video], model, tmp_path / "a.kvt", psnr=90)
    with pytest.raises(FileNotFoundError):
        encode([video, tmp_path / "none.mp4"], model, tmp_path / "b")
    with pytest.raises(ValueError, match="suffix '.avi': give a .kvt file"):
        encode([video], model, tmp_path / "a.avi")
    with pytest.raises(ValueError, match="suffix '.avi'"):  # before the work: no such token file
        decode(tmp_path / "none.kvt", tmp_path / "a.avi", model)
    with pytest.raises(ValueError, match="batch_size=0"):
        shards("scenes:easy", model, tmp_path / "b", num_clips=1, batch_size=0)
    with pytest.raises(ValueError, match="not a codec directory"):
        encode([video], tmp_path, tmp_path / "a.kvt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mkv", "model"]


def test_evaluate_and_shards_of_a_made_world(model: Path, tmp_path: Path) -> None:
    size = {"num_clips": 3, "num_frames": 5, "height": 16, "width": 16}
    targets = {"bits_per_pixel": [0.03], "psnr": [4.0], "budget": [3], "rate": "auto"}
    report = evaluate("scenes:easy", model, [0.5], **targets, **size)
    names = ["full", "0.5", "0.03 b/px", "4 dB", "3 a clip", "auto 50 %"]
    assert report.num_clips == 3 and [str(rate.rate) for rate in report.rates] == names
    done = shards(
        "scenes:easy", model, tmp_path / "s", num_clips=3, num_frames=5, height=16, width=16
    )
    assert done.clips == 3 and done.tokens == 3 * 2 * 8


@pytest.mark.filterwarnings("ignore:.*has no (metadata|splits)")
def test_evaluate_whole_clips_of_a_folder_without_splits(
    model: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = video.parent / "clips"
    folder.mkdir()
    video.rename(folder / "clip.mkv")
    write_video(Clip.from_frames(torch.zeros(3, 3, 7, 7, dtype=torch.uint8), 8), folder / "a.mkv")
    with pytest.warns(UserWarning, match="no splits: all its clips"):
        report = evaluate(str(folder), model, shares=[0.5], by_clip=True)
    assert [Path(clip.source).name for clip in report.clips] == ["a.mkv", "clip.mkv"]
    assert [clip.num_frames for clip in report.clips] == [3, 10]
    words = ["--source", str(folder), "--model", str(model), "--shares", "[0.5]"]
    assert main(["tokenizer", "evaluate", *words, "--by-clip", "true", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["rates"][1]["rate"]["share"] == 0.5 and len(shown["clips"]) == 2
    assert main(["tokenizer", "evaluate", *words[:-1], "[2]"]) == 2
    assert "share=2: give a share" in capsys.readouterr().err
    (folder / "train").mkdir()  # now it has splits, and heldout is none of them
    with pytest.raises(ValueError, match="no split 'heldout'"):
        evaluate(str(folder), model)
