"""Films as they are made: the same frames as the whole film's, for any windows, seed and length."""

import os
import signal
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from data.clip import Clip
from data.reading import read_clip
from data.shards import ShardWriter, TokenShards
from kinolex import main
from lm.continuing import continue_stream
from lm.corpus import make_vocabulary
from lm.drawing import Sampling
from lm.filming import plan_shot, shoot
from lm.grammar import Grammar
from lm.learning import code_features, make_decoder
from lm.model import Decoder, Sizes
from lm.rolling import Take, roll
from lm.sampling import Prompt
from lm.tasks import Model
from tokenizer.codec import Codec
from tokenizer.encoding import TokenRecord, write_record

pytestmark = pytest.mark.filterwarnings("ignore:.*may drift")
WAY = Sampling(guidance=2.0)


@pytest.fixture(scope="module")
def threes(tiny_codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of random weights whose windows have three blocks of 2 frames, 4 frames a second."""
    folder, luck = tmp_path_factory.mktemp("threes"), torch.Generator().manual_seed(0)
    with ShardWriter(folder, {"kind": "video-tokens"}) as writer:
        for number in range(4):
            frames = torch.randint(0, 256, (6, 3, 16, 24), dtype=torch.uint8, generator=luck)
            clip = Clip.from_frames(frames, 4, captions=("a red ball",), source=f"clip {number}")
            writer.write(*write_record(TokenRecord.of(tiny_codec.encode(clip), clip)))
    vocabulary = make_vocabulary(TokenShards(folder), tiny_codec.layout, num_pieces=32)
    sizes = Sizes(width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=24, context=96)
    decoder = make_decoder(vocabulary, code_features(tiny_codec.code_vectors()), sizes)
    torch.manual_seed(0)
    for parameter in decoder.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return Model(decoder, vocabulary, tiny_codec)


@pytest.mark.parametrize("overlap", [None, 1, 2])
@pytest.mark.parametrize("seconds", [None, 0.25, 1.5, 1.75, 4.25])
def test_streamed_frames_are_those_of_the_whole(
    threes: Model, seconds: float | None, overlap: int | None
) -> None:
    whole = threes.generate_batch(["a red ball"], seconds, [7], WAY, overlap=overlap)[0]
    take = threes.generate_stream("a red ball", seconds, 7, WAY, overlap=overlap)
    parts = list(take)
    assert torch.equal(torch.cat([part.frames for part in parts]), whole.frames)
    times = torch.cat([part.timestamps for part in parts])
    assert torch.equal(times, whole.timestamps) and torch.equal(times, take.timestamps)
    assert len(whole) == round(4 * (seconds or 1.5))
    assert {part.captions for part in parts} == {("a red ball",)} == {whole.captions}
    new = 2 * (3 - (overlap or 1))  # frames that each further window adds
    lengths = [len(part) for part in parts]
    assert lengths[0] == min(6, len(whole)) and all(n == new for n in lengths[1:-1])


def test_streamed_as_generate_draws_by_default(threes: Model) -> None:
    frames = [part.frames for part in threes.generate_stream("a red ball", 2.5, 7)]
    assert torch.equal(torch.cat(frames), threes.generate("a red ball", 2.5, 7).frames)


@pytest.mark.parametrize("overlap", [1, 2])
def test_a_film_begins_with_every_shorter_one(threes: Model, overlap: int) -> None:
    long = threes.generate("a red ball", 5, seed=3, overlap=overlap)
    for seconds in (0.75, 1.5, 2.0, 3.25):
        short = threes.generate("a red ball", seconds, seed=3, overlap=overlap)
        assert torch.equal(long.frames[: len(short)], short.frames)
    other = threes.generate("a red ball", 5, seed=4, overlap=overlap)
    assert not torch.equal(other.frames, long.frames)


def test_windows_begin_with_as_many_blocks_as_asked(
    threes: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lm.filming as filming

    prompts: list[list[int]] = []
    draw = filming.continue_streams

    def watched(decoder: Decoder, grammar: Grammar, starts: list[Prompt], **rest: Any) -> Any:
        prompts.extend(start.ids for start in starts)
        return draw(decoder, grammar, starts, **rest)

    monkeypatch.setattr(filming, "continue_streams", watched)
    for overlap in (1, 2):
        prompts.clear()
        (film,) = threes.generate_batch([None], 3.0, [1], overlap=overlap)
        codes, mark = [], threes.vocabulary.special("<block>")
        shot = plan_shot(threes.vocabulary, threes.framing, 3.0, overlap=overlap)
        windows = shoot(threes.decoder, threes.grammar, [None], [1], shot, WAY)
        begins = [prompt.count(mark) - 1 for prompt in prompts]
        assert begins == [0] + [overlap] * (len(begins) - 1) and len(begins) > 1
        for prompt, (window,) in zip(list(prompts), windows, strict=True):
            shown = torch.cat(codes[-overlap:]) if codes else torch.tensor([], dtype=torch.int64)
            at = prompt.index(mark)
            told = [i - threes.vocabulary.video_start for i in prompt[at:] if i != mark]
            assert sorted(told) == sorted(shown.tolist())
            codes += window.codes
        assert len(film) == 2 * len(codes)


def test_a_take_makes_windows_only_when_asked(
    threes: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lm.filming as filming

    made: list[int] = []
    draw = filming.continue_streams
    monkeypatch.setattr(
        filming, "continue_streams", lambda *a, **k: made.append(1) or draw(*a, **k)
    )
    take = threes.generate_stream("a red ball", 100_000)  # 400,000 frames, more than may be held
    assert not made and len(take.timestamps) == 400_000
    assert len(next(take)) == 6 and len(made) == 1
    assert len(next(take)) == 4 and len(made) == 2
    with pytest.raises(ValueError, match="ask for at most 5000 s"):
        threes.generate("a red ball", 100_000)
    with pytest.raises(ValueError, match="more than 2000000 frames"):
        threes.generate_stream("a red ball", 1e9)


@pytest.mark.parametrize("overlap", [None, 1, 2])
def test_continuing_streams_what_the_whole_codes_decode_to(
    threes: Model, overlap: int | None
) -> None:
    from lm.filming import film

    frames = torch.randint(0, 256, (6, 3, 16, 24), dtype=torch.uint8)
    clip = Clip.from_frames(frames, 4)
    parts = list(continue_stream(threes, clip, 2.75, "a red ball", 5, WAY, overlap))
    assert torch.equal(parts[0].frames, clip.frames)
    keep = overlap or 1
    begun = threes.codec.encode(Clip.from_frames(frames[-2 * keep :], 4))
    shot = plan_shot(threes.vocabulary, threes.framing, keep / 2 + 2.75, overlap=overlap)
    made = film(threes.decoder, threes.grammar, ["a red ball"], [5], shot, WAY, begun=[begun])
    expected = threes.codec.decode(made[0]).frames[2 * keep :][:11]
    assert torch.equal(torch.cat([part.frames for part in parts[1:]]), expected)
    whole = threes.continue_video(clip, 2.75, "a red ball", 5, WAY, overlap)
    assert torch.equal(whole.frames, torch.cat([part.frames for part in parts]))
    assert torch.allclose(whole.timestamps, torch.arange(17).double() / 4)


def test_continuing_many_is_continuing_each(threes: Model) -> None:
    """Of clips of one, two and three blocks, of which one or two are read."""
    luck = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 256, (4, 6, 3, 16, 24), dtype=torch.uint8, generator=luck)
    lengths = (6, 2, 5, 3)
    clips = [Clip.from_frames(frames[i, :n], 4) for i, n in enumerate(lengths)]
    prompts, seeds = ["a red ball", None, "it falls", None], [4, 5, 6, 5]
    together = threes.continue_batch(clips, 2.75, prompts, seeds, WAY, 2, negative="blue")
    for i, film in enumerate(together):
        alone = threes.continue_video(clips[i], 2.75, prompts[i], seeds[i], WAY, 2, negative="blue")
        assert torch.equal(film.frames, alone.frames) and len(film) == lengths[i] + 11
        assert torch.equal(film.timestamps, alone.timestamps)
        assert (film.captions, film.source) == (alone.captions, alone.source)
    plain = threes.continue_batch(clips[:2], 0.5)
    assert torch.equal(plain[1].frames, threes.continue_video(clips[1], 0.5, seed=1).frames)
    assert threes.continue_batch([], 0.5) == []
    with pytest.raises(ValueError, match="1 prompts and 2 seeds for 2 videos: give one each"):
        threes.continue_batch(clips[:2], 0.5, ["a"])


def test_bad_overlaps(threes: Model, model: Model) -> None:
    for overlap in (0, 3, -1):
        with pytest.raises(ValueError, match=f"overlap={overlap}: .* share 1 to 2"):
            threes.generate_stream("a red ball", 3, overlap=overlap)
    with pytest.raises(ValueError, match="the prompt is empty"):
        threes.generate_stream(" ")


def test_commands_write_what_python_makes(threes: Model, tmp_path: Path) -> None:
    threes.save(tmp_path / "model")
    words = ["--model", str(tmp_path / "model"), "--seconds", "4.25", "--seed", "2"]
    words += ["--overlap", "2", "--guidance", "1.5"]
    film = threes.generate("a red ball", 4.25, 2, guidance=1.5, overlap=2)
    for name in ("a.mkv", "a.apng"):  # lossless; frames come one by one
        out = tmp_path / name
        assert main(["generate", "a red ball", "--out", str(out), *words]) == 0
        again = read_clip(out)
        assert torch.equal(again.frames, film.frames)
        assert torch.allclose(again.timestamps, film.timestamps, atol=1e-3)
    assert main(["generate", "a red ball", "--out", str(tmp_path / "a.gif"), *words]) == 0
    assert len(read_clip(tmp_path / "a.gif")) == len(film) == 17
    assert main(["generate", "--out", str(tmp_path / "c.mkv"), *words]) == 0  # of anything
    anything = threes.generate(None, 4.25, 2, guidance=1.5, overlap=2)
    assert torch.equal(read_clip(tmp_path / "c.mkv").frames, anything.frames)
    longer = tmp_path / "b.mkv"
    assert main(["continue", str(tmp_path / "a.mkv"), "--out", str(longer), *words]) == 0
    way = Sampling(guidance=1.5)
    expected = threes.continue_video(film, 4.25, None, 2, way, overlap=2)
    assert torch.equal(read_clip(longer).frames, expected.frames) and len(expected) == 34


def test_of_windows_only_the_last_is_held(threes: Model) -> None:
    shot = plan_shot(threes.vocabulary, threes.framing, 10.0)
    windows = shoot(threes.decoder, threes.grammar, [None], [0], shot, WAY)
    take = roll(threes.codec, windows, shot.timestamps, (16, 24), None, "")
    held = [weakref.ref(clip) for clip in take]
    assert len(held) == 10 and sum(clip() is not None for clip in held) <= 1
    windows = shoot(threes.decoder, threes.grammar, [None], [0], shot, WAY)
    blocks = [weakref.ref(window.codes[0]) for (window,) in windows]
    assert len(blocks) == 10 and sum(codes() is not None for codes in blocks) <= 1


@pytest.mark.parametrize("made", [0, 2])
def test_a_command_keeps_what_was_made_before_ctrl_c(
    threes: Model,
    tmp_path: Path,
    made: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    threes.save(tmp_path / "m")
    out, whole = tmp_path / "film.mkv", tmp_path / "whole.mkv"
    words = ["generate", "a red ball", "--seconds", "4.5", "--model", str(tmp_path / "m")]
    assert main([*words, "--out", str(whole)]) == main([*words, "--out", str(out)]) == 0
    go_on, windows = Take.__next__, []

    def stopping(take: Take) -> Clip:
        if len(windows) == made:
            os.kill(os.getpid(), signal.SIGINT)
        windows.append(go_on(take))
        return windows[-1]

    capsys.readouterr()
    monkeypatch.setattr(Take, "__next__", stopping)
    assert main([*words, "--out", str(out)]) == 130
    error = capsys.readouterr().err
    if made:  # windows of 6 frames of which the first 2 are those of the one before
        assert f"interrupted; the first 10 of 18 frames (2.5 s) are in {out}" in error
        assert torch.equal(read_clip(out).frames, read_clip(whole).frames[:10])
    else:
        assert f"interrupted; nothing was written to {out}" in error
        assert out.read_bytes() == whole.read_bytes()


def test_ctrl_c_where_all_frames_are_held_says_that_none_is_kept(
    threes: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopping(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    threes.save(tmp_path / "m")
    monkeypatch.setattr(Model, "generate_batch", stopping)
    out = tmp_path / "film.gif"
    assert main(["generate", "x", "--out", str(out), "--model", str(tmp_path / "m")]) == 130
    assert capsys.readouterr().err == f"kinolex: interrupted; nothing was written to {out}\n"
    assert not out.exists()
