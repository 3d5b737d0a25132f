"""Curves: results follow from clips, files read back equal, what is broken is named."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data.clip import Clip
from data.source import Skipped
from tokenizer.codec import Codec
from tokenizer.evaluate import evaluate
from tokenizer.metrics import CodeUsage
from tokenizer.rate import Rate
from tokenizer.studies.comparing import match_tokens
from tokenizer.studies.curve import Curve, load_curve, pool, save_curve
from tokenizer.studies.learned import CodecCoder, codec_curve, prior_of_source
from tokenizer.studies.measuring import measure, survey


class Clips:
    """Three clips of different length, size and motion."""

    name = "three"
    skipped = [Skipped("broken.mp4", "empty")]

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Clip:
        luck = torch.Generator().manual_seed(index)
        shape = ((9, 3, 16, 24), (3, 3, 12, 16), (4, 3, 17, 9))[index]
        frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=luck)
        return Clip.from_frames(frames, fps=4)


@pytest.fixture(scope="module")
def curve(tiny_codec: Codec) -> Curve:
    return codec_curve(tiny_codec, Clips(), "ours", rates=[1.0], shares=[1.0, 0.5, 0.001])


def test_figures_are_those_of_evaluate(tiny_codec: Codec, curve: Curve) -> None:
    shares = [Rate(share=share) for share in (1.0, 0.5, 0.001)]
    report = evaluate(tiny_codec, Clips(), [Rate(1.0), *shares])
    assert len(report.rates) == curve.num_points and not report.left_out
    for number, rate in enumerate(report.rates):
        results = {key: values[number] for key, values in curve.results.items()}
        assert results["psnr-rgb"] == pytest.approx(rate.score.psnr, abs=1e-9)
        assert results["psnr-rgb-mean"] == pytest.approx(rate.score.psnr_mean, abs=1e-9)
        assert results["ssim-rgb"] == pytest.approx(rate.score.ssim, abs=1e-9)
        assert results["psnr-moving"] == pytest.approx(rate.score.psnr_moving, abs=1e-6)
        assert results["tokens-per-frame"] == pytest.approx(rate.tokens_per_frame)
        assert results["bpp-nominal"] == pytest.approx(rate.bits_per_pixel)
        assert results["bpp-packed"] == pytest.approx(rate.packed_bits_per_pixel)
        assert results["bpp"] == results["bpp-packed"] < results["bpp-file"]
    assert curve.protocol["metrics"] == report.protocol and curve.protocol["bpp"] == "packed"
    assert curve.protocol["points"][:2] == ["full rate", "1 tokens a frame"]


def test_bits_per_second_are_the_tokens_own(tiny_codec: Codec, curve: Curve) -> None:
    tokens = [tiny_codec.encode(Clips()[i]) for i in range(3)]
    seconds = [clip.seconds for clip in curve.clips if clip.seconds is not None]
    for item, clip, lasts in zip(tokens, curve.clips, seconds, strict=True):
        assert clip.bits["nominal"][0] / lasts == pytest.approx(item.bits_per_second)
    packed = sum(clip.bits["packed"][0] for clip in curve.clips)
    assert curve.metric("bps")[0] == pytest.approx(packed / sum(seconds))


def test_measured_twice_is_the_same_file_but_for_time(
    tiny_codec: Codec, curve: Curve, tmp_path: Path
) -> None:
    again = measure(CodecCoder([tiny_codec], [1.0], [1.0, 0.5, 0.001]), Clips(), "ours")
    files = []
    for number, one in enumerate((curve, again)):
        save_curve(one, tmp_path / f"{number}.json")
        content = json.loads((tmp_path / f"{number}.json").read_text())
        assert set(content.pop("timing")) == {"encode_seconds", "decode_seconds"}
        files.append({**content, "description": ""})
    assert files[0] == files[1]


def test_a_file_reads_back_equal(curve: Curve, tmp_path: Path) -> None:
    save_curve(curve, tmp_path / "curve.json")
    again = load_curve(tmp_path / "curve.json")
    assert again == curve and again.timing == curve.timing
    content = json.loads((tmp_path / "curve.json").read_text())
    assert {len(values) for values in content["results"].values()} == {curve.num_points}
    assert {"name", "description", "results", "protocol"} <= set(content)


def test_a_draw_of_clips_is_the_curve_of_those_clips(curve: Curve) -> None:
    counts = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
    pooled = pool(curve.clips, counts)
    for row, numbers in enumerate(([0, 2, 2], [1])):
        alone = Curve.of_clips("", "", [curve.clips[i] for i in numbers], {})
        for key, values in alone.results.items():
            assert pooled[key][row] == pytest.approx(values)


def test_coded_bits_become_the_price(tiny_codec: Codec, curve: Curve) -> None:
    prior = prior_of_source(tiny_codec, Clips())
    coded = codec_curve(tiny_codec, Clips(), "coded", prior=prior)
    assert coded.protocol["bpp"] == "coded" and coded.protocol["prior"] == [prior.name]
    assert coded.metric("bpp") == coded.metric("bpp-coded")
    assert coded.metric("bpp-packed") == curve.metric("bpp")[:1]
    assert coded.metric("bpp-coded") <= coded.metric("bpp-packed") < coded.metric("bpp-file")


def test_codes_are_counted_over_all_clips(tiny_codec: Codec, curve: Curve) -> None:
    usage = CodeUsage(tiny_codec.codebook_size)
    for clip in (Clips()[number] for number in range(len(Clips()))):
        usage.update(torch.cat(tiny_codec.encode(clip).codes))
    assert curve.metric("used-codes")[0] == usage.used
    assert curve.metric("entropy")[0] == math.log2(usage.perplexity)


def test_several_codecs_make_one_curve(tiny_codec: Codec, curve: Curve) -> None:
    twice = measure(CodecCoder([tiny_codec, tiny_codec], [1.0]), Clips(), "two")
    psnr = curve.metric("psnr-rgb")[:2]
    assert twice.metric("psnr-rgb") == psnr * 2
    assert all(point.startswith(tiny_codec.codec_id) for point in twice.protocol["points"])


def test_other_clips_have_another_digest() -> None:
    class Changed(Clips):
        def __getitem__(self, index: int) -> Clip:
            clip = super().__getitem__(index)
            if index == 2:
                clip.frames[-1, 0, 0, 0] ^= 1
            return clip

    assert survey(Clips()) == survey(Clips())
    assert survey(Clips()).clips != survey(Changed()).clips


def test_an_impossible_rate_is_named(tiny_codec: Codec) -> None:
    with pytest.raises(ValueError, match="serves 0.5 to"):
        codec_curve(tiny_codec, Clips(), "too much", rates=[100])
    with pytest.raises(ValueError, match="no codec"):
        CodecCoder([])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not a curve"),
        ("{", "damaged curve"),
        ('{"name": "a"}', "not a curve"),
        ('{"results": {}}', "at least one point"),
        ('{"results": {"bpp": []}}', "at least one point"),
        ('{"results": {"bpp": [1, 2], "psnr-rgb": [3]}}', "unequal length: bpp 2, psnr-rgb 1"),
        ('{"results": {"bpp": [NaN]}}', "bpp holds what is no finite number"),
        ('{"results": {"bpp": ["x"]}}', "damaged curve"),
        ('{"results": {"bpp": 3}}', "not a curve"),
        ('{"results": {"bpp": [1]}, "clips": [{"mse": [1]}]}', "not a curve"),
    ],
)
def test_what_is_no_curve_is_named(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "curve.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_curve(file)
    assert str(file) in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no such curve"):
        load_curve(tmp_path / "none.json")


def test_a_curve_made_elsewhere_is_read(tmp_path: Path) -> None:
    file = tmp_path / "published.json"
    file.write_text('{"name": "bpg", "results": {"bpp": [0.1, 0.2], "psnr-rgb": [28, 30]}}')
    curve = load_curve(file)
    assert curve.name == "bpg" and curve.clips == () and curve.metric("bpp") == (0.1, 0.2)


def test_gains_at_equal_tokens_are_of_pairs(curve: Curve) -> None:
    better = replace(
        curve,
        name="better",
        clips=tuple(replace(c, mse=tuple(v / 2 for v in c.mse)) for c in curve.clips),
        results={**curve.results, "psnr-rgb": tuple(v + 3 for v in curve.metric("psnr-rgb"))},
    )
    matches = match_tokens([curve, better], "ours")
    assert [match.curve for match in matches] == ["better"] * curve.num_points
    for match in matches:
        assert match.gain == pytest.approx(3)
        assert match.low is not None and match.high is not None
        half = 10 * math.log10(2)  # whatever clips are drawn, half the error is so many dB
        assert match.low == pytest.approx(half) == match.high
