"""Backbones compared: counts by hand, exponents of known powers, kept rows, explained gaps."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import kinolex
from tokenizer.attention import ALIGNED, Attention, Positions, View, centres
from tokenizer.backbone import ConvBackbone
from tokenizer.codec import Codec
from tokenizer.convolution import small_conv3d
from tokenizer.layers import BlockConv3d, Past
from tokenizer.quantizer import FSQ
from tokenizer.recipe import Recipe
from tokenizer.studies import backbones as module
from tokenizer.studies.backbone_report import (
    BackboneComparison,
    BackboneReport,
    Measured,
    growth_of,
    notes_of,
    tables,
)
from tokenizer.studies.costs import (
    Cost,
    Design,
    Kind,
    Manner,
    Shape,
    count_operations,
    measure_cost,
    peak_memory,
)
from tokenizer.studies.scaling import fit_exponent

ROOT = Path(__file__).parents[1]
MANNER = Manner(repeats=1, precision="fp32", clock="cpu", threads=1, seed=0)


def design(**sizes: int) -> Design:
    backbone = ConvBackbone(channels=4, latent_channels=4, blocks=0, latent_blocks=0, **sizes)
    return Design.of(Codec(backbone, FSQ((8, 5, 5, 5)), block_frames=4), Recipe())


# --- operations


def test_a_convolution_counts_as_by_hand() -> None:
    layer, x = BlockConv3d(5, 7), torch.randn(2, 5, 4, 6, 8)
    by_hand = 2 * (2 * 4 * 6 * 8) * 7 * 5 * 27  # places out, channels out and in, taps

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return layer(x, Past())

    assert count_operations(forward) == by_hand


def test_a_trained_convolution_counts_three_times_its_forward_pass() -> None:
    """The input's gradient and the weight's are as large as the pass itself."""
    x = torch.randn(2, 5, 4, 6, 8, requires_grad=True)
    weight, bias = torch.randn(7, 5, 3, 3, 3, requires_grad=True), torch.zeros(7)
    forward = 2 * (2 * 2 * 6 * 8) * 7 * 5 * 27

    def work() -> None:
        F.conv3d(x, weight, bias, padding=(0, 1, 1)).sum().backward()

    assert count_operations(work) == 3 * forward


def test_the_own_kernel_of_tiny_pictures_is_counted_without_what_it_leaves_out() -> None:
    x = torch.randn(3, 5, 4, 2, 2, requires_grad=True)
    weight = torch.randn(7, 5, 3, 3, 3, requires_grad=True)
    bias = torch.zeros(7, requires_grad=True)
    forward = 2 * (3 * 2 * 2 * 2) * 7 * 5 * 27
    inside = sum((2 - abs(h)) * (2 - abs(w)) for h in (-1, 0, 1) for w in (-1, 0, 1))
    gradient = 2 * (3 * 2 * inside) * 7 * 5 * 3  # of the weight: no product with the border
    assert count_operations(lambda: small_conv3d(x, weight, bias).sum().backward()) == (
        2 * forward + gradient
    )


@pytest.mark.parametrize("joint", [True, False])
def test_attention_counts_as_by_hand(joint: bool) -> None:
    blocks, height, width, times, channels, heads, back = 2, 2, 3, 4, 24, 3, 2
    places = height * width
    attention = Attention(channels, heads, View(back), joint)
    grid = centres(height, width, 8, torch.device("cpu"))
    x = torch.randn(blocks, places, times, channels)
    maps = 4 * 2 * blocks * places * times * channels**2  # query, key, value, out
    own = times * (places if joint else 1)
    seen = (times + back) * (places if joint else 1)
    sets = blocks * (1 if joint else places) * heads
    rows, size = (
        -(-own // ALIGNED) * ALIGNED,
        ALIGNED,
    )  # filled up with zeros
    products = 2 * 2 * sets * rows * seen * size  # with the keys, then with the values

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return attention(x, x, Positions(grid, grid, (2, 8)), Past())

    assert count_operations(forward) == maps + products


# --- exponents


@given(
    power=st.floats(-2, 3),
    factor=st.floats(1e-3, 1e6),
    sizes=st.lists(st.integers(1, 10**6), min_size=3, max_size=6, unique=True),
)
def test_a_known_power_is_found(power: float, factor: float, sizes: list[int]) -> None:
    found = fit_exponent([(x, factor * x**power) for x in sizes])
    assert found.value == pytest.approx(power, abs=1e-6)
    assert found.last == pytest.approx(power, abs=1e-4)
    assert found.num_points == len(sizes) and found.note == ""
    if found.r2 is not None:
        assert found.r2 == pytest.approx(1, abs=1e-6)


def test_a_constant_part_is_told_of() -> None:
    found = fit_exponent([(x, 100 + x**2) for x in (4, 16, 64)])
    assert found.value is not None and found.last is not None
    assert found.value < found.last < 2
    assert "constant part" in found.note and f"/{found.last:.2f}" in str(found)


def test_few_points_are_told_of() -> None:
    assert "two points" in fit_exponent([(1, 1), (2, 4)]).note
    lone = fit_exponent([(1, 1), (2, 0)])
    assert lone.value is None and lone.note.startswith("1 of 2 points") and str(lone) == ""


# --- costs


def test_the_peak_of_a_process_is_seen() -> None:
    before = peak_memory()
    held = torch.ones(2**26)  # 256 MiB, whatever was given back before
    assert peak_memory() >= before
    assert peak_memory() >= held.nbytes / 2**20


def test_costs_of_a_codec_and_what_is_refused() -> None:
    shape = Shape(clips=2, frames=4, height=16, width=16, block_frames=4)
    coded = measure_cost(design(), "clip", shape, MANNER)
    trained = measure_cost(design(), "step", shape, MANNER)
    for cost in (coded, trained):
        assert cost.reason is None
        assert cost.operations and cost.seconds and cost.memory is not None
    assert (trained.operations or 0) > 2 * (coded.operations or 0)
    refused = measure_cost(design(), "clip", replace(shape, block_frames=3), MANNER)
    assert refused == Cost(reason=refused.reason) and "time_stride=2" in (refused.reason or "")


def test_a_size_beyond_all_memory_is_a_reason() -> None:
    shape = Shape(clips=1, frames=4, height=2**21, width=2**21, block_frames=4)
    assert measure_cost(design(), "clip", shape, MANNER).reason == "out of memory"


class Deadly(ConvBackbone):
    """A network that ends its process without a word."""

    def encode(self, *args: Any) -> torch.Tensor:
        import os

        os._exit(3)


def test_a_process_that_dies_is_a_reason() -> None:
    shape = Shape(clips=1, frames=4, height=8, width=8, block_frames=4)
    made = replace(design(), backbone=Deadly)
    assert "exit code 3" in (measure_cost(made, "step", shape, MANNER).reason or "")


# --- the command


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Kind, Shape]]]:
    """Costs made up in place of measured ones, and what was asked for."""
    asked: list[tuple[str, Kind, Shape]] = []

    def cost(design: Design, kind: Kind, shape: Shape, manner: Manner) -> Cost:
        asked.append((design.backbone.__name__, kind, shape))
        if shape.height == 24 and design.backbone is ConvBackbone:
            return Cost(reason="out of memory")
        size = shape.frames * shape.height * shape.width
        return Cost(size**2 if kind == "step" else size, 100 + size, 1e-3 * size)

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(module, "measure_cost", cost)
    yield asked


WORDS = ["tokenizer", "compare-backbones", "--backbones", "configs/tokenizer/base.yaml"]
WORDS += ["configs/tokenizer/backbone/conv3d.yaml", "--sizes", "16", "24", "32", "--frames", "8"]
WORDS += ["16", "32", "--block-frames", "8"]


def test_rows_are_kept_and_gaps_explained(
    at_root: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    def run(*words: str) -> dict[str, Any]:
        at_root.clear()
        assert kinolex.main([*WORDS, *words, "--out", str(out), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    first = run()
    assert [row["name"] for row in first["backbones"]] == ["base", "conv3d"]
    assert len(at_root) == 2 * 2 * 5  # backbones, kinds, shapes
    growth = {(g["kind"], g["measure"], g["axis"]): g for g in first["backbones"][0]["growth"]}
    assert growth["step", "operations", "area"]["exponent"]["value"] == pytest.approx(2)
    assert growth["clip", "seconds", "frames"]["exponent"]["value"] == pytest.approx(1)
    assert not any(axis == "block" for *_, axis in growth)  # one length is no line
    assert any("conv3d, step, 8x24x24" in note and "memory" in note for note in first["notes"])

    again = run()
    assert {name for name, *_ in at_root} == {"ConvBackbone"}  # only what had no figure
    assert {shape.height for *_, shape in at_root} == {24}
    assert again == first

    run("--frames", "8", "64", "--sizes", "16")
    assert {shape.frames for *_, shape in at_root} == {64}
    run("--repeats", "1")
    assert len(at_root) == 2 * 2 * 5  # measured another way: nothing is kept

    rows = list(csv.DictReader((out / "costs.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * 5
    assert {row["reason"] for row in rows} == {"", "out of memory"}
    assert "8x16x16" in (out / "report.html").read_text()


def test_quality_is_trained_for_and_kept(
    at_root: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(
        "model: {recipe: {crop: 8}, backbone: {class_path: ConvBackbone, init_args: {channels: 8,"
        " latent_channels: 8}}}\ndata: {height: 16, width: 16, batch_size: 2, held_out: 2}\n"
        "trainer: {max_steps: 2, enable_progress_bar: false}\n"
    )

    def compare() -> BackboneReport:
        return module.compare_backbones(
            tmp_path / "out", [tiny], frames=[8], block_frames=[8], sizes=[16], minutes=60,
            num_clips=2, clock="cpu",
        ).backbones[0]  # fmt: skip

    first = compare()
    quality = first.quality
    assert quality is not None
    assert quality.steps == 2 and quality.num_clips == 2 and quality.tokens_per_frame > 0
    monkeypatch.setattr(module, "train", None)  # nothing may train again
    assert compare() == first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "0"], "sizes=0"),
        (["--minutes", "-1"], "minutes=-1"),
        (["--backbones", "nowhere.yaml"], "nowhere.yaml: no such config"),
        (["--backbones", "configs/tokenizer/base.yaml", "configs/lm/base.yaml"], "called base"),
    ],
)
def test_errors_are_one_line(
    at_root: list[Any],
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["tokenizer", "compare-backbones", *words, "--out", str(tmp_path / "out")]
    assert kinolex.main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_foreign_file_is_not_written_over(
    at_root: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base.json").write_text("{}")
    assert kinolex.main([*WORDS, "--out", str(tmp_path)]) == 2
    assert "not a compared backbone's" in capsys.readouterr().err
    assert (tmp_path / "base.json").read_text() == "{}"


def report(name: str, parameters: int) -> BackboneReport:
    shapes = [Shape(2, 8, side, side, 8) for side in (16, 32)]
    costs = [
        Measured(s, ["area"], Cost(10 * s.height, 5.0, 0.25), Cost(reason="refused"))
        for s in shapes
    ]
    return BackboneReport(name, "Net", parameters, costs, growth_of(costs), None, "f.json")


def test_unlike_sizes_are_told_and_figures_are_a_clip_s() -> None:
    rows = [report("a", 100), report("b", 100), report("c", 400)]
    notes = notes_of(rows)
    assert [note for note in notes if "parameters" in note] == [
        "c has 4 times the median of parameters: its row compares size as well as kind"
    ]
    found = BackboneComparison(rows, Shape(2, 8, 16, 16, 8), MANNER, {}, notes, "page")
    _, head, cells = tables(found)[0]
    told = dict(zip(head, cells[0], strict=True))
    assert told["clip ms"] == "125" and told["step ms"] == ""
    assert told["of median"] == "1.00"
