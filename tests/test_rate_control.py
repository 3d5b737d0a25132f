"""Rate control: targets are met, choices do not depend on the batch, passes are counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import tokenizer.rate_control
from data.clip import Clip
from tokenizer.blocks import Probe
from tokenizer.codec import Codec
from tokenizer.metrics import psnr, squared_error
from tokenizer.rate import Rate, RateError
from tokenizer.rate_control import auto_count

ASKED = [Rate(budget=17), Rate(psnr=6.0), Rate(auto=0.4), Rate(block_tokens=(3, 1, 8)), Rate(1.3)]


def moving_noise(clips: int = 1, length: int = 10) -> Tensor:
    """Noise that is dim at first and bright at the end, so that blocks differ."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(clips, length, 3, 16, 16, generator=generator)
    bright = torch.linspace(0.1, 1, length)[:, None, None, None]
    return (255 * noise * bright).to(torch.uint8)


def reached(codec: Codec, frames: Tensor, **target: float) -> float:
    decoded = codec.decode(codec.encode(frames, **target)).frames  # pyright: ignore
    return psnr(squared_error(frames, decoded).mean())


@pytest.mark.parametrize("rate", ASKED, ids=str)
def test_a_clip_is_coded_alike_in_any_batch(codec: Codec, rate: Rate) -> None:
    frames = moving_noise(3)
    together = codec.encode_batch(frames, rate=rate)
    mixed = codec.encode_batch(frames, rate=[ASKED[0], rate, "auto"])
    for i, tokens in enumerate(together):
        alone = codec.encode(frames[i], rate=rate)
        assert [len(c) for c in alone.codes] == [len(c) for c in tokens.codes]
        assert all(map(torch.equal, alone.codes, tokens.codes))
    assert all(map(torch.equal, mixed[1].codes, together[1].codes))


def test_codes_at_any_rate_are_prefixes_of_the_full_ones(codec: Codec) -> None:
    frames = moving_noise()[0]
    full = codec.encode(frames).codes
    for rate in ASKED:
        for code, whole in zip(codec.encode(frames, rate=rate).codes, full, strict=True):
            assert 1 <= len(code) and torch.equal(code, whole[: len(code)])


def test_psnr_is_reached_at_the_lowest_count_tried_and_reported_exactly(codec: Codec) -> None:
    frames = moving_noise()[0]
    evens = range(1, codec.slots_per_block(16, 16) + 1)
    curve = {count: reached(codec, frames, block_tokens=count) for count in evens}
    for target in sorted({value for value in curve.values() if value <= curve[8]}):
        choice = codec.choose_rate(frames, psnr=target)
        (count,) = set(choice.tokens_per_block)
        assert choice.exact and choice.psnr == pytest.approx(curve[count], abs=1e-9)
        assert curve[count] >= target
        assert count == min(c for c in evens if curve[c] >= target)  # few slots: all are tried
    top = max(curve.values())
    with pytest.raises(RateError, match=f"{curve[1]:.2f} dB with one .* to {top:.2f} dB at most"):
        codec.encode(frames, psnr=top + 0.1)


def test_a_budget_is_kept_and_its_estimate_exact_where_blocks_are_alike(codec: Codec) -> None:
    frames = moving_noise()[0]
    for budget in (3, 9, 17, 24):
        choice = codec.choose_rate(frames, budget=budget)
        assert choice.tokens.num_tokens == sum(choice.tokens_per_block) <= budget
        assert choice.psnr is not None
        if choice.exact:
            assert choice.psnr == pytest.approx(reached(codec, frames, budget=budget), abs=1e-9)
    assert codec.choose_rate(frames, budget=3).exact
    with pytest.raises(RateError, match="budget=2: this codec serves 3 to 24 tokens for 3 blocks"):
        codec.encode(frames, budget=2)


def test_bits_per_pixel_are_nominal(codec: Codec) -> None:
    frames = moving_noise(length=12)[0]
    bits = codec.encode(frames, 1.5).bits_per_pixel
    assert codec.encode(frames, bits_per_pixel=bits).bits_per_pixel == pytest.approx(bits)
    least = codec.encode(frames, 0.25).bits_per_pixel
    with pytest.raises(RateError, match=f"bits_per_pixel=9: this codec serves {least:g} to "):
        codec.encode(frames, bits_per_pixel=9)


@pytest.mark.parametrize("rate", ASKED, ids=str)
def test_a_choice_takes_one_pass_of_each_network(
    codec: Codec, rate: Rate, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {"encode": 0, "decode": 0}
    for name in seen:
        inner = getattr(codec.backbone, name)

        def count(blocks: Tensor, *others: object, name: str = name, inner=inner) -> Tensor:
            seen[name] += len(blocks) if name == "encode" else 1  # a row for each count tried
            return inner(blocks, *others)

        monkeypatch.setattr(codec.backbone, name, count)
    choice = codec.choose_rate(Clip.from_frames(moving_noise()[0], 8), rate=rate)
    assert (choice.rate, choice.encoder_passes) == (rate, 1)
    assert (
        choice.decoder_passes == int(rate.by_content) and (choice.psnr is None) != rate.by_content
    )
    blocks = len(choice.tokens.codes)
    assert seen == {"encode": blocks, "decode": blocks * choice.decoder_passes}


def test_a_few_rows_at_a_time_choose_alike(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = moving_noise()[0]
    whole = [codec.choose_rate(frames, rate=rate) for rate in ASKED[:3]]
    monkeypatch.setattr(tokenizer.rate_control, "ROW_PIXELS", 2 * 4 * 16 * 16)
    parts = [codec.choose_rate(frames, rate=rate) for rate in ASKED[:3]]
    for one, other in zip(whole, parts, strict=True):
        assert (one.tokens_per_block, one.psnr) == (other.tokens_per_block, other.psnr)


@pytest.mark.parametrize("mean", [1, 1.5, 3, 5.5, 12, 20, 30, 32])
def test_auto_keeps_its_mean_and_gives_more_to_blocks_that_need_it(mean: float) -> None:
    counts = (1, 2, 4, 8, 16, 32)
    easy, hard = (tuple(size / count for count in counts) for size in (10.0, 1000.0))
    for stream in ([easy] * 200, [easy, easy, easy, hard] * 50):
        probe, spent = Probe(counts, ()), []
        for curve in stream:
            window = (*probe.curves, curve)[-tokenizer.rate_control.WINDOW :]
            count, probe = auto_count(replace(probe, curves=window), mean)
            spent.append(count)
            assert count in counts
        assert sum(spent) / len(spent) == pytest.approx(mean, rel=0.05)
        if stream[3] is hard and 2 < mean < 30:
            assert sum(spent[3::4]) > sum(spent[::4])
