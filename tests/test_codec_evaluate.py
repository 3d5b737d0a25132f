"""Evaluation: figures that follow from the pictures, whatever the blocks, with baselines."""

from __future__ import annotations

import dataclasses
import io
import json
import weakref
from collections.abc import Iterator

import pytest
import torch
from rich.console import Console
from torch import Tensor

from data.clip import Clip
from data.source import Parts, Skipped
from tokenizer import steps
from tokenizer.backbone import ConvBackbone
from tokenizer.blocks import SizeWarning
from tokenizer.codec import Codec
from tokenizer.evaluate import evaluate
from tokenizer.metrics import psnr, squared_error, ssim
from tokenizer.rate import FULL, Rate


class Pair:
    """Two clips of different length and size."""

    name = "pair"
    skipped = [Skipped("broken.mp4", "empty")]

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Clip:
        generator = torch.Generator().manual_seed(index)
        shape = ((9, 3, 12, 20), (3, 3, 7, 7))[index]
        return Clip.from_frames(
            torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator), fps=8
        )


def test_figures_equal_those_of_whole_clips(codec: Codec) -> None:
    report = evaluate(codec, Pair(), rates=[1.0])
    assert (report.num_clips, report.num_frames, report.skipped) == (2, 12, 1)
    assert report.sizes == ["12x20", "7x7"]
    for asked, rate in zip((None, 1.0), report.rates, strict=True):
        clips = [Pair()[i] for i in range(2)]
        if asked is not None:
            assert report.left_out == {"1": 1}  # a 7x7 clip has half a token a frame at most
            clips = clips[:1]
        tokens = [codec.encode(clip, asked) for clip in clips]
        pairs = [
            (clip.frames, codec.decode(item).frames)
            for clip, item in zip(clips, tokens, strict=True)
        ]
        errors = torch.cat([squared_error(a, b) for a, b in pairs])
        weights = torch.cat(
            [torch.full((len(a),), a[0].numel(), dtype=torch.float64) for a, _ in pairs]
        )
        pooled = float((errors * weights).sum() / weights.sum())
        assert rate.score.psnr == pytest.approx(psnr(pooled), abs=1e-6)
        means = [psnr(squared_error(a, b).mean()) for a, b in pairs]
        assert rate.score.psnr_mean == pytest.approx(sum(means) / len(means), abs=1e-6)
        similar = torch.cat([ssim(a, b) for a, b in pairs]).mean()
        assert rate.score.ssim == pytest.approx(float(similar), abs=1e-6)
        spent = sum(item.num_tokens for item in tokens)
        frames = sum(item.num_frames for item in tokens)
        assert rate.tokens_per_frame == pytest.approx(spent / frames)
        area = sum(item.num_frames * item.height * item.width for item in tokens)
        assert rate.bits_per_pixel == pytest.approx(spent * tokens[0].bits_per_token / area)
        assert rate.packed_bits_per_pixel >= rate.bits_per_pixel
    assert "psnr" in report.protocol
    json.dumps(dataclasses.asdict(report), allow_nan=False)


class Streamed:
    """The same two clips as a source that reads from files has them: in parts, none held."""

    name, skipped = Pair.name, Pair.skipped

    def __init__(self) -> None:
        self.alive: list[weakref.ref[Tensor]] = []

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Clip:
        raise AssertionError("makes a clip whole")

    def parts(self, index: int, length: int) -> Parts:
        clip = Pair()[index]

        def cut() -> Iterator[Clip]:
            for part in clip.frames.split(length):
                frames = part.clone()
                self.alive.append(weakref.ref(frames))
                yield Clip.from_frames(frames, fps=8)
                del frames
                assert sum(made() is not None for made in self.alive) <= 3

        return Parts(len(clip), cut)


