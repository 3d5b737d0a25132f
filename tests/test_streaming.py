"""Frames that come one by one end up in the file that the whole clip would have."""

from __future__ import annotations

import io
import itertools
import pickle
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.clip import Clip
from data.reading import iterate_frames, read_clip
from data.writing import write_video
from tokenizer import steps, streaming
from tokenizer.codec import Codec
from tokenizer.file_commands import decode
from tokenizer.file_encoding import encode_file
from tokenizer.file_reading import TokenReader
from tokenizer.files import load_tokens, save_tokens
from tokenizer.priors import AdaptivePrior
from tokenizer.rate import FULL, Rate, RateError
from tokenizer.rate_control import RateStream, Reached
from tokenizer.record_file import UnclosedWarning
from tokenizer.streaming import choose_stream, decode_stream, encode_stream


def camera(
    clip: Clip, alive: list[weakref.ref] | None = None
) -> Iterator[tuple[np.ndarray, float]]:
    for frame, seconds in zip(clip.frames, clip.timestamps.tolist(), strict=True):
        image = np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
        if alive is not None:
            alive.append(weakref.ref(image))
        yield image, seconds


def some_clip(length: int) -> Clip:
    luck = torch.Generator().manual_seed(length)
    frames = torch.randint(0, 256, (length, 3, 9, 17), dtype=torch.uint8, generator=luck)
    return Clip.from_frames(frames, 8)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("rate", [FULL, Rate(0.6), Rate(auto=0.5)], ids=str)
def test_a_stream_makes_the_file_of_the_whole_clip(
    codec: Codec, tmp_path: Path, length: int, rate: Rate
) -> None:
    clip = some_clip(length)
    for prior in (None, AdaptivePrior(codec.codebook_size, codec.layout)):
        encode_stream(codec, camera(clip), tmp_path / "a.kvt", rate, prior)
        save_tokens(codec.encode(clip, rate=rate), tmp_path / "b.kvt", prior)
        assert (tmp_path / "a.kvt").read_bytes() == (tmp_path / "b.kvt").read_bytes()


@pytest.mark.parametrize("length", [1, 4, 9])
@pytest.mark.parametrize("rate", [Rate(psnr=5.0), Rate(budget=7), Rate(auto=0.5)], ids=str)
def test_a_stream_reaches_what_the_whole_clip_does(
    codec: Codec, tmp_path: Path, length: int, rate: Rate
) -> None:
    clip = some_clip(length)
    code = choose_stream if rate.whole_clip else encode_stream
    whole = codec.choose_rate(clip, rate=rate)
    for prior in (None, AdaptivePrior(codec.codebook_size, codec.layout)):
        assert code(codec, camera(clip), tmp_path / "a.kvt", rate, prior) == Reached(
            whole.psnr, whole.exact
        )
        save_tokens(whole.tokens, tmp_path / "b.kvt", prior)
        assert (tmp_path / "a.kvt").read_bytes() == (tmp_path / "b.kvt").read_bytes()


@pytest.mark.parametrize("rate", [Rate(0.5), Rate(auto=0.5)], ids=str)
def test_a_stream_holds_no_more_than_a_block(codec: Codec, tmp_path: Path, rate: Rate) -> None:
    alive: list[weakref.ref] = []

    def watched() -> Iterator[tuple[np.ndarray, float]]:
        for item in camera(some_clip(30), alive):
            yield item
            del item
            assert sum(image() is not None for image in alive) <= codec.block_frames

    encode_stream(codec, watched(), tmp_path / "a.kvt", rate)
    assert len(alive) == 30
    with TokenReader(tmp_path / "a.kvt") as reader:
        assert reader.num_frames == 30


def test_rates_that_look_ahead_hold_codes_in_few_bytes(codec: Codec) -> None:
    """What is held of a block is its codes in two bytes each, and a number for each count."""
    for rate in (Rate(psnr=1.0), Rate(budget=9)):
        stream = RateStream(codec, rate, 64, 64)
        frames = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
        codes = torch.full((codec.slots_per_block(64, 64),), codec.codebook_size - 1)
        assert stream.add(frames, codes) is None and stream.probe is not None
        held = sum(len(pickle.dumps(value)) for value in (stream._codes, stream._curves))
        assert held < 2 * len(codes) + 9 * len(stream.probe.counts) + 300
        (kept,) = stream.settle()
        assert torch.equal(kept, codes[: len(kept)])


@pytest.mark.parametrize("patient", [False, True])
def test_a_stream_that_breaks_off_leaves_its_blocks(
    codec: Codec, tmp_path: Path, patient: bool
) -> None:
    clip, file = some_clip(9), tmp_path / "a.kvt"

    def breaking() -> Iterator[tuple[np.ndarray, float]]:
        yield from camera(clip)
        raise ConnectionError("the camera is gone")

    with pytest.raises(ConnectionError):
        encode_stream(codec, breaking(), file, patient=patient)
    with pytest.warns(UnclosedWarning, match="2 whole blocks"):
        found = load_tokens(file)
    assert all(map(torch.equal, found.codes, codec.encode(clip).codes[:2]))


