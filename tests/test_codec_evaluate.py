"""Evaluation: figures that follow from the pictures, whatever the blocks, with baselines."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from data.clip import Clip
from data.source import Skipped
from tokenizer.codec import Codec
from tokenizer.evaluate import evaluate
from tokenizer.metrics import psnr, squared_error, ssim


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
            assert report.left_out == {"1.0": 1}  # a 7x7 clip has half a token a frame at most
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
