"""Diagnosis: each probe finds what was planted, and nothing where nothing was."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.clip import Clip
from data.folder import Folder
from data.folder_writing import write_folder
from data.source import Skipped, parts_of
from kinolex import main
from tokenizer.backbone import ConvBackbone
from tokenizer.codec import Codec
from tokenizer.diagnosing import diagnose, write_diagnosis
from tokenizer.evaluate import evaluate
from tokenizer.layers import Past
from tokenizer.leaks import check_leaks
from tokenizer.metrics import moving
from tokenizer.probes import (
    BorderProbe,
    ContentProbe,
    DriftProbe,
    FlickerProbe,
    PositionProbe,
    Shown,
)
from tokenizer.quantizer import FSQ
from tokenizer.rate import Rate

BLOCK = 4


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))


def show(probes: list, frames: Tensor, decoded: Tensor, **fields: object) -> None:
    """A clip (T, 3, H, W) to probes, block by block."""
    frames, decoded = frames.float(), decoded.float()
    before = None
    for first in range(0, len(frames), BLOCK):
        x, y = frames[first : first + BLOCK], decoded[first : first + BLOCK]
        times = torch.arange(first, first + len(x), dtype=torch.float64) / 10
        mask = moving(x, None if before is None else before[0])
        known = {"codes": torch.tensor([1]), "labels": {}, **fields}
        for probe in probes:
            probe.add(Shown(x, y, before, mask, times, **known))  # pyright: ignore
        before = x[-1], y[-1]
    for probe in probes:
        probe.end_clip()


class Clips:
    """A source of two moving clips and a third, shorter one, with labels."""

    name, skipped = "made up", list[Skipped]()

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Clip:
        frames = noise(((10, 9, 3)[index], 3, 12, 20), index).to(torch.uint8)
        return Clip.from_frames(frames, 8, labels={"kind": "ab"[index % 2]}, source=f"clip {index}")


def test_borders_are_found_and_only_where_they_are() -> None:
    x = torch.full((12, 3, 4, 4), 100.0)
    probe, even = BorderProbe(BLOCK), BorderProbe(BLOCK)
    for _ in range(3):
        y = x.clone()
        y[[3, 4, 7, 8]] += 10  # beside both borders
        y[[1, 2, 5, 6, 9, 10]] += 1
        show([probe], x, y)
        show([even], x, x + 5)
    found = probe.result().error_db
    assert found is not None and found.value == found.low == found.high == pytest.approx(20)
    flat = even.result()
    assert flat.error_db is not None and flat.error_db.value == pytest.approx(0)
    assert flat.change_db is None  # a constant error never changes: 0 against 0
    assert len(flat.psnr_by_position) == BLOCK


def test_change_at_seams_is_told_from_change_within() -> None:
    x = torch.full((8, 3, 4, 4), 100.0)
    y = x + torch.tensor([0.0, 1, 0, 1, 11, 12, 11, 12]).view(-1, 1, 1, 1)
    probe = BorderProbe(BLOCK)
    show([probe], x, y)
    found = probe.result().change_db
    assert found is not None and found.value == pytest.approx(20)
    assert found.low is None  # one clip


def test_flicker_counts_only_where_nothing_moves() -> None:
    x = torch.full((8, 3, 4, 4), 50.0)
    x[:, :, :, 2:] += 40 * (torch.arange(8) % 2).view(-1, 1, 1, 1)  # the right half moves
    x[:, :, :, :2] += 2 * (torch.arange(8) % 2).view(-1, 1, 1, 1)  # the left one hums
    y = x.clone()
    y[:, :, :, :2] = 50 + 6 * (torch.arange(8) % 2).view(-1, 1, 1, 1)
    y[:, :, :, 2:] = noise((8, 3, 4, 2)).float()  # whatever happens there
    probe = FlickerProbe()
    show([probe], x, y)
    found = probe.result()
    assert (found.original, found.decoded) == pytest.approx((2, 6))
    assert found.ratio is not None and found.ratio.value == pytest.approx(3)


def test_a_still_original_has_no_ratio() -> None:
    x = torch.full((6, 3, 4, 4), 50.0)
    probe = FlickerProbe()
    show([probe], x, x + (torch.arange(6) % 2).view(-1, 1, 1, 1))
    found = probe.result()
    assert found.ratio is None and found.decoded == pytest.approx(1) and found.original == 0


def test_drift_is_a_slope_per_second() -> None:
    probe = DriftProbe()
    for length in (9, 6):
        x = noise((length, 3, 4, 4), length).float()
        show([probe], x, x + 3 + 0.5 * torch.arange(length).view(-1, 1, 1, 1))  # 5 a second
    found = probe.result()
    assert found.slope is not None and found.slope.value == pytest.approx(5, abs=1e-4)
    assert found.slope.low == pytest.approx(5, abs=1e-4)
    assert [p.frame for p in found.by_frame] == list(range(9))
    assert [p.bias for p in found.by_frame] == pytest.approx(
        [3 + i / 2 for i in range(9)], abs=1e-4
    )


def test_codes_by_position() -> None:
    probe = PositionProbe(2**20)  # a codebook too large for many tables
    x = torch.zeros(4, 3, 2, 2)
    show([probe], x, x, codes=torch.arange(100))
    show([probe], x, x, codes=torch.zeros(100, dtype=torch.int64))
    found = probe.result()
    assert [(use.first, use.last) for use in found][-2:] == [(32, 63), (64, 127)]
    assert [use.tokens for use in found[:2]] == [2, 2] and sum(u.tokens for u in found) == 200
    assert found[0].perplexity == pytest.approx(1) and found[1].perplexity == pytest.approx(2)
    assert int(probe.all.counts.sum()) == 200


def test_content_groups_hold_every_block_once() -> None:
    probe = ContentProbe()
    for seed, kind in enumerate("aab"):
        x = noise((6, 3, 6, 6), seed)
        show([probe], x, x + 1 + seed, labels={"kind": kind, "alike": "always"})
    found = probe.result(most=5)
    for by in ("moving", "detail"):
        assert sum(item.count for item in found if item.by == by) == 6
    kinds = {item.group: (item.count, item.psnr) for item in found if item.by == "kind"}
    assert kinds["b"] == (1, pytest.approx(20 * math.log10(255 / 3)))
    assert kinds["a"] == (2, pytest.approx(10 * math.log10(255**2 / 2.5)))
    assert not any(item.by == "alike" for item in found)  # one value tells nothing
    assert not any(item.by == "kind" for item in probe.result(most=1))


class LeakyEncoder(ConvBackbone):
    """Sees a trace of all the blocks that are coded with it."""

    def encode(self, pixels: Tensor, level: Tensor, past: Past) -> Tensor:
        return super().encode(pixels + 0.5 * pixels.mean(0), level, past)


class LeakyDecoder(ConvBackbone):
    """Lets the last block shine through all."""

    def decode(
        self, vectors: Tensor, hops: Tensor, grid: tuple[int, int, int], past: Past, counts: Tensor
    ) -> Tensor:
        return super().decode(vectors + 1e-3 * vectors[-1:], hops, grid, past, counts)


class Forgetful(ConvBackbone):
    """Keeps what it saw on the module: the next stream starts from it."""

    def encode(self, pixels: Tensor, level: Tensor, past: Past) -> Tensor:
        seen, self.seen = getattr(self, "seen", 0.0), pixels.mean()
        return super().encode(pixels + seen, level, past)


@pytest.mark.parametrize(
    ("kind", "leaking"),
    [
        (ConvBackbone, set()),
        (LeakyEncoder, {"parallel"}),
        (LeakyDecoder, {"parallel"}),
        (Forgetful, {"parallel", "stream"}),
    ],
)
def test_leaks_are_found(kind: Callable[..., ConvBackbone], leaking: set[str]) -> None:
    torch.manual_seed(0)
    codec = Codec(kind(channels=8, latent_channels=8), FSQ(), block_frames=BLOCK).eval()
    for parameter in codec.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    checks = check_leaks(codec, noise((5, 3, 16, 24)).to(torch.uint8))
    assert {check.way for check in checks if check.leaks} == leaking
    if kind is LeakyDecoder:
        assert checks[0].codes_changed == 0  # the decoder's leak changes no code


def test_the_whole_agrees_with_evaluation(codec: Codec, tmp_path: Path) -> None:
    found = diagnose(codec, [Clips(), Clips()])
    scored = evaluate(codec, Clips())
    assert len(found.sources) == 2 and found.sources[0] == found.sources[1]
    source = found.sources[0]
    assert source.score == pytest.approx(scored.rates[0].score)
    assert source.baselines["mean colour"].psnr == scored.baselines["mean colour"].psnr
    assert source.baselines["first frame"].psnr == scored.baselines["first frame"].psnr
    assert source.perplexity == scored.rates[0].perplexity
    assert (source.num_frames, source.sizes) == (22, ["12x20"])
    assert not any(leak.leaks for leak in source.leaks) and len(source.leaks) == 2
    used = {int(c) for i in range(3) for b in codec.encode(Clips()[i]).codes for c in b}
    assert found.dead_codes == [c for c in range(1000) if c not in used]
    less = diagnose(codec, [Clips()], Rate(share=0.5), num_clips=1)
    assert less.sources[0].tokens_per_frame < source.tokens_per_frame
    written = write_diagnosis(found, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert told == json.loads(json.dumps(dataclasses.asdict(written)))
    text = (tmp_path / "out" / "report.html").read_text()
    assert text.count("<svg") >= 4 and "made up" in text


def test_clips_of_a_folder_come_in_parts(tmp_path: Path) -> None:
    frames = noise((11, 3, 16, 16)).to(torch.uint8)
    noisy = Clip.from_frames(frames, 8, captions=("noise",))
    write_folder([noisy], tmp_path / "f" / "heldout")
    for wanted in (None, 6):
        source = Folder(tmp_path / "f", "heldout", num_frames=wanted)
        whole, parts = source[0], list(parts_of(source, 0, 4))
        assert [len(part) for part in parts] == [4, 4, 3] if wanted is None else [4, 2]
        assert torch.equal(torch.cat([part.frames for part in parts]), whole.frames)
        assert torch.equal(torch.cat([part.timestamps for part in parts]), whole.timestamps)
        assert all(part.captions == whole.captions for part in parts)


def test_command(codec: Codec, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codec.save(tmp_path / "model")
    write_folder([Clips()[0]], tmp_path / "clips" / "heldout", suffix=".mkv")
    words = ["tokenizer", "diagnose", "--model", str(tmp_path / "model"), "--num-clips", "1"]
    words += ["--source", "scenes:easy", "scenes:hard", str(tmp_path / "clips"), "--height", "16"]
    words += ["--width", "16", "--out", str(tmp_path / "out")]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["sources"]) == 3 and told["out"] == str(tmp_path / "out")
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "block borders" in text and "dead" in text and "LEAKS" not in text
    with pytest.raises(SystemExit):
        main(words[:4])
    assert "required: source" in capsys.readouterr().err