def test_streams_that_are_none(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 frames"):
        encode_stream(codec, iter(()), tmp_path / "a.kvt")
    with pytest.raises(ValueError, match="0 frames"):
        choose_stream(codec, iter(()), tmp_path / "a.kvt", Rate(budget=9))
    with pytest.raises(ValueError, match="does not wait for the last frame: use encode_stream"):
        choose_stream(codec, camera(some_clip(2)), tmp_path / "a.kvt", FULL)
    with pytest.raises(RateError, match="budget=99: this codec serves 1 to"):
        choose_stream(codec, camera(some_clip(2)), tmp_path / "a.kvt", Rate(budget=99))
    with pytest.raises(ValueError, match="depends on the whole clip"):
        encode_stream(codec, camera(some_clip(2)), tmp_path / "a.kvt", Rate(budget=9))
    with pytest.raises(ValueError, match="this codec serves"):
        encode_stream(codec, camera(some_clip(2)), tmp_path / "a.kvt", Rate(99))
    assert not list(tmp_path.iterdir())
    two = [(np.zeros((9, 17, 3), np.uint8), 0.0), (np.zeros((8, 17, 3), np.uint8), 1.0)]
    with pytest.raises(ValueError, match="a frame of 8x17 after frames of 9x17"):
        encode_stream(codec, two, tmp_path / "a.kvt")


def test_blocks_decoded_as_they_come_are_the_whole_clip(codec: Codec) -> None:
    clip = some_clip(9)
    tokens = codec.encode(clip, share=0.5)
    parts = list(decode_stream(codec, iter(tokens.codes), 9, 17, 9))
    assert [len(part) for part in parts] == [4, 4, 1]
    assert torch.equal(torch.cat(parts), codec.decode(tokens).frames)


@pytest.mark.parametrize(("run", "passes"), [(1, 8), (3, 3), (99, 1)])
def test_decoding_a_file_holds_no_more_than_a_pass(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: int, passes: int
) -> None:
    codec.save(tmp_path / "codec")
    clip, alive = some_clip(30), list[weakref.ref]()
    save_tokens(codec.encode(clip), tmp_path / "a.kvt")

    def watched(*arguments: Any) -> Any:
        pixels, state = steps.decode_blocks(*arguments)
        alive.append(weakref.ref(pixels))
        assert sum(made() is not None for made in alive) <= 2
        return pixels, state

    monkeypatch.setattr(streaming, "decode_blocks", watched)
    monkeypatch.setattr(steps, "PASS_PIXELS", run * codec.block_frames * 9 * 17)
    decode(tmp_path / "a.kvt", tmp_path / "a.mkv", tmp_path / "codec")
    assert len(alive) == passes
    monkeypatch.undo()
    whole = codec.decode(codec.encode(clip)).frames
    assert torch.equal(read_clip(tmp_path / "a.mkv").frames, whole)


def test_frames_that_are_no_pixels_are_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match="float32 with NaN: give uint8"):
        codec.encode(torch.full((4, 3, 8, 8), float("nan")))
    with pytest.raises(ValueError, match="float32: give uint8"):
        codec.encode_step(torch.zeros(1, 4, 3, 8, 8), codec.start())


