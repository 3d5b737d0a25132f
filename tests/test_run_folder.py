"""What a training's folder tells of settings, and what configs read without a run need not heed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenizer.run_folder import RunFolder, changed_settings
from tokenizer.training import configured

CONFIGS = Path(__file__).parents[1] / "configs" / "tokenizer"


@pytest.mark.parametrize("before", ["", "just text", "[1, 2]", "{", "7"])
def test_of_what_holds_no_settings_nothing_is_told(before: str) -> None:
    assert changed_settings(before, "data: {batch_size: 3}") == []


def test_settings_are_compared_by_their_full_names() -> None:
    before = "data: {batch_size: 3, mixture: {}, rates: [1]}\nout: a\nprecision: auto"
    now = "data: {batch_size: 4, mixture: {talk: 1}, rates: [1]}\nout: b\nprecision: 32-true"
    assert changed_settings(before, now) == [
        "data.batch_size=4 (3 before)",
        "data.mixture=None ({} before)",
        "data.mixture.talk=1 (None before)",
    ]


def test_only_the_config_of_a_run_is_compared_and_few_settings_are_named(tmp_path: Path) -> None:
    run, settings = tmp_path / "run", "\n".join(f"s{i}: 1" for i in range(30))
    for name in ("checkpoints", "elsewhere"):
        (run / name).mkdir(parents=True)
        (run / name / "x.ckpt").write_bytes(b"PK\x05\x06" + bytes(18))  # an empty zip file
    (run / "config.yaml").write_text("a: 1")
    RunFolder(tmp_path, str(run / "elsewhere" / "x.ckpt"), False).tell_changes(settings)
    folder = RunFolder(tmp_path, str(run / "checkpoints" / "x.ckpt"), False)
    with pytest.warns(UserWarning, match=r"a=None \(1 before\), s0=1 .* and 19 more$"):
        folder.tell_changes(settings)


def test_a_config_of_a_run_is_read_without_the_run(tmp_path: Path) -> None:
    """As `compare-backbones` does: it trains nothing into the folder that the file names."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "more.yaml").write_text(f"out: {tmp_path}\nckpt_path: last\nseed_everything: 3")
    module, data = configured([CONFIGS / "base.yaml", tmp_path / "more.yaml"], "test")
    assert module.seed == data.seed == 3
