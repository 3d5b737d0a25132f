"""The command study: one file in, curves, gaps, table and page out; resumed equals fresh."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import kinolex
from tokenizer.studies import coders
from tokenizer.studies import study as module
from tokenizer.studies.classical import ENCODERS, MissingEncoder
from tokenizer.studies.curve import load_curve
from tokenizer.studies.plan import read_plan
from tokenizer.studies.study import StudyReport, study

ROOT = Path(__file__).parents[1]
TINY = {
    "data.batch_size": 2,
    "data.held_out": 2,
    "model.block_frames": 4,
    "model.recipe.crop": 8,
    "model.backbone.init_args.channels": 8,
    "model.backbone.init_args.latent_channels": 8,
    "model.backbone.init_args.latent_blocks": 1,
    "trainer.enable_progress_bar": False,
    "precision": "32-true",
}


def shipped() -> dict[str, Any]:
    """configs/study/rates.yaml on tiny clips, its training two steps long."""
    content = yaml.safe_load((ROOT / "configs/study/rates.yaml").read_text())
    content["clips"] |= {"num_clips": 3, "num_frames": 4, "height": 16, "width": 16}
    training = content["curves"][0]["train"]
    training["set"] |= TINY
    del training["minutes"]
    training["steps"] = 2
    return content


def write(content: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(scope="module", autouse=True)
def at_root() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # where the study's paths start
        yield


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyReport]:
    folder = tmp_path_factory.mktemp("fresh")
    return folder / "out", study(write(shipped(), folder), folder / "out")


def content_of(out: Path) -> dict[str, Any]:
    """All that a study says, without times."""
    curves = {file.name: load_curve(file) for file in sorted((out / "curves").iterdir())}
    return {"curves": curves, "bd": json.loads((out / "bd.json").read_text())}


def test_a_study_leaves_all_that_is_promised(fresh: tuple[Path, StudyReport]) -> None:
    out, report = fresh
    names = [curve.name for curve in read_plan(ROOT / "configs/study/rates.yaml").curves]
    there = [curve.name for curve in report.chapters[0].curves]
    assert there == [name for name in names if not any(name in lost for lost in report.missing)]
    assert report.chapters[0].num_clips == 3 and all(
        curve.measured for curve in report.chapters[0].curves
    )
    loaded = [load_curve(curve.file) for curve in report.chapters[0].curves]
    assert len({curve.protocol["clips"] for curve in loaded}) == 1
    with (out / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(curve.num_points for curve in loaded)
    for row, (curve, point) in zip(
        rows, [(c, i) for c in loaded for i in range(c.num_points)], strict=True
    ):
        assert row["curve"] == curve.name and row["point"] == curve.protocol["points"][point]
        assert float(row["psnr-rgb"]) == curve.metric("psnr-rgb")[point]
        assert json.loads(row["protocol"])["clips"] == curve.protocol["clips"]
    page = (out / "report.html").read_text()
    assert page.count("<svg viewBox") >= 6 and "://" not in page
    assert all(name in page for name in there)
    compared = json.loads((out / "bd.json").read_text())
    assert compared["anchor"] == "x264"
    pairs = {(gap["curve"], gap["quality"]) for gap in compared["comparisons"]}
    assert pairs == {(n, q) for n in there if n != "x264" for q in ("psnr-rgb", "ssim-rgb")}
    for gap in compared["comparisons"]:
        assert gap["bd_rate"] or any("no common range" in reason for reason in gap["reasons"])


def test_a_broken_off_study_goes_on_to_the_same_end(
    fresh: tuple[Path, StudyReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(fresh[0] / "runs", out / "runs")
    plain = module.measure

    def interrupted(coder: Any, source: Any, name: str, *rest: Any, **more: Any) -> Any:
        if name == "x265":
            raise KeyboardInterrupt
        return plain(coder, source, name, *rest, **more)

    settings = (out / "runs/elastic-1/asked.json").read_text()
    asked = settings.replace(str(fresh[0]), str(out))
    assert asked == settings  # a run does not depend on where it stands
    file = write(shipped(), tmp_path)
    monkeypatch.setattr(module, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study(file, out)
    assert not (out / "bd.json").exists()
    monkeypatch.setattr(module, "measure", plain)
    report = study(file, out)
    kept = [curve.name for curve in report.chapters[0].curves if not curve.measured]
    assert kept == ["elastic", "x264"]
    whole, parts = content_of(fresh[0]), content_of(out)
    for name, curve in whole["curves"].items():  # one by one: so that a failure tells which
        assert parts["curves"][name].clips == curve.clips, name
    assert parts == whole
    times = {file: file.stat().st_mtime_ns for file in (out / "curves").iterdir()}
    assert not any(curve.measured for curve in study(file, out).chapters[0].curves)
    assert times == {file: file.stat().st_mtime_ns for file in (out / "curves").iterdir()}


def small(**changes: Any) -> dict[str, Any]:
    clips = {"source": "scenes:easy", "num_clips": 2, "num_frames": 3, "height": 16, "width": 16}
    curve = {"name": "x264", "encoder": "x264", "crf": [20, 30]}
    return {"name": "small", "clips": clips, "curves": [{**curve, **changes}]}


def test_a_changed_study_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    study(write(small(), tmp_path), out)
    renamed = study(write(small(description="told"), tmp_path), out)
    assert not renamed.chapters[0].curves[0].measured and "changed" not in capsys.readouterr().err
    assert load_curve(renamed.chapters[0].curves[0].file).description == "told"
    changed = study(write(small(crf=[20, 30, 40]), tmp_path), out)
    assert changed.chapters[0].curves[0].measured and changed.chapters[0].curves[0].num_points == 3
    assert "x264: points changed" in capsys.readouterr().err
    content = small(crf=[20, 30, 40])
    content["clips"]["num_clips"] = 3
    assert study(write(content, tmp_path), out).chapters[0].curves[0].measured
    said = capsys.readouterr().err
    assert "num_clips" in said and "clips changed" in said


def test_a_changed_training_is_trained_again(
    fresh: tuple[Path, StudyReport],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, content = tmp_path / "out", shipped()
    shutil.copytree(fresh[0] / "runs", out / "runs")
    content["curves"] = content["curves"][:1]
    content["anchor"] = "elastic"
    content["curves"][0]["train"]["steps"] = 3
    monkeypatch.setattr("tokenizer.training.fit", lambda argv: (_ for _ in ()).throw(Asked(argv)))
    with pytest.raises(Asked) as caught:
        study(write(content, tmp_path), out)
    assert "--trainer.max_steps=3" in caught.value.args[0]
    assert not any("ckpt_path" in word for word in caught.value.args[0])
    assert "its settings changed: trained again" in capsys.readouterr().err
    (out / "runs/elastic-1/checkpoints").mkdir()
    (out / "runs/elastic-1/checkpoints/last.ckpt").touch()
    with pytest.raises(Asked) as caught:  # broken off: not finished, but there is a checkpoint
        study(write(content, tmp_path), out)
    assert "--ckpt_path=last" in caught.value.args[0]


class Asked(Exception):
    """What training was asked for."""


def test_a_missing_encoder_is_named_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = small()
    content["curves"].append({"name": "vp9", "encoder": "vp9", "crf": [30]})
    whole = coders.ClassicalCoder

    def without(name: Any, *rest: Any) -> Any:
        if name == "vp9":
            raise MissingEncoder("vp9: not here")
        return whole(name, *rest)

    monkeypatch.setattr(coders, "ClassicalCoder", without)
    report = study(write(content, tmp_path), tmp_path / "out")
    assert report.missing == ["vp9: vp9: not here"] and len(report.chapters[0].curves) == 1
    assert "vp9: not here" in capsys.readouterr().err
    assert "vp9: not here" in (tmp_path / "out/report.html").read_text()
    assert json.loads((tmp_path / "out/bd.json").read_text())["missing"] == report.missing


def test_curves_made_before_and_ready_codecs_join_in(tmp_path: Path, run_folder: Path) -> None:
    published = tmp_path / "published.json"
    results = {"bpp": [0.5, 1, 2, 4], "psnr-rgb": [20, 25, 30, 35]}
    published.write_text(json.dumps({"name": "bpg", "results": results}))
    content = small(crf=[10, 20, 30, 40])
    content["curves"] += [
        {"name": "published", "curve": str(published)},
        {"name": "ready", "codec": str(run_folder), "shares": [0.5]},
    ]
    report = study(write(content, tmp_path), tmp_path / "out")
    assert [curve.num_points for curve in report.chapters[0].curves] == [4, 4, 2]
    gaps = {(gap.curve, gap.quality): gap for gap in report.chapters[0].comparisons}
    assert gaps["published", "psnr-rgb"].bd_rate is not None
    assert ("published", "ssim-rgb") not in gaps
    assert "has 2 points" in " ".join(gaps["ready", "psnr-rgb"].reasons)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = write(small(), tmp_path), tmp_path / "out"
    assert kinolex.main(["study", str(file), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "x264" in text and "PSNR dB" in text and str(out / "report.html") in text
    assert kinolex.main(["study", str(file), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (
        told["chapters"][0]["num_clips"] == 2
        and told["chapters"][0]["curves"][0]["measured"] is False
    )
    assert kinolex.main(["study", str(file), "--out", str(file)]) == 2
    assert "is a file: give a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"curves": []}, "curves: give a list of at least one"),
        ({"curves": [3]}, r"curves\[0\]: give keys and values: name"),
        ({"curves": [{"name": "a"}]}, r"curves\[0\]: give one of encoder, codec, train, curve"),
        ({"curves": [{"name": "a", "cfr": [2]}]}, r"curves\[0\]: unknown key 'cfr'"),
        (
            {"curves": [{"name": "a", "codec": "b", "curve": "c"}]},
            "give one of .*: it has codec and curve",
        ),
        ({"curves": [{"name": "a", "codec": "b", "crf": [2]}]}, "crf has no effect on a curve of"),
        ({"curves": [{"name": "a", "encoder": "x264"}]}, "an encoder wants crf"),
        ({"curves": [{"name": "a", "encoder": "x266", "crf": [1]}]}, "encoder=x266: give one of"),
        ({"curves": [{"name": "a", "encoder": "x264", "crf": ["x"]}]}, "crf=.*give a list of num"),
        ({"curves": [{"encoder": "x264", "crf": [1]}]}, "required: name"),
        ({"curves": [{"name": "-", "codec": "b"}]}, "name '-' has no letter"),
        (
            {"curves": [{"name": "a b", "codec": "c"}, {"name": "A-b", "codec": "c"}]},
            "would share a file",
        ),
        (
            {"curves": [{"name": "a", "train": {"config": "none.yaml", "steps": 1}}]},
            r"curves\[0\].train\[0\]: no config none.yaml",
        ),
        (
            {"curves": [{"name": "a", "train": {"config": "configs/tokenizer/base.yaml"}}]},
            "training without an end",
        ),
        ({"clips": {"sorce": "a"}}, "clips: unknown key 'sorce'"),
        ({"clips": {"source": "a", "height": "x"}}, "clips: height=x: give a whole number"),
        ({"clips": None}, "clips: give keys and values: source"),
        ({"anchor": "none"}, "anchor: no curve is called 'none'"),
        ({"nam": 3}, "unknown key 'nam'"),
    ],
)
def test_what_is_wrong_in_a_study_is_named(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = write({**small(), **change}, tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        read_plan(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_what_is_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such study"):
        read_plan(tmp_path / "none.yaml")
    file = tmp_path / "study.yaml"
    for text, message in (("[", "not YAML"), ("3", "not a study"), ("", "not a study")):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_plan(file)


def test_all_encoders_are_in_the_shipped_study() -> None:
    content = shipped()
    assert {curve.get("encoder") for curve in content["curves"]} >= set(ENCODERS)


def test_sets_are_chapters_measured_with_the_same_coders(tmp_path: Path, run_folder: Path) -> None:
    content = small(crf=[20, 30, 40, 50])
    content["frechet"] = True
    content["curves"] += [
        {"name": name, "codec": str(run_folder), "coding": "adaptive"} for name in ("one", "two")
    ]
    published = tmp_path / "published.json"
    published.write_text('{"results": {"bpp": [1, 2], "psnr-rgb": [20, 25]}}')
    content["curves"].append({"name": "published", "curve": str(published), "clips": ["easy"]})
    plain = content["clips"]
    content["clips"] = [
        {**plain, "name": "easy"},
        {**plain, "name": "hard", "source": "scenes:hard"},
    ]
    out = tmp_path / "both"
    report = study(write(content, tmp_path), out)
    assert [chapter.clips for chapter in report.chapters] == ["easy", "hard"]
    assert [len(chapter.curves) for chapter in report.chapters] == [4, 3]
    content["clips"] = content["clips"][1]
    del content["clips"]["name"], content["curves"][-1]
    alone = study(write(content, tmp_path), tmp_path / "alone")
    for both, own in zip(report.chapters[1].curves, alone.chapters[0].curves, strict=True):
        assert Path(both.file).parent == out / "hard/curves"
        assert load_curve(both.file) == load_curve(own.file)
        assert len(load_curve(own.file).metric("frechet-random3d")) == own.num_points
    with (out / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["clips"] for row in rows} == {"easy", "hard"}
    for row in rows:
        if row["curve"] == "published":  # no clips: no intervals
            assert row["psnr-rgb low"] == row["psnr-rgb high"] == ""
            continue
        assert float(row["psnr-rgb low"]) <= float(row["psnr-rgb"]) <= float(row["psnr-rgb high"])
