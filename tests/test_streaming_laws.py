"""Streaming equals whole-clip, whatever the chunks, size, length, rate and process."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokenizer import steps
from tokenizer.blocks import EncoderState
from tokenizer.codec import Codec
from tokenizer.rate import FULL, Rate
from tokenizer.state_files import load_decoder_state, load_encoder_state, save_state

RATES = ("full", "a frame", "share", "a pixel", "auto", "each block")
RESUME = """
import sys
from safetensors.torch import load_file, save_file
from tokenizer.codec import Codec
from tokenizer.state_files import load_decoder_state, load_encoder_state

codec = Codec.load(sys.argv[1])
state, decoding = (load(codec, f"{sys.argv[2]}/{name}") for load, name in (
    (load_encoder_state, "encoder"), (load_decoder_state, "decoder")))
blocks, state = codec.encode_step(load_file(f"{sys.argv[2]}/rest")["frames"], state)
out = {}
for number, block in enumerate(blocks + codec.finish(state)):
    pixels, decoding = codec.decode_step(list(block), decoding)
    out |= {f"codes{number}": block.contiguous(), f"pixels{number}": pixels.contiguous()}
save_file(out, f"{sys.argv[2]}/out")
"""


def rate_of(name: str, codec: Codec, height: int, width: int, length: int) -> Rate:
    slots = codec.slots_per_block(height, width)
    half, pixels = max(1, slots // 2), codec.block_frames * height * width
    blocks = -(-length // codec.block_frames)
    return {
        "full": FULL,
        "a frame": Rate(half / codec.block_frames),
        "share": Rate(share=0.4),
        "a pixel": Rate(bits_per_pixel=half * math.log2(codec.codebook_size) / pixels),
        "auto": Rate(auto=0.5),
        "each block": Rate(block_tokens=tuple(1 + 7 * i % slots for i in range(blocks))),
    }[name]


def random_frames(length: int, height: int, width: int) -> Tensor:
    luck = torch.Generator().manual_seed(length)
    return torch.randint(0, 256, (length, 3, height, width), dtype=torch.uint8, generator=luck)


def encode_in_chunks(codec: Codec, frames: Tensor, cuts: list[int], rate: Rate) -> list[Tensor]:
    state, codes = EncoderState(rate), list[Tensor]()
    for chunk in frames.tensor_split(sorted(cuts)):
        blocks, state = codec.encode_step(chunk[None], state)
        codes += [block[0] for block in blocks]
    return codes + [block[0] for block in codec.finish(state)]


def decode_in_turn(codec: Codec, codes: list[Tensor], height: int, width: int) -> Tensor:
    state, parts = codec.start_decoding(height, width), []
    for block in codes:
        part, state = codec.decode_step([block], state)
        parts.append(part[0])
    return torch.cat(parts)


@settings(max_examples=12)
@given(
    length=st.integers(1, 11),
    height=st.sampled_from([1, 5, 8, 11]),
    width=st.sampled_from([1, 7, 16]),
    name=st.sampled_from(RATES),
    data=st.data(),
)
def test_chunked_equals_whole_and_no_future_leaks(
    streaming_codec: Codec, length: int, height: int, width: int, name: str, data: st.DataObject
) -> None:
    codec, frames = streaming_codec, random_frames(length, height, width)
    rate = rate_of(name, codec, height, width, length)
    cuts = data.draw(st.lists(st.integers(0, length), max_size=6))
    whole = codec.encode(frames, rate=rate)
    codes = encode_in_chunks(codec, frames, cuts, rate)
    assert len(codes) == len(whole.codes) and all(map(torch.equal, codes, whole.codes))
    pixels = decode_in_turn(codec, codes, height, width)[:length]
    assert torch.equal(pixels, codec.decode(whole).frames)

    changed, place = frames.clone(), data.draw(st.integers(0, length - 1))
    changed[place] = 255 - changed[place]
    other = codec.encode(changed, rate=rate)
    before = place // codec.block_frames
    assert all(map(torch.equal, other.codes[:before], whole.codes[:before]))
    kept = before * codec.block_frames
    assert torch.equal(codec.decode(other).frames[:kept], pixels[:kept])


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (9, 25)])
def test_blocks_and_streams_side_by_side_equal_each_alone(
    streaming_codec: Codec, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes, pixels and all that is remembered, to the bit, however many share a pass."""
    codec = streaming_codec
    frames = random_frames(14 * codec.block_frames, height, width).unflatten(0, (2, -1))
    start, black = codec.start(share=0.7), codec.start_decoding(height, width)
    monkeypatch.setattr(steps, "PASS_PIXELS", 1)
    alone = [codec.encode_step(stream[None], start) for stream in frames]
    decoded = []
    for blocks, _ in alone:
        parts, state = [], black
        for block in blocks:
            part, state = codec.decode_step([block[0]], state)
            parts.append(part)
        decoded.append((torch.cat(parts, 1), state))
    for run in (1, 3, 7):
        pixels_together = frames[:, : run * codec.block_frames, 0].numel()
        monkeypatch.setattr(steps, "PASS_PIXELS", pixels_together)
        blocks, state = codec.encode_step(frames, start)
        assert state.past is not None and len(blocks) == 7
        pixels, late = steps.decode_blocks(codec, [list(block) for block in blocks], black)
        assert late.past is not None and late.num_blocks == 7
        for i, (own, told) in enumerate(alone):
            assert told.past is not None and decoded[i][1].past is not None
            assert all(torch.equal(x[i : i + 1], y) for x, y in zip(blocks, own, strict=True))
            pasts = zip(state.past, told.past, strict=True)
            assert all(torch.equal(x[i : i + 1], y) for x, y in pasts)
            assert torch.equal(pixels[i : i + 1], decoded[i][0])
            pasts = zip(late.past, decoded[i][1].past, strict=True)
            assert all(torch.equal(x[i : i + 1], y) for x, y in pasts)


