"""The codec's laws: streams equal whole clips, no future is seen, prefixes are lower rates."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from data.clip import Clip
from tokenizer.backbone import Backbone, ConvBackbone
from tokenizer.codec import Codec
from tokenizer.factored import FactoredBackbone
from tokenizer.layers import Past
from tokenizer.quantizer import FSQ, ResidualVQ, Unquantized
from tokenizer.rate import Rate
from tokenizer.transformer import Kind, TransformerBackbone


@pytest.fixture(
    params=[
        (ConvBackbone, {}),
        (FactoredBackbone, {}),
        (ConvBackbone, {"summary": 2}),
        (FactoredBackbone, {"summary": 3}),
        (FactoredBackbone, {"summary": 5, "regional": 1}),
        (FactoredBackbone, {"rate_conditioned": True}),
        (TransformerBackbone, {"attention": "full", "summary": 2}),
        (TransformerBackbone, {"attention": "factored"}),
        (TransformerBackbone, {"attention": "window", "reach": 2}),
        (TransformerBackbone, {"attention": "queries", "sees": "past"}),
        (FactoredBackbone, {"rate_conditioned": True, "depth": 3}),
    ],
    ids=[
        *("conv", "factored", "conv-summary", "factored-summary", "quadrants", "rate-conditioned"),
        *("full-attention", "factored-attention", "window", "queries", "residual-depth"),
    ],
)
def codec(request: pytest.FixtureRequest) -> Codec:
    """A tiny codec of random weights: 2 latents in time per block of 4 frames, 8 pixels a side."""
    torch.manual_seed(0)
    kind, choices = request.param[0], dict(request.param[1])
    depth = choices.pop("depth", None)
    sizes = {"channels": 8, "latent_channels": 8, "blocks": 1, "latent_blocks": 1}
    if kind is TransformerBackbone:
        sizes = {"width": 8, "heads": 2, "blocks": 1}
    backbone: Backbone = kind(**sizes, **choices)
    quantizer = ResidualVQ(9, depth, 4, split=True) if depth else FSQ((8, 5, 5, 5))
    made = Codec(backbone, quantizer, block_frames=4)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


laws = settings(max_examples=25, suppress_health_check=list(HealthCheck))


def noise(clips: int, length: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (clips, length, 3, height, width), dtype=torch.uint8, generator=generator
    )


@laws
@given(data=st.data())
def test_streams_equal_whole_clips_bit_for_bit(codec: Codec, data: st.DataObject) -> None:
    length, height, width = (data.draw(st.integers(1, n)) for n in (18, 20, 20))
    top = codec.max_tokens_per_frame(height, width)
    blocks, slots = -(-length // codec.block_frames), codec.slots_per_block(height, width)
    counts = st.lists(st.integers(1, slots), min_size=blocks, max_size=blocks)
    rate = data.draw(
        st.one_of(
            st.just(Rate()),
            st.builds(Rate, tokens_per_frame=st.floats(1 / codec.block_frames, top)),
            st.builds(Rate, block_tokens=counts.map(tuple)),
            st.builds(Rate, auto=st.floats(0.01, 1)),
        )
    )
    frames = noise(1, length, height, width)
    tokens = codec.encode(frames[0], rate=rate)
    decoded = codec.decode(tokens).frames

    state, codes, start = codec.start(rate=rate), [], 0
    while start < length:
        step = data.draw(st.integers(0, length - start)) or 1
        part, state = codec.encode_step(frames[:, start : start + step], state)
        codes += part
        start += step
    codes += codec.finish(state)
    assert all(torch.equal(a[0], b) for a, b in zip(codes, tokens.codes, strict=True))

    again, memory = [], codec.start_decoding(height, width)
    for block in tokens.codes:
        part, memory = codec.decode_step([block], memory)
        again.append(part[0])
    assert torch.equal(torch.cat(again)[:length], decoded)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 9, 17])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 12), (8, 16), (17, 1)])
def test_any_length_and_size_round_trips_its_shape(
    codec: Codec, length: int, height: int, width: int
) -> None:
    times = torch.arange(length, dtype=torch.float64).square() + torch.arange(length)
    clip = Clip(noise(1, length, height, width)[0], times)
    tokens = codec.encode(clip)
    again = codec.decode(tokens)
    assert again.frames.shape == clip.frames.shape
    assert torch.equal(again.timestamps, times)
    assert {len(block) for block in tokens.codes} == {codec.slots_per_block(height, width)}


@laws
@given(frame=st.integers(1, 13))
def test_a_changed_frame_changes_no_earlier_block(codec: Codec, frame: int) -> None:
    frames = noise(1, 14, 16, 16)
    changed = frames.clone()
    changed[:, frame:] = 255 - changed[:, frame:]
    before, after = codec.encode(frames[0]), codec.encode(changed[0])
    block = frame // codec.block_frames
    assert all(map(torch.equal, before.codes[:block], after.codes[:block]))
    assert not torch.equal(before.codes[block], after.codes[block])
    reach = block * codec.block_frames
    one, other = codec.decode(before).frames[:reach], codec.decode(after).frames[:reach]
    assert torch.equal(one, other)


def test_lower_rates_are_prefixes_whatever_the_batch(codec: Codec) -> None:
    frames = noise(3, 9, 16, 24)
    full = codec.encode_batch(frames)
    mixed = codec.encode_batch(frames, None, [0.25, 1.3, 3.0])
    for i, (whole, part) in enumerate(zip(full, mixed, strict=True)):
        for a, b in zip(whole.codes, part.codes, strict=True):
            assert torch.equal(a[: len(b)], b)
        alone = codec.encode(frames[i], [0.25, 1.3, 3.0][i])
        assert all(map(torch.equal, alone.codes, part.codes))
        decoded = codec.decode_batch(mixed)[i].frames
        assert torch.equal(codec.decode(alone).frames, decoded)
    assert [[len(b) for b in item.codes] for item in mixed] == [[1, 1, 1], [5, 5, 5], [12, 12, 12]]


def test_blocks_in_parallel_equal_blocks_in_turn(codec: Codec) -> None:
    frames = noise(2, 11, 12, 20)
    tokens = codec.encode_batch(frames)
    out = codec(frames)
    turn = torch.stack([torch.stack(item.codes) for item in tokens])
    assert (out.codes == turn).float().mean() > 0.99  # a tie may round either way
    pixels = torch.stack([clip.frames for clip in codec.decode_batch(tokens)]).float()
    mine = (out.pixels.detach() + 1).mul(127.5).round().clamp(0, 255)
    assert (mine - pixels).abs().mean() < 0.5


def test_dropped_tokens_do_not_matter_and_kept_ones_do(codec: Codec) -> None:
    frames = noise(2, 4, 16, 16)
    counts = torch.tensor([3, 8])
    one = codec(frames, counts).pixels
    tokens = codec.encode_batch(frames, None, [3 / 4, 8 / 4])
    pixels = torch.stack([clip.frames for clip in codec.decode_batch(tokens)])
    mine = (one.detach() + 1).mul(127.5).round().clamp(0, 255)
    assert (mine - pixels.float()).abs().max() <= 1
    assert not torch.equal(codec.decode(tokens[1]).frames, codec.decode(tokens[1].keep(7)).frames)


def test_saved_and_loaded_is_identical(codec: Codec, tmp_path: Path) -> None:
    codec.trained_size = (16, 16)
    codec.save(tmp_path / "codec")
    again = Codec.load(tmp_path / "codec")
    frames = noise(1, 5, 16, 16)[0]
    tokens = codec.encode(frames)
    assert again.codec_id == codec.codec_id and not again.training
    assert all(map(torch.equal, again.encode(frames).codes, tokens.codes))
    assert torch.equal(again.decode(tokens).frames, codec.decode(tokens).frames)
    assert again.trained_size == (16, 16) and (tmp_path / "codec" / "README.md").is_file()


def test_identity_follows_the_weights(codec: Codec) -> None:
    frames = noise(1, 4, 8, 8)[0]
    tokens, name = codec.encode(frames), codec.codec_id
    with torch.no_grad():
        next(codec.parameters()).mul_(1.1)
    assert codec.codec_id != name
    with pytest.raises(ValueError, match=f"tokens of codec {name} cannot be decoded"):
        codec.decode(tokens)


def test_directories_of_another_kind_are_refused(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such directory"):
        Codec.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="not a codec directory"):
        Codec.load(tmp_path)
    model = tmp_path / "model"
    codec.save(model / "codec")
    with pytest.raises(ValueError, match=r"its codec is .*model/codec"):
        Codec.load(model)
    file = model / "codec" / "codec.json"
    record = json.loads(file.read_text())
    for change, reason in (
        ({"format": "other"}, "describes a other"),
        ({"version": 99}, "newer"),
        ({"codec_id": "x"}, "files of two codecs were mixed"),
        ({"version": -1}, "there is no version -1"),
        ({"trained_size": []}, f"{model}/codec: damaged codec"),
        ({"labels": "x"}, "damaged codec"),
        ({"block_frames": -1}, "damaged codec .*block_frames=-1"),
        ({"backbone": {"class": "X", "arguments": {}}}, "damaged codec"),
    ):
        file.write_text(json.dumps({**record, **change}))
        with pytest.raises(ValueError, match=reason):
            Codec.load(model / "codec")
    without = {key: value for key, value in record.items() if key != "codec_id"}
    for text, reason in (
        (json.dumps(without), "damaged codec"),
        ("{", "not a codec's description"),
        ("[" * 100_000, "not a codec's description"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=reason):
            Codec.load(model / "codec")
    file.write_text(json.dumps(record))
    weights = model / "codec" / "codec.safetensors"
    tensors = load_file(weights)
    name, _ = tensors.popitem()
    save_file(tensors, weights)
    with pytest.raises(ValueError, match=f"damaged codec .*{name}"):
        Codec.load(model / "codec")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged codec"):
        Codec.load(model / "codec")


def test_wrong_calls_say_what_is_right(codec: Codec) -> None:
    frames = noise(1, 4, 16, 16)[0]
    top = codec.max_tokens_per_frame(16, 16)
    with pytest.raises(ValueError, match=f"tokens_per_frame=9: .* 0.25 to {top:g} tokens .* 16x16"):
        codec.encode(frames, 9)
    with pytest.raises(ValueError, match="give uint8"):
        codec.encode(frames.float())
    with pytest.raises(TypeError, match="'a.mp4' is no clip: read a file first"):
        codec.encode(cast(Any, "a.mp4"))
    with pytest.raises(ValueError, match="0 frames"):
        codec.encode(frames[:0])
    with pytest.raises(ValueError, match="2 rates for 1 clips"):
        codec.encode_batch(frames[None], None, [1.0, 2.0])
    with pytest.raises(
        ValueError, match=rf"codes of this codec lie in \[0, {codec.codebook_size}\)"
    ):
        codec.decode_step([torch.tensor([1000])], codec.start_decoding(8, 8))
    slots = codec.slots_per_block(8, 8)
    with pytest.raises(ValueError, match=f"blocks have 1 to {slots}"):
        codec.decode_step([torch.arange(slots + 1)], codec.start_decoding(8, 8))
    _, state = codec.encode_step(frames[None, :1], codec.start())
    for whole in ({"psnr": 20.0}, {"budget": 9}):
        with pytest.raises(ValueError, match="depends on the whole clip, encode that at once"):
            codec.start(**whole)
    with pytest.raises(ValueError, match="2 streams side by side"):
        codec.encode_step(frames[None].expand(2, -1, -1, -1, -1), codec.start(rate="auto"))
    with pytest.raises(ValueError, match="none for block number 1"):
        codec.encode_step(torch.cat([frames, frames])[None], codec.start(block_tokens=[1]))
    with pytest.raises(ValueError, match="start a new stream"):
        codec.encode_step(frames[None, :1, :, :8], state)
    with pytest.raises(ValueError, match="multiple of the backbone's time_stride=2"):
        Codec(ConvBackbone(), FSQ(), block_frames=3)
    with pytest.raises(ValueError, match="set the backbone's dim to 3"):
        Codec(ConvBackbone(), FSQ((5, 5, 5)))
    with pytest.raises(ValueError, match="patch_frames=3: give a divisor of time_stride=4"):
        FactoredBackbone(time_stride=4, patch_frames=3)
    with pytest.raises(ValueError, match="coarser=-1"):
        FactoredBackbone(coarser=-1)
    with pytest.raises(ValueError, match="regional=2 with summary=8: .* give it 9 or more"):
        FactoredBackbone(summary=8, regional=2)
    with pytest.raises(ValueError, match="channels=0"):
        ConvBackbone(channels=0)


def test_a_size_far_from_training_warns(codec: Codec) -> None:
    codec.trained_size = (64, 64)
    codec.encode(noise(1, 1, 16, 64)[0])
    with pytest.warns(UserWarning, match="15x64 pixels: this codec was trained at 64x64"):
        codec.encode(noise(1, 1, 15, 64)[0])


def test_without_quantization_pixels_pass_but_nothing_decodes() -> None:
    codec = Codec(ConvBackbone(channels=8, latent_channels=8), Unquantized(4))
    assert codec(noise(1, 8, 8, 8)).pixels.shape == (1, 8, 3, 8, 8)
    with pytest.raises(ValueError, match="no codes to decode"):
        codec.decode(codec.encode(noise(1, 1, 8, 8)[0]))


def test_decoder_parts_are_those_that_no_code_depends_on(streaming_codec: Codec) -> None:
    """A part left out would be trained while codes are to stay, or stay untrained."""
    backbone = deepcopy(streaming_codec.backbone)
    pixels = torch.rand(1, 3, streaming_codec.block_frames, 16, 16)
    backbone.encode(pixels, streaming_codec.ordering(16, 16).level, Past()).sum().backward()
    told = {name for name, value in backbone.named_parameters() if value.grad is not None}
    parts = {name for name, _ in backbone.named_parameters() if name not in told}
    assert {name.split(".")[0] for name in parts} == {
        part for part in backbone.decoder_parts if getattr(backbone, part, None) is not None
    }
    assert not {name.split(".")[0] for name in told} & set(backbone.decoder_parts)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConvBackbone(channels=16, latent_channels=32),
        lambda: FactoredBackbone(channels=16, latent_channels=32),
        lambda: FactoredBackbone(channels=5, latent_channels=7, time_stride=8, summary=1),
        lambda: FactoredBackbone(channels=16, latent_channels=32, summary=20, regional=4),
        lambda: FactoredBackbone(time_stride=4, patch_frames=2, channels=12, coarser=3),
        *(partial(TransformerBackbone, width=32, attention=kind) for kind in get_args(Kind)),
    ],
)
@pytest.mark.parametrize("side", [1, 9, 24])
@pytest.mark.usefixtures("threads")
def test_features_do_not_depend_on_the_batch(make: Callable[[], Backbone], side: int) -> None:
    torch.manual_seed(0)
    codec = Codec(make(), FSQ())
    pixels = torch.rand(5, 3, 8, -(-side // 8) * 8, -(-side // 8) * 8)
    level = codec.ordering(side, side).level
    with torch.no_grad():
        whole = codec.backbone.encode(pixels, level, Past())
        for count in (1, 2, 3):
            part = codec.backbone.encode(pixels[:count], level, Past())
            assert torch.equal(whole[:count], part)
