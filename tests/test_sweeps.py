"""Sweeps of a study: one curve for each combination, each a curve as if it were written out."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from tokenizer.studies.plan import read_plan

BASE, VQ = "configs/tokenizer/base.yaml", "configs/tokenizer/quantizer/vq.yaml"
CLIPS = {"source": "scenes:easy", "num_clips": 2}


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])  # where configs' paths start


def read(folder: Path, *curves: dict[str, Any], **others: Any):
    file = folder / "study.yaml"
    content = {"name": "s", "clips": CLIPS, "curves": list(curves), **others}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return read_plan(file)


def test_a_sweep_is_its_curves_written_out(tmp_path: Path) -> None:
    crops, configs = (0, 8), {"FSQ": [BASE], "VQ": [BASE, VQ]}
    sweep = {"quantizer": {"FSQ": None, "VQ": VQ}, "model.recipe.crop": list(crops), "steps": [5]}
    train = {"config": BASE, "set": {"precision": "32-true"}}
    swept = read(tmp_path, {"name": "a", "coding": "static", "train": train, "sweep": sweep})
    written = [
        {
            "name": f"a {name}, crop {crop}, steps 5",
            "coding": "static",
            "train": {
                "config": configs[name],
                "set": {"precision": "32-true", "model.recipe.crop": crop},
                "steps": 5,
            },
        }
        for name, crop in product(configs, crops)
    ]
    assert swept == read(tmp_path, *written)


def test_a_curves_own_settings_are_axes_too(tmp_path: Path) -> None:
    sweep = {"options.preset": ["fast", "slow"], "pixels": ["yuv420p", "yuv444p"]}
    curve = {"name": "x", "encoder": "x264", "crf": [20], "options": {"tune": "psnr"}}
    curves = read(tmp_path, {**curve, "sweep": sweep}).curves
    assert [one.name for one in curves][:2] == ["x fast, yuv420p", "x fast, yuv444p"]
    assert [(one.options or {})["preset"] for one in curves] == ["fast", "fast", "slow", "slow"]
    assert all((one.options or {})["tune"] == "psnr" for one in curves)


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ({"sweep": {}}, r"curves\[0\]: sweep: give axes"),
        ({"sweep": {"crf": []}}, "sweep.crf: give a list of values"),
        ({"sweep": {"coding": "static"}}, "sweep.coding: give a list of values"),
        ({"sweep": {"steps": [3]}}, "sweep.steps: no setting of a curve, and this one trains"),
        ({"sweep": {"crf": [[n] for n in range(201)]}}, "201 curves, at most 200"),
        ({"sweep": {"coding": ["static"]}}, "coding has no effect on a curve of encoder"),
    ],
)
def test_what_is_wrong_in_a_sweep_is_named(
    curve: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, {"name": "x", "encoder": "x264", "crf": [20], **curve})


def test_sets_of_clips_want_names(tmp_path: Path) -> None:
    curve = {"name": "x", "encoder": "x264", "crf": [20]}
    named = [{**CLIPS, "name": "one"}, {**CLIPS, "name": "Two"}]
    assert [c.file_name for c in read(tmp_path, curve, clips=named).clips] == ["one", "two"]
    for wrong in ([CLIPS, CLIPS], [named[0], named[0]], []):
        with pytest.raises(ValueError, match="each wants a name"):
            read(tmp_path, curve, clips=wrong)
    with pytest.raises(ValueError, match="no clips called 'three'"):
        read(tmp_path, {**curve, "clips": ["three"]}, clips=named)
    with pytest.raises(ValueError, match="has a folder runs already"):
        read(tmp_path, curve, clips=[named[0], {**CLIPS, "name": "runs"}])


def test_settings_of_trainings_that_say_nothing_are_named(tmp_path: Path) -> None:
    train = {"config": BASE, "steps": 1, "rates": [1]}
    with pytest.raises(ValueError, match="rates and shares have no effect"):
        read(tmp_path, {"name": "a", "train": train, "rates": [2]})
    with pytest.raises(ValueError, match="prior is for a curve of one codec"):
        read(tmp_path, {"name": "a", "codec": ["b", "c"], "prior": "p"})