@pytest.mark.parametrize("name", ["share", "auto"])
def test_a_stream_goes_on_in_another_process(
    streaming_codec: Codec, name: str, tmp_path: Path
) -> None:
    codec, frames = streaming_codec, random_frames(23, 11, 17)
    codec.save(tmp_path / "codec")
    rate = rate_of(name, codec, 11, 17, 23)
    blocks, state = codec.encode_step(frames[None, :10], EncoderState(rate))
    decoding = codec.start_decoding(11, 17)
    for block in blocks:
        _, decoding = codec.decode_step(list(block), decoding)
    save_state(codec, state, tmp_path / "encoder")
    save_state(codec, decoding, tmp_path / "decoder")
    save_file({"frames": frames[None, 10:].contiguous()}, tmp_path / "rest")
    root = str(Path(__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", RESUME, str(tmp_path / "codec"), str(tmp_path)],
        check=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    out, whole = load_file(tmp_path / "out"), codec.encode(frames, rate=rate)
    later = whole.codes[len(blocks) :]
    found = [out[f"codes{number}"][0] for number in range(len(out) // 2)]
    assert len(found) == len(later) and all(map(torch.equal, found, later))
    pixels = torch.cat([out[f"pixels{number}"][0] for number in range(len(later))])
    start = len(blocks) * codec.block_frames
    assert torch.equal(pixels[: 23 - start], codec.decode(whole).frames[start:])


def test_states_of_another_kind_are_refused(streaming_codec: Codec, tmp_path: Path) -> None:
    codec, file = streaming_codec, tmp_path / "state"
    save_state(codec, codec.start(), file)
    assert load_encoder_state(codec, file) == codec.start()
    with pytest.raises(ValueError, match="state of a stream's encoder, not decoder"):
        load_decoder_state(codec, file)
    other = Codec().eval()
    with pytest.raises(ValueError, match=f"of codec {codec.codec_id}, not of {other.codec_id}"):
        load_encoder_state(other, file)
    content = file.read_bytes()
    for spoilt in (content[:20], b"", content[:8] + b"x" + content[9:]):
        file.write_bytes(spoilt)
        with pytest.raises(ValueError, match="not the state of a stream"):
            load_encoder_state(codec, file)
    with pytest.raises(FileNotFoundError, match="no such state"):
        load_encoder_state(codec, tmp_path / "none")
