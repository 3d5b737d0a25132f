"""Continuing: what is there stays, what follows depends on its end alone, bad asks are told."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.clip import Clip
from data.reading import read_clip
from kinolex import main
from lm.drawing import Sampling
from lm.filming import film, plan_shot
from lm.framing import Framing
from lm.tasks import Model


@pytest.mark.filterwarnings("ignore:.*may drift")
@pytest.mark.parametrize("seconds", [0.25, 0.5, 3.0])
def test_what_is_there_stays_and_the_length_is_kept(
    model: Model, clips: list[Clip], seconds: float
) -> None:
    clip = clips[0]  # 4 frames at 4 a second: two blocks
    longer = model.continue_video(clip, seconds, seed=3)
    assert len(longer) == 4 + seconds * 4 and longer.fps == clip.fps
    assert torch.equal(longer.frames[:4], clip.frames)
    assert torch.equal(longer.frames, model.continue_video(clip, seconds, seed=3).frames)
    assert longer.captions == ()


def test_only_the_last_blocks_are_read(model: Model, clips: list[Clip]) -> None:
    first = torch.cat([clips[0].frames, clips[2].frames])
    other = torch.cat([clips[1].frames, clips[2].frames])
    made = [model.continue_video(Clip.from_frames(x, 4), 0.5).frames[8:] for x in (first, other)]
    assert torch.equal(*made)
    odd = Clip.from_frames(other[1:], 4)  # 7 frames: still the last whole block
    assert torch.equal(model.continue_video(odd, 0.5).frames[7:], made[0])
    begun = model.codec.encode(Clip.from_frames(other[-2:], 4))
    shot = plan_shot(model.vocabulary, model.framing)
    whole = film(
        model.decoder, model.grammar, [None], [0], shot, Sampling(guidance=2.0), begun=[begun]
    )
    assert torch.equal(whole[0].codes[0], begun.codes[0])
    assert torch.equal(model.codec.decode(whole[0]).frames[2:], made[0])


def test_size_and_rate_become_the_models(model: Model) -> None:
    frames = torch.randint(0, 256, (17, 3, 32, 32), dtype=torch.uint8)
    longer = model.continue_video(Clip.from_frames(frames, 8), 0.5, "a red ball")
    assert (longer.height, longer.width, longer.fps) == (16, 24, 4)
    assert len(longer) == 9 + 2 and longer.captions == ("a red ball",)
    steps = longer.timestamps.diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 0.25))


def test_bad_asks(model: Model, clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="at least one block, 2 frames"):
        model.continue_video(clips[0].at(torch.tensor([0])), 0.5)
    with pytest.raises(ValueError, match="seconds=-1"):
        model.continue_video(clips[0], -1)
    with pytest.raises(ValueError, match="prompt is empty"):
        model.continue_video(clips[0], 0.5, " ")
    short = replace(model.framing.main, num_frames=2, tokens_per_block=(12,))
    monkeypatch.setattr(model, "framing", Framing.of([short]))
    with pytest.raises(ValueError, match="clips of one block"):
        model.continue_video(clips[0], 0.25)


def test_the_command(
    model: Model, clips: list[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from data.writing import write_video

    model.save(tmp_path / "model")
    write_video(clips[0], tmp_path / "a.mkv")
    words = [str(tmp_path / "a.mkv"), "--model", str(tmp_path / "model"), "--seconds", "0.5"]
    out = tmp_path / "b.mkv"
    assert main(["continue", *words, "--out", str(out), "--min-p", "0"]) == 0
    assert len(read_clip(out)) == 6
    assert main(["continue", *words[:-1], "0", "--out", str(out)]) == 2
    assert "seconds=0" in capsys.readouterr().err
    before = (tmp_path / "a.mkv").read_bytes()
    assert main(["continue", *words, "--out", words[0]]) == 2
    assert "is also what is read" in capsys.readouterr().err
    assert (tmp_path / "a.mkv").read_bytes() == before