def test_clips_in_parts_score_as_whole_ones(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """At rates of every kind, those that must see the end among them."""
    monkeypatch.setattr(steps, "PASS_PIXELS", 1)  # of so small pictures a pass holds whole clips
    even = [Rate(1.0), Rate(share=0.4), Rate(bits_per_pixel=0.05), Rate(block_tokens=(1, 2, 1))]
    by_content = [Rate(auto=0.5), Rate(psnr=4.5), Rate(psnr=60.0), Rate(budget=5)]
    asked = even + by_content
    source = Streamed()
    whole, parts = (evaluate(codec, each, asked, by_clip=True) for each in (Pair(), source))
    assert dataclasses.replace(parts, seconds=whole.seconds) == whole
    assert len(source.alive) == 10  # two clips of 3 blocks and 1, begun once and gone through twice
    pair = Pair()[0]
    for score in whole.clips[0].rates:
        tokens = codec.encode(pair, rate=score.rate)
        error = squared_error(pair.frames, codec.decode(tokens).frames).mean()
        assert score.psnr == pytest.approx(psnr(error), abs=1e-6)
        assert score.tokens_per_frame == pytest.approx(tokens.tokens_per_frame)
    told = [str(rate.rate) for rate in whole.rates]
    assert told == ["full", *(str(rate) for rate in asked if str(rate) != "60 dB")]
    assert whole.left_out["60 dB"] == 2 and whole.left_out["(1, 2, 1) a block"] == 1


def test_baselines_are_what_they_say(codec: Codec) -> None:
    report = evaluate(codec, Pair(), num_clips=1)
    frames = Pair()[0].frames.float()
    mean = frames.mean((0, 2, 3), keepdim=True).expand_as(frames)
    expected = psnr(squared_error(frames, mean).mean())
    assert report.baselines["mean colour"].psnr == pytest.approx(expected, abs=1e-3)
    first = psnr(squared_error(frames, frames[:1].expand_as(frames)).mean())
    assert report.baselines["first frame"].psnr == pytest.approx(first, abs=1e-6)
    assert report.baselines["first frame"].psnr_moving is not None


def test_nothing_to_evaluate(codec: Codec) -> None:
    with pytest.raises(ValueError, match="at least one"):
        evaluate(codec, Pair(), num_clips=0)


def test_shares_are_of_each_clips_own_full_rate(codec: Codec) -> None:
    report = evaluate(codec, Pair(), [Rate(share=share) for share in (1.0, 0.5, 0.001)])
    full, whole, half, least = report.rates
    assert [rate.rate.share for rate in report.rates] == [None, 1.0, 0.5, 0.001]
    assert dataclasses.replace(whole, rate=FULL) == full
    assert not report.left_out  # every size has every share
    clips = [Pair()[i] for i in range(2)]
    tops = [codec.max_tokens_per_frame(clip.height, clip.width) for clip in clips]
    tokens = [codec.encode(clip, top / 2) for clip, top in zip(clips, tops, strict=True)]
    spent = sum(item.num_tokens for item in tokens)
    assert half.tokens_per_frame == pytest.approx(spent / report.num_frames)
    blocks = sum(len(item.codes) for item in tokens)
    assert least.tokens_per_frame == pytest.approx(blocks / report.num_frames)


def test_scores_by_clip_pool_to_the_total(codec: Codec) -> None:
    report = evaluate(codec, Pair(), rates=[1.0, Rate(share=0.5)], by_clip=True)
    assert [(c.source, c.height, c.width, c.num_frames) for c in report.clips] == [
        ("pair 0", 12, 20, 9),
        ("pair 1", 7, 7, 3),
    ]
    for rate in report.rates:
        scores = [
            (clip, score)
            for clip in report.clips
            for score in clip.rates
            if score.rate == rate.rate
        ]
        assert len(scores) == (1 if rate.rate.tokens_per_frame else 2)  # the small clip has no 1.0
        areas = [clip.num_frames * clip.height * clip.width for clip, _ in scores]
        errors = [255**2 / 10 ** (score.psnr / 10) for _, score in scores]
        pooled = sum(a * e for a, e in zip(areas, errors, strict=True)) / sum(areas)
        assert rate.score.psnr == pytest.approx(psnr(pooled), abs=1e-6)
        bits = sum(a * score.bits_per_pixel for a, (_, score) in zip(areas, scores, strict=True))
        assert rate.bits_per_pixel == pytest.approx(bits / sum(areas))
        tokens = sum(clip.num_frames * score.tokens_per_frame for clip, score in scores)
        frames = sum(clip.num_frames for clip, _ in scores)
        assert rate.tokens_per_frame == pytest.approx(tokens / frames)
    still = report.baselines["first frame"].psnr_mean
    assert sum(clip.first_frame_psnr for clip in report.clips) / 2 == pytest.approx(still)
    assert evaluate(codec, Pair()).clips == []
    json.dumps(dataclasses.asdict(report), allow_nan=False)


def test_rates_by_content_are_measured_and_leave_out_clips_that_cannot_have_them(
    codec: Codec,
) -> None:
    asked = [Rate(budget=5), Rate(psnr=5.0), Rate(psnr=60.0), Rate(auto=0.5)]
    report = evaluate(codec, Pair(), asked)
    assert [rate.rate for rate in report.rates] == [FULL, Rate(budget=5), asked[1], asked[3]]
    assert report.left_out == {"5 a clip": 1, "60 dB": 2}  # a clip of one block has 2 tokens
    budget, reached, auto = report.rates[1:]
    assert budget.tokens_per_frame <= 5 / 9 and reached.score.psnr >= 5
    clips = [codec.encode(Pair()[i], rate="auto") for i in range(2)]
    spent = sum(tokens.num_tokens for tokens in clips)
    assert auto.tokens_per_frame == pytest.approx(spent / report.num_frames)


def test_progress_counts_parts_of_clips(codec: Codec) -> None:
    told: list[tuple[float, int]] = []
    evaluate(codec, Pair(), progress=lambda done, total: told.append((done, total)))
    parts = [done for done, _ in told]
    assert parts == sorted(parts) and parts[-1] == 2 and 1.0 in parts and len(parts) > 2
    assert {total for _, total in told} == {2}


def test_one_warning_for_all_sizes() -> None:
    far = Codec(ConvBackbone(), trained_size=(128, 128)).eval()
    with pytest.warns(SizeWarning) as caught:
        evaluate(far, Pair())
    assert [str(item.message) for item in caught] == [
        "clips of 12x20, 7x7 pixels: this codec was trained at 128x128, expect poorer pictures "
        "this far from it"
    ]


def test_a_report_is_a_table_of_80_letters(codec: Codec) -> None:
    report = evaluate(codec, Pair(), rates=[1.0, Rate(share=0.5)], by_clip=True)
    odd = dataclasses.replace(report.clips[0], source="a/[red]odd[b].mp4")
    report = dataclasses.replace(report, clips=[odd, report.clips[1]])
    console = Console(width=80, file=io.StringIO(), soft_wrap=True)
    console.print(report, markup=False)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    text = "\n".join(lines)
    rows = [line.split() for line in lines if line.strip()]
    assert ["50", "%"] in [row[:2] for row in rows] and "…" not in text
    full = next(row for row in rows if row[0] == "full")
    assert f"{report.rates[0].score.psnr:.2f}" in full and len(full) == 10
    assert f"{report.baselines['first frame'].psnr:.2f}" in text
    assert "[red]odd[b].mp4" in text and "a/[red]" not in text and "12x20" in text
    assert report.codec_id in text and report.protocol in text
    assert "1 of 2 clips at rate 1:" in text and "1 that could not be read" in text
    tables = lines[: next(i for i, line in enumerate(lines) if line.startswith("codec"))]
    assert max(map(len, tables)) <= 80