def test_an_interrupted_encoding_leaves_its_blocks(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, file = some_clip(9), tmp_path / "a.kvt"

    def endless(*_: Any, **__: Any) -> Iterator[tuple[np.ndarray, float]]:
        yield from camera(clip)
        raise KeyboardInterrupt

    monkeypatch.setattr("data.reading.iterate_frames", endless)
    with pytest.raises(KeyboardInterrupt):
        encode_file(codec, tmp_path, file)
    with pytest.warns(UnclosedWarning, match="2 whole blocks"):
        assert all(map(torch.equal, load_tokens(file).codes, codec.encode(clip).codes[:2]))
    file.write_bytes(b"something else")
    with pytest.raises(KeyboardInterrupt):
        encode_file(codec, tmp_path, file)
    assert file.read_bytes() == b"something else" and [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("cuts", [(4,), (3, 5), (1, 2, 7), (8,)])
@pytest.mark.parametrize("rate", [FULL, Rate(auto=0.5)], ids=str)
def test_a_stream_in_several_runs_is_one(
    codec: Codec, tmp_path: Path, cuts: tuple[int, ...], rate: Rate
) -> None:
    """Wherever runs end, also within a block, the file is at each end that of the frames so far."""
    items = list(camera(some_clip(9)))
    for prior in (None, AdaptivePrior(codec.codebook_size, codec.layout)):
        name = "packed" if prior is None else "adaptive"
        file, state = tmp_path / f"{name}.kvt", tmp_path / f"{name}.safetensors"
        for start, stop in itertools.pairwise((0, *cuts, 9)):
            part, patient = items[start:stop], start == 0
            encode_stream(codec, part, file, rate, prior, state, patient)
            encode_stream(codec, items[:stop], tmp_path / "whole.kvt", rate, prior)
            assert file.read_bytes() == (tmp_path / "whole.kvt").read_bytes()


def test_a_stream_does_not_go_on_with_another_file(codec: Codec, tmp_path: Path) -> None:
    items, state, file = list(camera(some_clip(9))), tmp_path / "s.safetensors", tmp_path / "a.kvt"
    encode_stream(codec, items[:5], file, state=state)
    with pytest.raises(ValueError, match="the stream is at"):
        encode_stream(codec, items[5:], file, Rate(0.5), state=state)
    encode_stream(codec, items[:4], tmp_path / "b.kvt")
    with pytest.raises(ValueError, match="holds 4 frames, the state is of a stream after 5"):
        encode_stream(codec, items[5:], tmp_path / "b.kvt", state=state)
    with pytest.raises(ValueError, match="under prior None"):
        prior = AdaptivePrior(codec.codebook_size, codec.layout)
        encode_stream(codec, items[5:], file, prior=prior, state=state)
    with pytest.raises(ValueError, match="holds 9x17 pixels"):
        encode_stream(codec, [(items[5][0][:8], 9.0)], file, state=state)


def test_a_file_without_its_state_is_not_gone_on_with(codec: Codec, tmp_path: Path) -> None:
    """Nor is it overwritten by what follows its frames."""
    items, state, file = list(camera(some_clip(9))), tmp_path / "s.safetensors", tmp_path / "a.kvt"
    encode_stream(codec, items[:5], file)
    begun = file.read_bytes()
    with pytest.raises(ValueError, match=r"a.kvt is there, but .*s.safetensors is not.*remove it"):
        encode_stream(codec, items[5:], file, state=state)
    assert file.read_bytes() == begun and not state.exists()
    encode_stream(codec, items, file)  # without a state it is replaced
    assert load_tokens(file).num_frames == 9


@pytest.mark.parametrize("rate", [FULL, Rate(auto=0.5)], ids=str)
@pytest.mark.parametrize("patient", [False, True])
def test_a_stream_that_breaks_off_is_gone_on_with(
    codec: Codec, tmp_path: Path, rate: Rate, patient: bool
) -> None:
    """After its last whole block, in a first and in a later run."""
    items, state, file = list(camera(some_clip(15))), tmp_path / "s", tmp_path / "a.kvt"

    def breaking(start: int, stop: int) -> Iterator[tuple[np.ndarray, float]]:
        yield from items[start:stop]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_stream(codec, breaking(0, 3), tmp_path / "b.kvt", rate, state=tmp_path / "t")
    assert not (tmp_path / "t").exists()  # no block, nothing to go on with
    for start, stop in ((0, 6), (4, 11)):
        with pytest.raises(KeyboardInterrupt):
            encode_stream(codec, breaking(start, stop), file, rate, None, state, patient)
    encode_stream(codec, items[8:13], file, rate, state=state)
    encode_stream(codec, items[13:], file, rate, state=state)
    encode_stream(codec, items, tmp_path / "whole.kvt", rate)
    assert file.read_bytes() == (tmp_path / "whole.kvt").read_bytes()


def test_a_pipe_is_encoded_as_it_comes_and_decoded_to_a_pipe(codec: Codec, tmp_path: Path) -> None:
    codec.save(tmp_path / "codec")
    clip = some_clip(9)
    video, file = write_video(clip, tmp_path / "a.mkv"), tmp_path / "a.kvt"
    words = [sys.executable, "-m", "kinolex"]
    model = ["--model", str(tmp_path / "codec")]
    with subprocess.Popen(["cat", str(video)], stdout=subprocess.PIPE) as cat:
        run = [*words, "encode", "-", "--out", str(file), *model]
        subprocess.run(run, stdin=cat.stdout, check=True, capture_output=True)
    encode_file(codec, video, tmp_path / "b.kvt")
    assert file.read_bytes() == (tmp_path / "b.kvt").read_bytes()
    run = [*words, "decode", str(file), "--out", "-", *model]
    piped = subprocess.run(run, check=True, capture_output=True).stdout
    assert torch.equal(read_clip(piped).frames, codec.decode(load_tokens(file)).frames)


def test_frames_of_a_pipe_come_before_its_end(tmp_path: Path) -> None:
    """An endless video cannot be read whole first."""
    luck = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (60, 3, 64, 64), dtype=torch.uint8, generator=luck)
    content = write_video(Clip.from_frames(frames, 8), tmp_path / "a.mkv").read_bytes()

    class Pipe(io.RawIOBase):
        given = 0

        def seekable(self) -> bool:
            return False

        def read(self, size: int = -1) -> bytes:
            assert 0 <= size < 1 << 16, "asks for all there is"
            part = content[self.given : self.given + size]
            self.given += len(part)
            return part

    pipe, found = Pipe(), []
    for image, _ in iterate_frames(pipe):
        if not found:
            assert pipe.given < len(content) / 2
        found.append(torch.from_numpy(image).permute(2, 0, 1))
    assert torch.equal(torch.stack(found), frames)
